import * as tf from '@tensorflow/tfjs';
import type { ElementType, Graph, Value } from '../graph.ts';
import { logicalShape, type Recorded } from '../layout.ts';
import type { Kernel } from './kernel.ts';

/** Drops logical axes whose size is 1 from a recorded tensor. */
export function dropAxes(g: Graph, x: Recorded, axes: readonly number[]): Recorded {
  const dropped = new Set(axes.map((axis) => x.perm[axis]!));
  const kept = x.perm.filter((_, i) => !axes.includes(i));
  const order = [...kept].sort((a, b) => a - b);
  return { value: g.reshape(x.value, x.value.shape.filter((_, p) => !dropped.has(p))), perm: kept.map((p) => order.indexOf(p)) };
}

function reduce(g: Graph, x: Recorded, axis: number | number[] | undefined, keepDims: boolean, body: (value: Value, axes: number[]) => Value): Recorded {
  const axes = tf.util.parseAxisParam(axis as number[], logicalShape(x));
  const value = body(x.value, axes.map((a) => x.perm[a]!));
  const kept = { value, perm: x.perm };
  return keepDims ? kept : dropAxes(g, kept, axes);
}

/** `as`: the type to reduce in, and back; a mean of whole numbers stays a float. */
const reduction = (op: string, as?: ElementType): Kernel<'x', { axis: number | number[]; keepDims: boolean }> => (g, { x }, { axis, keepDims }) =>
  reduce(g, x, axis, keepDims, (value, axes) => {
    const type = value.type;
    const computed = g.reduce(op, as === undefined ? value : g.cast(value, as), axes);
    return as === undefined || op === 'ReduceMean' ? computed : g.cast(computed, type);
  });

const extremePlace = (op: 'ArgMax' | 'ArgMin'): Kernel<'x', tf.ArgMaxAttrs> => (g, { x }, { axis }) =>
  reduce(g, x, axis, false, (value, axes) => {
    if (axes.length !== 1) throw new RangeError(`${op} works along one axis`);
    const numbers = value.type === 'bool' ? g.cast(value, 'int32') : value;
    const shape = value.shape.map((n, i) => (i === axes[0] ? 1 : n));
    return g.cast(g.node(op, [numbers], { axis: axes[0]!, keepdims: 1, select_last_index: 0 }, shape, 'int64'), 'int32');
  });

const cumsum: Kernel<'x', tf.CumsumAttrs> = (g, { x }, { axis, exclusive, reverse }) => {
  const physical = x.perm[tf.util.parseAxisParam(axis, logicalShape(x))[0]!]!;
  const value = g.node('CumSum', [x.value, g.scalar(physical, 'int64')], { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 }, x.value.shape);
  return { value, perm: x.perm };
};

/** Running products by doubling: after step k every element is the product of the 2^k elements before it and itself (ONNX has no CumProd). */
const cumprod: Kernel<'x', tf.CumprodAttrs> = (g, { x }, { axis, exclusive, reverse }) => {
  const physical = x.perm[tf.util.parseAxisParam(axis, logicalShape(x))[0]!]!, { shape } = x.value, size = shape[physical]!;
  const at = (n: number): number[] => shape.map((_, i) => (i === physical ? n : 0));
  /** The elements `by` places further along, ones coming in. */
  const shifted = (value: Value, by: number): Value => {
    const kept = shape.map((n, i) => (i === physical ? n - by : n));
    return reverse ? g.pad(g.slice(value, at(by), kept), at(0), at(by), 1) : g.pad(g.slice(value, at(0), kept), at(by), at(0), 1);
  };
  let value = exclusive && size > 0 ? shifted(x.value, 1) : x.value;
  for (let step = 1; step < size; step *= 2) value = g.elementwise('Mul', [value, shifted(value, step)]);
  return { value, perm: x.perm };
};

const softmax = (op: 'Softmax' | 'LogSoftmax', axisName: 'dim' | 'axis'): Kernel<'logits', { dim?: number; axis?: number }> => (g, { logits }, attributes) => {
  const axis = tf.util.parseAxisParam(attributes[axisName] ?? -1, logicalShape(logits))[0]!;
  return { value: g.node(op, [logits.value], { axis: logits.perm[axis]! }, logits.value.shape), perm: logits.perm };
};

export const reductions = {
  Sum: reduction('ReduceSum'),
  Mean: reduction('ReduceMean', 'float32'),
  Prod: reduction('ReduceProd'),
  Max: ((g, { x }, { reductionIndices, keepDims }) =>
    reduction('ReduceMax')(g, { x }, { axis: reductionIndices, keepDims })) satisfies Kernel<'x', tf.MaxAttrs>,
  Min: reduction('ReduceMin'),
  All: reduction('ReduceMin', 'int32'),
  // Negated, because of no values none is true, but the maximum of no whole numbers is not 0.
  Any: ((g, { x }, { axis, keepDims }) => reduce(g, x, axis, keepDims, (value, axes) =>
    g.elementwise('Not', [g.cast(g.reduce('ReduceMin', g.cast(g.elementwise('Not', [value], 'bool'), 'int32'), axes), 'bool')], 'bool'))) satisfies Kernel<'x', { axis: number | number[]; keepDims: boolean }>,
  ArgMax: extremePlace('ArgMax'),
  ArgMin: extremePlace('ArgMin'),
  Cumsum: cumsum,
  Cumprod: cumprod,
  Softmax: softmax('Softmax', 'dim'),
  LogSoftmax: softmax('LogSoftmax', 'axis'),
};
