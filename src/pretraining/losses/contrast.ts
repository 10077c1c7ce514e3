import * as tf from '@tensorflow/tfjs';

/** What a loss gives. */
export interface Loss {
  /** [n]: the unweighted loss of each pair. */
  readonly perSample: tf.Tensor1D;
  /** Scalar: mean over the batch of weight times loss (Eq. 14, with weights of mean 1). */
  readonly loss: tf.Scalar;
  /** Scalar in [0, 1]: share of queries whose positive key is the most similar one. */
  readonly accuracy: tf.Scalar;
}

/**
 * Cross-entropy of the positive among `logits` [n, m]; `positive` [n, m] is one-hot.
 * A positive that ties with the largest negative counts as nearest.
 */
export function crossEntropy(logits: tf.Tensor, positive: tf.Tensor): { perSample: tf.Tensor1D; nearest: tf.Tensor1D } {
  const perSample = tf.neg(tf.sum(tf.mul(tf.logSoftmax(logits), positive), -1)) as tf.Tensor1D;
  const own = tf.sum(tf.mul(logits, positive), -1);
  return { perSample, nearest: tf.cast(tf.greaterEqual(own, tf.max(logits, -1)), 'float32') as tf.Tensor1D };
}
