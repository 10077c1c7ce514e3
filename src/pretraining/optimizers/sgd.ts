import * as tf from '@tensorflow/tfjs';
import type { Updated } from './optimizer.ts';

/**
 * torch.optim.SGD: d = g + wd·p; buf = μ·buf + d; p -= lr·buf. Weight decay on every parameter, biases and batch norm
 * included, as MoCo v2 does.
 */
export function sgd(parameter: tf.Tensor, gradient: tf.Tensor, buffer: tf.Tensor, learningRate: tf.Tensor, options: { momentum: number; weightDecay: number }): Updated {
  const direction = options.weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(parameter, options.weightDecay));
  const next = tf.add(tf.mul(buffer, options.momentum), direction);
  return { parameter: tf.sub(parameter, tf.mul(next, learningRate)), buffer: next };
}
