import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { mocov3Loss } from '../../../src/pretraining/losses/mocov3.ts';

const p1 = [[1, 2], [0.5, -1]], p2 = [[2, 1], [1, -3]], k1 = [[1, 1], [1, -1]], k2 = [[0, 1], [2, -1]];
const loss = (temperature: number, weights: number[], predictions = [tf.tensor2d(p1), tf.tensor2d(p2)] as const) => mocov3Loss({
  predictions, keys: [tf.tensor2d(k1), tf.tensor2d(k2)], labels: tf.tensor1d([0, 1], 'int32'), weights: tf.tensor1d(weights), temperature,
});

describe('MoCo v3 loss (spec §12.6)', () => {
  it.each([
    [1, [0.342767891 + 0.426107650, 0.168648865 + 0.232235207], 1.169759614, 1.353755348],
    [0.2, [0.011358142 + 0.041457843, 0.000209196 + 0.001220110], 0.010849058, 0.015987726],
  ])('matches the golden values at temperature %d', (temperature, crossEntropies, unweighted, weighted) => {
    const perSample = loss(temperature, [1, 1]).perSample.dataSync();
    for (const [i, ce] of crossEntropies.entries()) expect(perSample[i]).toBeCloseTo(2 * temperature * ce, 6);
    expect(loss(temperature, [1, 1]).loss.dataSync()[0]).toBeCloseTo(unweighted, 6);
    expect(loss(temperature, [1.5, 0.5]).loss.dataSync()[0]).toBeCloseTo(weighted, 6);
  });

  it('counts queries whose own key is the nearest over both directions', () => {
    expect(loss(1, [1, 1]).accuracy.dataSync()[0]).toBe(1);
    expect(mocov3Loss({
      predictions: [tf.tensor2d(p1), tf.tensor2d(p2)], keys: [tf.tensor2d(k1), tf.tensor2d(k2)], labels: tf.tensor1d([1, 0], 'int32'), weights: tf.ones([2]), temperature: 1,
    }).accuracy.dataSync()[0]).toBe(0);
  });

  it('scales the gradient of each sample with its weight (spec §13.3)', () => {
    const gradient = (weights: number[]) => tf.grad((x) => loss(0.2, weights, [x as tf.Tensor2D, tf.tensor2d(p2)]).loss)(tf.tensor2d(p1)).arraySync() as number[][];
    const plain = gradient([1, 1]), weighted = gradient([1.5, 0.5]);
    for (const column of [0, 1]) {
      expect(weighted[0]![column]).toBeCloseTo(1.5 * plain[0]![column]!, 6);
      expect(weighted[1]![column]).toBeCloseTo(0.5 * plain[1]![column]!, 6);
    }
  });
});
