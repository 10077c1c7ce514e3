import type * as tf from '@tensorflow/tfjs';
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

export const normalization = { FusedBatchNorm: fusedBatchNorm, Standardize: standardize };
