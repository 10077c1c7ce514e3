import { describe, expect, it } from 'vitest';
import type { LabelledFeatures } from '../../src/evaluation/labelled.ts';
import { classifyByNeighbours } from '../../src/evaluation/nearestNeighbours.ts';
import { reference } from './reference.ts';

const features = (size: number, values: readonly number[], labels: readonly number[]): LabelledFeatures => ({ size, features: Float32Array.from(values), labels: Int32Array.from(labels) });
const settings = { threads: 1, signal: new AbortController().signal };

describe('weighted nearest neighbours', () => {
  it('agrees with scikit-learn', async () => {
    const { k, temperature, classes, size, train, trainLabels, val, valLabels, top1, top5 } = reference.knn;
    const accuracy = await classifyByNeighbours(features(size, train, trainLabels), features(size, val, valLabels), { ...settings, recipe: { k, temperature }, classes });
    expect(accuracy.top1).toBeCloseTo(top1, 10);
    expect(accuracy.top5).toBeCloseTo(top5, 10);
  });

  it('lets one close neighbour outvote two far ones, by temperature', async () => {
    // Cosines 1 (class 0), 0.8 and 0.8 (class 1): exp(1/T) against 2 exp(0.8/T), equal at T = 0.2 / ln 2 = 0.289.
    const train = features(2, [2, 0, 4, 3, 0.8, -0.6], [0, 1, 1]), query = features(2, [5, 0], [0]);
    expect((await classifyByNeighbours(train, query, { ...settings, recipe: { k: 3, temperature: 0.28 }, classes: 2 })).top1).toBe(100);
    expect((await classifyByNeighbours(train, query, { ...settings, recipe: { k: 3, temperature: 0.3 }, classes: 2 })).top1).toBe(0);
  });

  it('never counts a class without a vote as right, and takes all images when k is larger', async () => {
    const train = features(1, [1, 2, 3], [1, 1, 2]), query = features(1, [1, 1], [0, 2]);
    expect(await classifyByNeighbours(train, query, { ...settings, recipe: { k: 20, temperature: 0.07 }, classes: 3 })).toEqual({ top1: 0, top5: 50 });
  });

  it('compares more images than one matrix product holds', async () => {
    // 9000 training images on a half circle, in order; each of 300 queries lies on one of them.
    const angle = (i: number): number => Math.PI * i / 9000;
    const circle = (indices: readonly number[]): number[] => indices.flatMap((i) => [Math.cos(angle(i)), Math.sin(angle(i))]);
    const all = Array.from({ length: 9000 }, (_, i) => i), some = all.filter((i) => i % 30 === 15);
    const classOf = (i: number): number => Math.floor(i / 1000);
    const accuracy = await classifyByNeighbours(features(2, circle(all), all.map(classOf)), features(2, circle(some), some.map(classOf)), { ...settings, recipe: { k: 5, temperature: 0.07 }, classes: 9 });
    expect(accuracy).toEqual({ top1: 100, top5: 100 });
  });
});
