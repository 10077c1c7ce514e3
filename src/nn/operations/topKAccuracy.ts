import * as tf from '@tensorflow/tfjs';

/**
 * 1 for each sample whose label is among the k largest logits, else 0. Equal logits rank by class number as in tf.topk, so that a
 * constant prediction is right as often as guessing, not always; a sample with NaN for its label is wrong.
 *
 * @param logits [n, classes]
 * @param labels [n] int32
 * @returns [n] float32
 */
export function topKAccuracy(logits: tf.Tensor2D, labels: tf.Tensor1D, k: number): tf.Tensor1D {
  const [, classes] = logits.shape, label = tf.expandDims(labels, 1);
  const numbers = tf.range(0, classes, 1, 'int32'), own = tf.equal(label, numbers);
  const score = tf.sum(tf.where(own, logits, tf.zerosLike(logits)), 1, true);
  const ahead = tf.logicalOr(tf.greater(logits, score), tf.logicalAnd(tf.equal(logits, score), tf.less(numbers, label)));
  const rank = tf.sum(tf.cast(ahead, 'float32'), 1);
  return tf.cast(tf.logicalAnd(tf.less(rank, k), tf.equal(tf.squeeze(score, [1]), tf.squeeze(score, [1]))), 'float32');
}
