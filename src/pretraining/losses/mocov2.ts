import * as tf from '@tensorflow/tfjs';
import { crossEntropy, type Loss } from './contrast.ts';

export interface MocoV2LossInputs {
  /** [n, d], L2-normalised. */
  readonly queries: tf.Tensor;
  /** [n, d], L2-normalised: the key of each query. */
  readonly keys: tf.Tensor;
  /** [K, d], L2-normalised: keys of earlier batches. */
  readonly queue: tf.Tensor;
  /** [n]: quality weights, mean 1. */
  readonly weights: tf.Tensor;
  readonly temperature: number;
}

/**
 * InfoNCE of MoCo v2: logits [⟨q,k⟩, ⟨q,queue⟩]/τ with the own key as target, mean over the batch of w·CE.
 * Sources: He et al. 2020, Eq. 1; moco/builder.py; GenView Eq. 2 and 14.
 */
export function mocov2Loss({ queries, keys, queue, weights, temperature }: MocoV2LossInputs): Loss {
  const [n] = queries.shape as [number], [size] = queue.shape as [number];
  const own = tf.sum(tf.mul(queries, keys), -1, true);
  const logits = tf.div(tf.concat([own, tf.matMul(queries as tf.Tensor2D, queue as tf.Tensor2D, false, true)], 1), temperature);
  const positive = tf.oneHot(tf.zeros([n], 'int32') as tf.Tensor1D, size + 1);
  const { perSample, nearest } = crossEntropy(logits, positive);
  return { perSample, loss: tf.mean(tf.mul(perSample, weights)), accuracy: tf.mean(nearest) };
}
