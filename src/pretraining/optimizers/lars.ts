import * as tf from '@tensorflow/tfjs';
import type { Updated } from './optimizer.ts';

export interface LarsOptions {
  readonly momentum: number;
  readonly weightDecay: number;
  /** η, 0.001 in both code bases. */
  readonly trust: number;
  readonly form: 'mmpretrain' | 'moco-v3';
}

/**
 * Whether the mmpretrain form leaves a parameter without weight decay and trust ratio: names with `bn`, `bias` or
 * `downsample.1`, and every vector (in mmpretrain the heads' batch norms are called `bn…`; elsewhere only their rank tells).
 */
export function larsExcludes(name: string, shape: readonly number[]): boolean {
  return shape.length <= 1 || name.includes('bn') || name.includes('bias') || name.includes('downsample.1');
}

/**
 * Layer-wise adaptive rate scaling (You et al. 2017) in the two forms in use:
 * - mmpretrain: ℓ = η|p|/(|g| + wd|p| + 1e-8), 1 where a norm is 0; d = (g + wd·p)·ℓ·lr; buf = μ·buf + d; p -= buf.
 *   The learning rate is inside the buffer. {@link larsExcludes} decides who gets plain momentum.
 * - moco-v3 (`moco/optimizer.py`): only matrices and convolutions: d = g + wd·p, d *= η|p|/|d| (1 where a norm is 0);
 *   vectors: d = g; then buf = μ·buf + d; p -= lr·buf.
 */
export function lars(name: string, parameter: tf.Tensor, gradient: tf.Tensor, buffer: tf.Tensor, learningRate: tf.Tensor, options: LarsOptions): Updated {
  const { momentum, weightDecay, trust, form } = options;
  const plain = form === 'mmpretrain' ? larsExcludes(name, parameter.shape) : parameter.rank <= 1;
  const decayed = plain || weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(parameter, weightDecay));
  const scaled = plain ? decayed : tf.mul(decayed, trustRatio(parameter, form === 'mmpretrain' ? gradient : decayed, options));
  if (form === 'mmpretrain') {
    const next = tf.add(tf.mul(buffer, momentum), tf.mul(scaled, learningRate));
    return { parameter: tf.sub(parameter, next), buffer: next };
  }
  const next = tf.add(tf.mul(buffer, momentum), scaled);
  return { parameter: tf.sub(parameter, tf.mul(next, learningRate)), buffer: next };

  function trustRatio(p: tf.Tensor, g: tf.Tensor, { form: shape }: LarsOptions): tf.Tensor {
    const pNorm = tf.sqrt(tf.sum(tf.square(p))), gNorm = tf.sqrt(tf.sum(tf.square(g)));
    const usable = tf.logicalAnd(tf.greater(pNorm, 0), tf.greater(gNorm, 0));
    const divisor = shape === 'mmpretrain' ? tf.add(tf.add(gNorm, tf.mul(pNorm, weightDecay)), 1e-8) : tf.maximum(gNorm, 1e-30);
    return tf.where(usable, tf.div(tf.mul(pNorm, trust), divisor), tf.onesLike(pNorm));
  }
}
