import * as tf from '@tensorflow/tfjs';
import { l2Normalize } from '../../nn/layers.ts';
import { crossEntropy, weighted, type Loss } from './contrast.ts';

export interface SimclrLossInputs {
  /** [n, d]: projections of the first and the second view; normalised here. */
  readonly projections: readonly [tf.Tensor, tf.Tensor];
  /** [N, d]: the same of the whole (global) batch; normalised here. @default the projections */
  readonly all?: readonly [tf.Tensor, tf.Tensor];
  /** [n] int32: row of `all` that is each sample's own. @default 0, 1, … */
  readonly labels?: tf.Tensor;
  /** [n]: quality weights, mean 1. */
  readonly weights: tf.Tensor;
  readonly temperature: number;
}

/** Far below every logit, and no infinity, which would give NaN times 0. */
const never = -1e9;

/**
 * NT-Xent of SimCLR: every view looks for its other half among the 2N - 1 other views of the batch. `perSample` is the mean of
 * both views' cross-entropies, so that its mean is the mean over all 2n views.
 * Sources: Chen et al. 2020, Eq. 1; mmpretrain `simclr.py`.
 */
export function simclrLoss({ projections, all = projections, labels, weights, temperature }: SimclrLossInputs): Loss {
  const [n] = projections[0].shape as [number], [total] = all[0].shape as [number];
  const own = tf.equal(tf.expandDims(labels ?? tf.range(0, n, 1, 'int32'), 1), tf.range(0, total, 1, 'int32'));
  const self = tf.mul(tf.cast(own, 'float32'), never), positive = tf.concat([tf.cast(own, 'float32'), tf.zeros([n, total])], 1);
  const views = projections.map((z) => l2Normalize(z)), keys = all === projections ? views : all.map((z) => l2Normalize(z));
  const direction = (view: 0 | 1) => {
    const similarity = (to: tf.Tensor): tf.Tensor => tf.div(tf.matMul(views[view]!, to, false, true), temperature);
    return crossEntropy(tf.concat([similarity(keys[1 - view]!), tf.add(similarity(keys[view]!), self)], 1), positive);
  };
  const first = direction(0), second = direction(1);
  const perSample = tf.mul(tf.add(first.perSample, second.perSample), 0.5) as tf.Tensor1D;
  return { perSample, loss: weighted(perSample, weights), accuracy: tf.mul(tf.add(tf.mean(first.nearest), tf.mean(second.nearest)), 0.5) };
}
