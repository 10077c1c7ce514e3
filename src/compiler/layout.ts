import { broadcastShapes, sameShape, type Graph, type Value } from './graph.ts';

/**
 * A recorded tensor: logical axis i (as the tf.js program sees it) is physical axis `perm[i]` of the value. A transpose
 * only changes `perm`; data moves when an operator cannot work on the layout it finds.
 */
export interface Recorded {
  readonly value: Value;
  readonly perm: readonly number[];
}

export const identity = (rank: number): number[] => Array.from({ length: rank }, (_, i) => i);

export function inverse(perm: readonly number[]): number[] {
  const result = Array<number>(perm.length);
  perm.forEach((p, i) => { result[p] = i; });
  return result;
}

export const isIdentity = (perm: readonly number[]): boolean => perm.every((p, i) => p === i);

/** A value whose physical and logical axes are the same. */
export const plain = (value: Value): Recorded => ({ value, perm: identity(value.shape.length) });

export const logicalShape = (x: Recorded): number[] => x.perm.map((p) => x.value.shape[p]!);

/** The physical shape of a logical one. */
const physicalShape = (shape: readonly number[], perm: readonly number[]): number[] => inverse(perm).map((i) => shape[i]!);

/** The tensor in the layout `perm`; a longer `perm` first gives the tensor leading axes of size 1. */
export function arrange(g: Graph, x: Recorded, perm: readonly number[]): Value {
  const offset = perm.length - x.perm.length;
  const logical = inverse(perm);
  const order = logical.filter((i) => i >= offset).map((i) => x.perm[i - offset]!);
  const shape = logical.map((i) => (i < offset ? 1 : x.value.shape[x.perm[i - offset]!]!));
  return g.reshape(g.transpose(x.value, order), shape);
}

/** The tensor with its axes stored in logical order. */
export const materialize = (g: Graph, x: Recorded): Value => arrange(g, x, identity(x.perm.length));

/** The tensor before its last expansion: element-wise operators work on the small one and expand the result. */
const stripped = (x: Recorded): Recorded => (x.value.node?.op === 'Expand' ? { value: x.value.node.inputs[0]!, perm: x.perm } : x);

const isScalar = (x: Recorded): boolean => x.value.shape.every((n) => n === 1);

const withoutLeadingOnes = (shape: readonly number[]): readonly number[] => {
  const first = shape.findIndex((n) => n !== 1);
  return first < 0 ? [] : shape.slice(first);
};

/** The layout an element-wise operator should work in: that of its largest operand; on a tie, the first that is not plain. */
export function commonLayout(operands: readonly Recorded[]): readonly number[] {
  const rank = Math.max(...operands.map((x) => x.perm.length));
  const size = (x: Recorded): number => x.value.shape.reduce((a, b) => a * b, 1);
  let best: Recorded | undefined;
  for (const x of operands) {
    if (x.perm.length !== rank) continue;
    if (!best || size(x) > size(best) || (size(x) === size(best) && isIdentity(best.perm) && !isIdentity(x.perm))) best = x;
  }
  return best!.perm;
}

/**
 * Operands of an element-wise operator, brought to one layout with as little moving of data as possible. `finish`
 * turns the operator's result into the recorded tensor of the full broadcast shape.
 */
export function align(g: Graph, operands: readonly Recorded[]): { values: Value[]; finish: (value: Value) => Recorded } {
  const shape = broadcastShapes(operands.map(logicalShape));
  const small = operands.map(stripped);
  const perm = commonLayout(small);
  const values = small.map((x) => {
    if (isScalar(x)) return x.value.data ? g.reshape(x.value, []) : x.value;
    const value = arrange(g, x, perm);
    // Leading axes of size 1 need no Reshape: broadcasting supplies them.
    const before = value.node?.op === 'Reshape' ? value.node.inputs[0]! : value;
    return before.shape.length <= perm.length && sameShape(withoutLeadingOnes(before.shape), withoutLeadingOnes(value.shape)) ? before : value;
  });
  const full = physicalShape(shape, perm);
  return { values, finish: (value) => ({ value: g.expand(value, full), perm }) };
}
