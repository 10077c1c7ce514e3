import * as tf from '@tensorflow/tfjs';
import { l2Normalize } from '../../nn/layers.ts';
import { stopGradient } from '../../nn/operations/stopGradient.ts';
import { isNearest, weighted, type Loss } from './contrast.ts';

/** What SimSiam and BYOL compare: each view's prediction with the other view's target. */
export interface RegressionLossInputs {
  /** [n, d]: predictions from the first and the second view; normalised here. */
  readonly predictions: readonly [tf.Tensor, tf.Tensor];
  /** [n, d]: what they should point at, from the first and the second view; normalised here, constants for the gradient. */
  readonly targets: readonly [tf.Tensor, tf.Tensor];
  /** [n]: quality weights, mean 1. */
  readonly weights: tf.Tensor;
}

/**
 * -scale [cos(p1, z2) + cos(p2, z1)] of each sample, no negatives. `accuracy` is the share of predictions that are nearer to their own
 * target than to any other of the batch.
 */
export function regressionLoss({ predictions, targets, weights }: RegressionLossInputs, scale: number): Loss {
  const [n] = predictions[0].shape as [number], positive = tf.eye(n);
  const direction = (prediction: tf.Tensor, target: tf.Tensor) => {
    const p = l2Normalize(prediction), z = l2Normalize(stopGradient(target));
    return { cosine: tf.sum(tf.mul(p, z), -1), nearest: isNearest(tf.matMul(stopGradient(p), z, false, true), positive) };
  };
  const first = direction(predictions[0], targets[1]), second = direction(predictions[1], targets[0]);
  const perSample = tf.mul(tf.add(first.cosine, second.cosine), -scale) as tf.Tensor1D;
  return { perSample, loss: weighted(perSample, weights), accuracy: tf.mul(tf.add(tf.mean(first.nearest), tf.mean(second.nearest)), 0.5) };
}
