import * as tf from '@tensorflow/tfjs';
import type { Updated } from './optimizer.ts';

export interface LarcOptions {
  readonly momentum: number;
  readonly weightDecay: number;
  /** η. @default 0.001 */
  readonly trust?: number;
}

/**
 * apex's LARC without clipping, as SwAV and SimSiam's linear probe use it: d = (g + wd·p)·η|p| / (|g| + wd|p| + 1e-8), left as g where a norm
 * is 0; then SGD, buf = μ·buf + d; p -= lr·buf. Every parameter alike, and the learning rate outside the buffer (unlike mmpretrain's LARS).
 * Source: NVIDIA/apex `apex/parallel/LARC.py`.
 */
export function larc(parameter: tf.Tensor, gradient: tf.Tensor, buffer: tf.Tensor, learningRate: tf.Tensor, { momentum, weightDecay, trust = 0.001 }: LarcOptions): Updated {
  const pNorm = tf.sqrt(tf.sum(tf.square(parameter))), gNorm = tf.sqrt(tf.sum(tf.square(gradient)));
  const usable = tf.logicalAnd(tf.greater(pNorm, 0), tf.greater(gNorm, 0));
  const ratio = tf.div(tf.mul(pNorm, trust), tf.add(tf.add(gNorm, tf.mul(pNorm, weightDecay)), 1e-8));
  const direction = tf.where(usable, tf.mul(tf.add(gradient, tf.mul(parameter, weightDecay)), ratio), gradient);
  const next = tf.add(tf.mul(buffer, momentum), direction);
  return { parameter: tf.sub(parameter, tf.mul(next, learningRate)), buffer: next };
}
