import * as tf from '@tensorflow/tfjs';
import { crossEntropy as softmaxCrossEntropy } from '../../nn/operations/crossEntropy.ts';

/** What a loss gives. */
export interface Loss {
  /** [n]: the unweighted loss of each pair. */
  readonly perSample: tf.Tensor1D;
  /** Scalar: mean over the batch of weight times loss (Eq. 14, with weights of mean 1). */
  readonly loss: tf.Scalar;
  /** Scalar in [0, 1]: share of queries whose positive key is the most similar one. */
  readonly accuracy: tf.Scalar;
}

/** Mean over the batch of weight times loss. */
export const weighted = (perSample: tf.Tensor1D, weights: tf.Tensor): tf.Scalar => tf.mean(tf.mul(perSample, weights));

/** [n]: 1 where the largest of `logits` [n, m] is the one that `positive` [n, m] (one-hot) marks, ties included. */
export function isNearest(logits: tf.Tensor, positive: tf.Tensor): tf.Tensor1D {
  const own = tf.sum(tf.mul(logits, positive), -1);
  return tf.cast(tf.greaterEqual(own, tf.max(logits, -1)), 'float32');
}

/**
 * Cross-entropy of the positive among `logits` [n, m]; `positive` [n, m] is one-hot.
 * A positive that ties with the largest negative counts as nearest.
 */
export function crossEntropy(logits: tf.Tensor, positive: tf.Tensor): { perSample: tf.Tensor1D; nearest: tf.Tensor1D } {
  return { perSample: softmaxCrossEntropy(logits, positive) as tf.Tensor1D, nearest: isNearest(logits, positive) };
}
