import type * as tf from '@tensorflow/tfjs';
import { broadcastShapes, type Graph, type Value } from '../graph.ts';
import { isIdentity, materialize, plain, type Recorded } from '../layout.ts';
import { listOf, type Kernel } from './kernel.ts';

/** A matrix operand: the stored value, and whether its two last axes are to be exchanged. */
function operand(g: Graph, x: Recorded, transpose: boolean): { value: Value; transposed: boolean } {
  const rank = x.perm.length;
  const swapped = x.perm.map((p) => (p === rank - 1 ? rank - 2 : p === rank - 2 ? rank - 1 : p));
  if (!isIdentity(x.perm) && isIdentity(swapped)) return { value: x.value, transposed: !transpose };
  return { value: materialize(g, x), transposed: transpose };
}

const swapLast = (rank: number): number[] => [...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2];

/**
 * Product of (batches of) matrices. Two plain matrices become Gemm, which takes transposed operands as they are;
 * for batches onnxruntime fuses the Transpose into the MatMul.
 */
const batchMatMul: Kernel<'a' | 'b', tf.BatchMatMulAttrs> = (g, inputs, { transposeA, transposeB }) => {
  const a = operand(g, inputs.a, transposeA), b = operand(g, inputs.b, transposeB);
  const rows = a.value.shape.at(a.transposed ? -1 : -2)!, columns = b.value.shape.at(b.transposed ? -2 : -1)!;
  const batch = broadcastShapes([a.value.shape.slice(0, -2), b.value.shape.slice(0, -2)]);
  if (batch.every((n) => n === 1)) {
    const matrix = (v: Value): Value => g.reshape(v, v.shape.slice(-2));
    const product = g.node('Gemm', [matrix(a.value), matrix(b.value)], { transA: a.transposed ? 1 : 0, transB: b.transposed ? 1 : 0 }, [rows, columns]);
    return plain(g.reshape(product, [...batch, rows, columns]));
  }
  const straight = ({ value, transposed }: { value: Value; transposed: boolean }): Value => (transposed ? g.transpose(value, swapLast(value.shape.length)) : value);
  return plain(g.node('MatMul', [straight(a), straight(b)], {}, [...batch, rows, columns]));
};

const einsum: Kernel<string, tf.EinsumAttrs> = (g, inputs, { equation }) => {
  const operands = listOf(inputs).map((x) => materialize(g, x));
  const [left, right] = equation.replaceAll(' ', '').split('->');
  if (right === undefined) throw new RangeError(`equation "${equation}" has no "->"`);
  const sizes = new Map<string, number>();
  left!.split(',').forEach((term, i) => Array.from(term).forEach((letter, axis) => sizes.set(letter, operands[i]!.shape[axis]!)));
  return plain(g.node('Einsum', operands, { equation: `${left}->${right}` }, Array.from(right, (letter) => sizes.get(letter)!)));
};

export const matmul = { BatchMatMul: batchMatMul, Einsum: einsum };
