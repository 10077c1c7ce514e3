import * as tf from '@tensorflow/tfjs';
import { crossEntropy } from '../../nn/operations/crossEntropy.ts';
import { stopGradient } from '../../nn/operations/stopGradient.ts';
import { weighted, type Loss } from './contrast.ts';
import { sinkhorn, type SinkhornOptions } from './sinkhorn.ts';

export interface SwavLossInputs extends SinkhornOptions {
  /** [n, prototypes] of each crop: cosines of its features with the prototypes. The first two (the large crops) are assigned. */
  readonly scores: readonly tf.Tensor2D[];
  /** [m, prototypes]: scores of earlier batches for each of the two assigned crops, which fill the batch up for the assignment. @default none */
  readonly queues?: readonly [tf.Tensor2D, tf.Tensor2D];
  /** [n]: quality weights, mean 1; the same for every crop of a sample. */
  readonly weights: tf.Tensor;
  /** @default 0.1 */
  readonly temperature?: number;
}

/**
 * SwAV: each large crop is assigned to prototypes ({@link sinkhorn}, without gradient), and every other crop predicts that assignment:
 * mean over c of 1/(V - 1) Σ_{v ≠ c} CE(Q_c, softmax(scores_v / T)). `accuracy` is the share of predictions between the two large crops
 * whose most likely prototype is the assigned one.
 * Sources: Caron et al. 2020, Eq. 2 and Listing 1; facebookresearch/swav `main_swav.py`.
 */
export function swavLoss({ scores, queues, weights, temperature = 0.1, ...options }: SwavLossInputs): Loss {
  if (scores.length < 2) throw new RangeError(`SwAV compares crops of one image: give the scores of at least 2, not ${scores.length}`);
  const [n] = scores[0]!.shape;
  const assigned = ([0, 1] as const).map((crop) => {
    const own = stopGradient(scores[crop]!), filled = queues ? tf.concat([stopGradient(queues[crop]), own], 0) : own;
    return tf.slice(sinkhorn(filled, options), [filled.shape[0] - n, 0], [n, -1]);
  });
  const terms = assigned.flatMap((targets, crop) => scores.filter((_, view) => view !== crop).map((s) => crossEntropy(tf.div(s, temperature), targets)));
  const perSample = tf.div(tf.addN(terms), 2 * (scores.length - 1)) as tf.Tensor1D;
  const agree = (view: number): tf.Tensor => tf.mean(tf.cast(tf.equal(tf.argMax(scores[view]!, 1), tf.argMax(assigned[1 - view]!, 1)), 'float32'));
  return { perSample, loss: weighted(perSample, weights), accuracy: tf.mul(tf.add(agree(0), agree(1)), 0.5) };
}
