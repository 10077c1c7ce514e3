import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { sinkhorn } from '../../../src/pretraining/losses/sinkhorn.ts';
import { swavLoss } from '../../../src/pretraining/losses/swav.ts';
import { close, everyWay, parts } from './everyWay.ts';

describe('SwAV (spec §12.6)', () => {
  it.each([
    [1, [0.979987362, 0.020011713, 0.000000925, 0.056730450, 0.467355020, 0.475914530]],
    [3, [0.923639804, 0.076356426, 0.000003770, 0.014160804, 0.472278057, 0.513561139]],
  ])('Sinkhorn matches the golden values after %d iterations', async (iterations, expected) => {
    for (const { q } of await everyWay((x) => ({ q: sinkhorn(x['scores'] as tf.Tensor2D, { iterations }) }))) close(q!.data, expected, 6);
  });

  it('Sinkhorn shares prototypes out evenly and does not overflow', async () => {
    for (const { q } of await everyWay((x) => ({ q: sinkhorn(tf.mul(x['scores']!, 50), { iterations: 50 }) }))) {
      for (const row of [0, 3]) expect(q!.data[row]! + q!.data[row + 1]! + q!.data[row + 2]!).toBeCloseTo(1, 4);
    }
    for (const { q } of await everyWay((x) => ({ q: sinkhorn(x['scores'] as tf.Tensor2D, { iterations: 100 }) }))) for (const k of [0, 1, 2]) expect(q!.data[k]! + q!.data[3 + k]!).toBeCloseTo(2 / 3, 4);
  });

  const crops = (x: Record<string, tf.Tensor>) => [x['scores'] as tf.Tensor2D, x['others'] as tf.Tensor2D];

  it('of two crops matches the golden values', async () => {
    for (const { perSample, loss } of await everyWay((x) => parts(swavLoss({ scores: crops(x), weights: x['ones']! })))) {
      close(perSample!.data, [(0.389429234 + 0.025669299) / 2, (1.230771533 + 4.054982150) / 2]);
      close(loss!.data, [1.425213054]);
    }
    for (const { loss } of await everyWay((x) => parts(swavLoss({ scores: crops(x), weights: x['weights']! })))) close(loss!.data, [(1.5 * (0.389429234 + 0.025669299) + 0.5 * (1.230771533 + 4.054982150)) / 4]);
  });

  it('a queue takes part in the assignment, and only the batch in the loss', async () => {
    for (const { filled, whole } of await everyWay((x) => {
      const [a, b] = crops(x) as [tf.Tensor2D, tf.Tensor2D], row = (t: tf.Tensor2D, i: number): tf.Tensor2D => tf.slice(t, [i, 0], [1, -1]);
      return {
        filled: swavLoss({ scores: [row(a, 1), row(b, 1)], queues: [row(a, 0), row(b, 0)], weights: tf.ones([1]) }).perSample,
        whole: swavLoss({ scores: [a, b], weights: x['ones']! }).perSample,
      };
    })) close(filled!.data, [whole!.data[1]!]);
  });

  it('small crops predict only', async () => {
    for (const { three, terms } of await everyWay((x) => {
      const [a, b] = crops(x) as [tf.Tensor2D, tf.Tensor2D], c = tf.reverse(a, 1);
      const pair = (first: tf.Tensor2D, second: tf.Tensor2D): tf.Tensor => swavLoss({ scores: [first, second], weights: x['ones']! }).perSample;
      const predicted = (assigned: tf.Tensor2D): tf.Tensor => tf.neg(tf.sum(tf.mul(sinkhorn(assigned), tf.logSoftmax(tf.div(c, 0.1))), 1));
      return {
        three: swavLoss({ scores: [a, b, c], weights: x['ones']! }).perSample,
        // Mean over the two assignments of the mean over the two crops that predict.
        terms: tf.div(tf.add(tf.mul(pair(a, b), 2), tf.add(predicted(a), predicted(b))), 4),
      };
    })) close(three!.data, [...terms!.data] as number[], 5);
  });
});
