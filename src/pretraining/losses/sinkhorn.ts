import * as tf from '@tensorflow/tfjs';

export interface SinkhornOptions {
  /** Smoothness ε of the assignment. @default 0.05 */
  readonly epsilon?: number;
  /** @default 3 */
  readonly iterations?: number;
}

/**
 * Assigns samples to prototypes so that every prototype gets the same share of the batch (Sinkhorn-Knopp, Cuturi 2013; Caron et al.
 * 2020, Listing 1): Q = exp(scores / ε), then in turn the prototypes' and the samples' sums are made equal; in logarithms, where no
 * scores overflow or vanish. The constants of the original (1 / prototypes, 1 / n, n) cancel in the last step.
 * Scores of several processes must be put together first: the sums are those of the whole batch.
 *
 * @param scores [n, prototypes], cosines
 * @returns [n, prototypes], every row sums to 1
 */
export function sinkhorn(scores: tf.Tensor2D, { epsilon = 0.05, iterations = 3 }: SinkhornOptions = {}): tf.Tensor2D {
  let shares: tf.Tensor = tf.div(scores, epsilon);
  for (let i = 0; i < iterations; i++) {
    for (const axis of [0, 1]) shares = tf.sub(shares, tf.logSumExp(shares, axis, true));
  }
  return tf.exp(shares) as tf.Tensor2D;
}
