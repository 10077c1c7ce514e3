import * as tf from '@tensorflow/tfjs';

export interface AdamWOptions {
  /** @default 0.9 */
  readonly beta1?: number;
  /** @default 0.999 */
  readonly beta2?: number;
  /** @default 1e-8 */
  readonly epsilon?: number;
  readonly weightDecay: number;
}

/**
 * torch.optim.AdamW (Loshchilov & Hutter 2019): p *= 1 - lr·wd, then Adam with bias correction. `step` counts from 1.
 * `mean` and `square` are the running moments, zero at the start; all tensors have the parameter's shape, `step` and
 * `learningRate` are scalars.
 */
export function adamw(parameter: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor, square: tf.Tensor, step: tf.Tensor, learningRate: tf.Tensor, options: AdamWOptions): { parameter: tf.Tensor; mean: tf.Tensor; square: tf.Tensor } {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay } = options;
  const nextMean = tf.add(tf.mul(mean, beta1), tf.mul(gradient, 1 - beta1));
  const nextSquare = tf.add(tf.mul(square, beta2), tf.mul(tf.square(gradient), 1 - beta2));
  const correction1 = tf.sub(1, tf.pow(tf.scalar(beta1), step)), correction2 = tf.sub(1, tf.pow(tf.scalar(beta2), step));
  const denominator = tf.add(tf.div(tf.sqrt(nextSquare), tf.sqrt(correction2)), epsilon);
  const decayed = tf.mul(parameter, tf.sub(1, tf.mul(learningRate, weightDecay)));
  return { parameter: tf.sub(decayed, tf.mul(tf.div(nextMean, denominator), tf.div(learningRate, correction1))), mean: nextMean, square: nextSquare };
}
