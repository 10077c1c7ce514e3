import * as tf from '@tensorflow/tfjs';
import { describe, it } from 'vitest';
import { simclrLoss } from '../../../src/pretraining/losses/simclr.ts';
import { close, everyWay, parts } from './everyWay.ts';

describe('SimCLR (spec §12.6)', () => {
  const projections = (x: Record<string, tf.Tensor>) => [x['p1']!, x['p2']!] as const;

  it('matches the golden values', async () => {
    for (const { perSample, loss } of await everyWay((x) => parts(simclrLoss({ projections: projections(x), weights: x['ones']!, temperature: 0.5 })))) {
      // First view of both samples, then the second.
      close(perSample!.data, [(0.104264952 + 0.303102664) / 2, (0.165237316 + 0.128951644) / 2]);
      close(loss!.data, [0.175389144]);
    }
  });

  it('of part of a batch gives that part of the whole', async () => {
    for (const { whole, part } of await everyWay((x) => {
      const all = projections(x), row = (t: tf.Tensor): tf.Tensor => tf.slice(t, [1, 0], [1, -1]);
      return {
        whole: simclrLoss({ projections: all, weights: x['ones']!, temperature: 0.5 }).perSample,
        part: simclrLoss({ projections: [row(all[0]), row(all[1])], all, labels: tf.tensor1d([1], 'int32'), weights: tf.ones([1]), temperature: 0.5 }).perSample,
      };
    })) close(part!.data, [whole!.data[1]!]);
  });
});
