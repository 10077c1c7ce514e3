import type * as tf from '@tensorflow/tfjs';
import type { OutputSpec, Value } from '../graph.ts';
import { arrange, materialize, plain, type Recorded } from '../layout.ts';
import { elementwise } from './elementwise.ts';
import { imagePerm } from './convolution.ts';
import type { Kernel } from './kernel.ts';

/**
 * Batch normalization with given statistics. With constant parameters a BatchNormalization node, which onnxruntime
 * folds into the convolution before it; else one multiplication and one addition by per-channel coefficients.
 */
const fusedBatchNorm = (
  g: Parameters<Kernel<'x'>>[0],
  { x, mean, variance, scale, offset }: { x: Recorded; mean: Recorded; variance: Recorded; scale?: Recorded; offset?: Recorded },
  { varianceEpsilon }: tf.FusedBatchNormAttrs,
): Recorded => {
  const channels = mean.value.shape[0]!;
  const parameters = [scale, offset, mean, variance].filter((p) => p !== undefined);
  if (x.perm.length === 4 && parameters.every((p) => p.perm.length === 1 && p.value.data !== undefined)) {
    const full = (p: Recorded | undefined, value: number): Recorded['value'] => p?.value ?? g.constant(new Float32Array(channels).fill(value), [channels], 'float32');
    const value = arrange(g, x, imagePerm);
    return {
      value: g.node('BatchNormalization', [value, full(scale, 1), full(offset, 0), mean.value, variance.value], { epsilon: { float: varianceEpsilon } }, value.shape),
      perm: imagePerm,
    };
  }
  const epsilon: Recorded = { value: g.scalar(varianceEpsilon), perm: [] };
  let factor = elementwise.Rsqrt(g, { x: elementwise.Add(g, { a: variance, b: epsilon }, {}) as Recorded }, {}) as Recorded;
  if (scale) factor = elementwise.Multiply(g, { a: factor, b: scale }, {}) as Recorded;
  const moved = elementwise.Multiply(g, { a: mean, b: factor }, {}) as Recorded;
  const shift = offset ? elementwise.Sub(g, { a: offset, b: moved }, {}) as Recorded : elementwise.Neg(g, { x: moved }, {}) as Recorded;
  return elementwise.Add(g, { a: elementwise.Multiply(g, { a: x, b: factor }, {}) as Recorded, b: shift }, {}) as Recorded;
};

/**
 * A kernel of our own: (x - mean) / sqrt(variance + epsilon) over the last axis, times `scale` plus `shift` where they are given,
 * and 1 / sqrt(variance + epsilon), as one LayerNormalization.
 */
const standardize = (g: Parameters<Kernel<'x'>>[0], { x, scale, shift }: { x: Recorded; scale?: Recorded; shift?: Recorded }, { epsilon }: { epsilon: number }): Recorded[] => {
  const value = materialize(g, x), { shape } = value, size = shape.at(-1)!;
  const statistics = { shape: [...shape.slice(0, -1), 1], type: value.type };
  const affine = scale && shift ? [scale.value, shift.value] : [g.expand(g.constant(Float32Array.of(1), [1], 'float32'), [size])];
  const [normal, , inverse] = g.nodes('LayerNormalization', [value, ...affine],
    { axis: -1, epsilon: { float: epsilon } }, [{ shape, type: value.type }, statistics, statistics]);
  return [plain(normal!), plain(inverse!)];
};

/**
 * A kernel of our own: scale (x - mean) / sqrt(variance + epsilon) + shift with statistics over all axes but the last, and those statistics.
 * On the CPU one BatchNormalization in training mode, whose running statistics are the batch's with momentum 0; in a standard model (and on
 * CUDA, where onnxruntime does not train it at this operator set) means and element-wise operators.
 */
const normalizeBatch: Kernel<'x' | 'scale' | 'shift', { epsilon: number }> = (g, { x, scale, shift }, { epsilon }) => {
  const rank = x.perm.length, perm = [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
  const value = arrange(g, x, perm), channels = [value.shape[1]!], type = value.type;
  const factor = materialize(g, scale), offset = materialize(g, shift), small = g.scalar(epsilon);

  const axes = value.shape.map((_, axis) => axis).filter((axis) => axis !== 1), spread = (v: Value): Value => g.reshape(v, value.shape.map((n, axis) => (axis === 1 ? n : 1)));
  const centre = g.reduce('ReduceMean', value, axes), difference = g.elementwise('Sub', [value, centre]);
  const square = g.reduce('ReduceMean', g.elementwise('Mul', [difference, difference]), axes);
  const slope = g.elementwise('Div', [spread(factor), g.elementwise('Sqrt', [g.elementwise('Add', [square, small])])]);
  const composed = g.elementwise('Add', [g.elementwise('Mul', [difference, slope]), spread(offset)]);
  // What the standard computation needs and no other does.
  if (!difference.node) return [{ value: composed, perm }, plain(g.reshape(centre, channels)), plain(g.reshape(square, channels))];
  const standard = (v: Value): { value: Value; shared: Value } => ({ value: v, shared: difference });

  // onnxruntime writes the statistics over the running ones it is given: each node gets two vectors of its own. Their values count for nothing.
  const first = g.reshape(g.slice(value, value.shape.map(() => 0), value.shape.map((n, i) => (i === 1 ? n : 1))), channels);
  const own = g.elementwise('Add', [g.elementwise('Mul', [first, factor]), offset]);
  const running = ['Add', 'Sub'].map((op) => g.elementwise(op, [own, small]));
  const statistics = (v: Value): OutputSpec => ({ shape: channels, type, standard: standard(g.reshape(v, channels)) });
  const [normal, mean, variance] = g.nodes('BatchNormalization', [value, factor, offset, ...running],
    { epsilon: { float: epsilon }, momentum: { float: 0 }, training_mode: 1 }, [{ shape: value.shape, type, standard: standard(composed) }, statistics(centre), statistics(square)]);
  return [{ value: normal!, perm }, plain(mean!), plain(variance!)];
};

export const normalization = { NormalizeBatch: normalizeBatch, FusedBatchNorm: fusedBatchNorm, Standardize: standardize };
