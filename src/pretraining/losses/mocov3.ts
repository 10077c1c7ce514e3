import * as tf from '@tensorflow/tfjs';
import { l2Normalize } from '../../nn/layers.ts';
import { crossEntropy, type Loss } from './contrast.ts';

export interface MocoV3LossInputs {
  /** [n, d]: predictions from the first and the second view; normalised here. */
  readonly predictions: readonly [tf.Tensor, tf.Tensor];
  /** [N, d]: momentum keys of the first and the second view of the whole (global) batch; normalised here. */
  readonly keys: readonly [tf.Tensor, tf.Tensor];
  /** [n] int32: row of `keys` that belongs to each prediction. */
  readonly labels: tf.Tensor;
  /** [n]: quality weights, mean 1. */
  readonly weights: tf.Tensor;
  readonly temperature: number;
}

/**
 * Symmetric contrast of MoCo v3: 2τ·[mean w·CE(p1 → k2) + mean w·CE(p2 → k1)] over all keys of the global batch, the
 * same weight in both directions. `perSample` is the sum of both directions' 2τ·CE.
 * Sources: Chen et al. 2021, Algorithm 1; moco-v3 `moco/builder.py`; GenView `mocov3_head.py`.
 */
export function mocov3Loss({ predictions, keys, labels, weights, temperature }: MocoV3LossInputs): Loss {
  const positive = tf.oneHot(labels as tf.Tensor1D, keys[0].shape[0]!);
  const direction = (prediction: tf.Tensor, key: tf.Tensor) =>
    crossEntropy(tf.div(tf.matMul(l2Normalize(prediction), l2Normalize(key), false, true), temperature), positive);
  const first = direction(predictions[0], keys[1]), second = direction(predictions[1], keys[0]);
  const perSample = tf.mul(tf.add(first.perSample, second.perSample), 2 * temperature) as tf.Tensor1D;
  const accuracy = tf.mul(tf.add(tf.mean(first.nearest), tf.mean(second.nearest)), 0.5) as tf.Scalar;
  return { perSample, loss: tf.mean(tf.mul(perSample, weights)), accuracy };
}
