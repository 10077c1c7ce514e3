import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { byolLoss } from '../../../src/pretraining/losses/byol.ts';
import { simsiamLoss } from '../../../src/pretraining/losses/simsiam.ts';
import { close, everyWay, parts } from './everyWay.ts';

const predictions = (x: Record<string, tf.Tensor>) => ({ predictions: [x['p1']!, x['p2']!] as const, targets: [x['k1']!, x['k2']!] as const });

describe('losses without negatives (spec §12.6)', () => {
  it('SimSiam matches the golden values', async () => {
    for (const { perSample, loss } of await everyWay((x) => parts(simsiamLoss({ ...predictions(x), weights: x['ones']! })))) {
      close(perSample!.data, [(-0.894427191 - 0.948683298) / 2, (-0.8 - 0.894427191) / 2]);
      close(loss!.data, [-0.884384420]);
    }
    for (const { loss } of await everyWay((x) => parts(simsiamLoss({ ...predictions(x), weights: x['weights']! })))) close(loss!.data, [-0.902969832]);
  });

  it('BYOL matches the golden values in both forms', async () => {
    for (const { loss } of await everyWay((x) => parts(byolLoss({ ...predictions(x), weights: x['ones']! })))) {
      close(loss!.data, [-3.537537680]);
      // The form of the paper, 2 - 2 cos summed over both directions.
      expect(4 + loss!.data[0]!).toBeCloseTo(0.462462320, 6);
    }
  });

  it('targets get no gradient, and each sample that of its weight (spec §13.3)', async () => {
    for (const { k2, plain, weighted } of await everyWay((x) => {
      const loss = (weights: tf.Tensor) => (p: tf.Tensor, z: tf.Tensor): tf.Scalar => byolLoss({ predictions: [p, x['p2']!], targets: [x['k1']!, z], weights }).loss;
      const plain = tf.grad((p: tf.Tensor) => loss(x['ones']!)(p, x['k2']!))(x['p1']!), [weighted, k2] = tf.grads((p: tf.Tensor, z: tf.Tensor) => tf.add(loss(x['weights']!)(p, z), tf.sum(z)))([x['p1']!, x['k2']!]);
      return { plain, weighted: weighted!, k2: k2! };
    })) {
      close(k2!.data, [1, 1, 1, 1]);
      close(weighted!.data, [1.5 * plain!.data[0]!, 1.5 * plain!.data[1]!, 0.5 * plain!.data[2]!, 0.5 * plain!.data[3]!]);
      expect(Math.abs(plain!.data[0]!)).toBeGreaterThan(0.01);
    }
  });

  it('counts predictions that are nearest to their own target', async () => {
    // All four are.
    for (const { accuracy } of await everyWay((x) => parts(simsiamLoss({ ...predictions(x), weights: x['ones']! })))) close(accuracy!.data, [1]);
    for (const { accuracy } of await everyWay((x) => parts(simsiamLoss({ predictions: [x['p1']!, x['p2']!], targets: [tf.reverse(x['k1']!, 0), x['k2']!], weights: x['ones']! })))) close(accuracy!.data, [0.5]);
  });
});
