import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { l2Normalize } from '../../../src/nn/layers.ts';
import { mocov2Loss } from '../../../src/pretraining/losses/mocov2.ts';

const queries = () => l2Normalize(tf.tensor2d([[1, 2], [2, -1]]));
const loss = (weights: number[], q: tf.Tensor = queries()) => mocov2Loss({
  queries: q, keys: l2Normalize(tf.tensor2d([[1, 1], [1, 0]])), queue: tf.tensor2d([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]]),
  weights: tf.tensor1d(weights), temperature: 0.2,
});

describe('MoCo v2 loss (spec §12.6)', () => {
  it('matches the golden values', () => {
    const perSample = loss([1, 1]).perSample.dataSync();
    expect(perSample[0]).toBeCloseTo(1.110928010, 6);
    expect(perSample[1]).toBeCloseTo(0.707686460, 6);
    expect(loss([1, 1]).loss.dataSync()[0]).toBeCloseTo(0.909307235, 6);
    expect(loss([1.5, 0.5]).loss.dataSync()[0]).toBeCloseTo(1.010117622, 6);
  });

  it('counts queries whose own key is the nearest, ties included', () => {
    // The first query lies nearer to (0.6, 0.8) than to its key; the second's key equals the queue entry (1, 0).
    expect(loss([1, 1]).accuracy.dataSync()[0]).toBe(0.5);
  });

  it('scales the gradient of each sample with its weight (spec §13.3)', () => {
    const gradient = (weights: number[]) => tf.grad((q) => loss(weights, q).loss)(queries()).arraySync() as number[][];
    const plain = gradient([1, 1]), weighted = gradient([1.5, 0.5]);
    for (const column of [0, 1]) {
      expect(weighted[0]![column]).toBeCloseTo(1.5 * plain[0]![column]!, 6);
      expect(weighted[1]![column]).toBeCloseTo(0.5 * plain[1]![column]!, 6);
    }
  });
});
