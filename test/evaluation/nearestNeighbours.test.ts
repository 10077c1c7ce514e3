import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { memoryTable, openFeatureTable } from '../../src/evaluation/featureTable.ts';
import type { FeatureBatch, LabelledFeatures } from '../../src/evaluation/labelled.ts';
import { classifyByNeighbours, findNeighbours, type TrainingStream } from '../../src/evaluation/nearestNeighbours.ts';
import { l2Normalize } from '../../src/nn/layers.ts';
import { Random } from '../../src/random.ts';
import { compile } from '../../src/runtime/compile.ts';
import { float32 } from '../../src/tensor.ts';
import { reference } from './reference.ts';

const features = (size: number, values: readonly number[], labels: readonly number[]): LabelledFeatures => ({ features: memoryTable(size, Float32Array.from(values)), mirrored: false, labels: Int32Array.from(labels) });
const settings = { threads: 1, signal: new AbortController().signal };

/** The images in batches of 64, as a backbone gives them, or another number. */
function stream(size: number, values: readonly number[] | Float32Array, labels: readonly number[], batch = 64): TrainingStream {
  const all = Float32Array.from(values);
  async function* batches(): AsyncGenerator<FeatureBatch> {
    for (let start = 0; start < labels.length; start += batch) yield { features: all.slice(start * size, (start + batch) * size), labels: labels.slice(start, start + batch) };
  }
  return { count: labels.length, batches: batches() };
}

describe('weighted nearest neighbours', () => {
  it('agrees with scikit-learn', async () => {
    const { k, temperature, classes, size, train, trainLabels, val, valLabels, top1, top5 } = reference.knn;
    const accuracy = await classifyByNeighbours(stream(size, train, trainLabels), features(size, val, valLabels), { ...settings, recipe: { k, temperature }, classes });
    expect(accuracy.top1).toBeCloseTo(top1, 10);
    expect(accuracy.top5).toBeCloseTo(top5, 10);
  });

  it('lets one close neighbour outvote two far ones, by temperature', async () => {
    // Cosines 1 (class 0), 0.8 and 0.8 (class 1): exp(1/T) against 2 exp(0.8/T), equal at T = 0.2 / ln 2 = 0.289.
    const train = () => stream(2, [2, 0, 4, 3, 0.8, -0.6], [0, 1, 1]), query = features(2, [5, 0], [0]);
    expect((await classifyByNeighbours(train(), query, { ...settings, recipe: { k: 3, temperature: 0.28 }, classes: 2 })).top1).toBe(100);
    expect((await classifyByNeighbours(train(), query, { ...settings, recipe: { k: 3, temperature: 0.3 }, classes: 2 })).top1).toBe(0);
  });

  it('never counts a class without a vote as right, and takes all images when k is larger', async () => {
    const train = stream(1, [1, 2, 3], [1, 1, 2]), query = features(1, [1, 1], [0, 2]);
    expect(await classifyByNeighbours(train, query, { ...settings, recipe: { k: 20, temperature: 0.07 }, classes: 3 })).toEqual({ top1: 0, top5: 50 });
  });

  it('compares more images than one matrix product holds', async () => {
    // 9000 training images on a half circle, in order; each of 300 queries lies on one of them.
    const angle = (i: number): number => Math.PI * i / 9000;
    const circle = (indices: readonly number[]): number[] => indices.flatMap((i) => [Math.cos(angle(i)), Math.sin(angle(i))]);
    const all = Array.from({ length: 9000 }, (_, i) => i), some = all.filter((i) => i % 30 === 15);
    const classOf = (i: number): number => Math.floor(i / 1000);
    const accuracy = await classifyByNeighbours(stream(2, circle(all), all.map(classOf)), features(2, circle(some), some.map(classOf)), { ...settings, recipe: { k: 5, temperature: 0.07 }, classes: 9 });
    expect(accuracy).toEqual({ top1: 100, top5: 100 });
  });

  it('finds the neighbours of one product over everything, to the last bit, wherever features lie and however they come', async () => {
    const size = 24, queries = 300, count = 700, k = 30;
    const train = new Random('train').normals(count * size), validation = new Random('validation').normals(queries * size);
    // Copies are equally similar to everything: the earlier ones come first, across batches too.
    for (const [copy, of] of [[10, 3], [400, 3], [650, 3], [699, 50]] as const) train.copyWithin(copy * size, of * size, (of + 1) * size);
    const labels = Array.from({ length: count }, (_, i) => i);
    const shape = (n: number) => ({ shape: [n, size] });
    const program = await compile(({ a, b }) => ({ similarity: tf.matMul(l2Normalize(a!), l2Normalize(b!), false, true) }), { a: shape(queries), b: shape(count) }, { threads: 1 });
    const { similarity } = await program.run({ a: float32(validation, [queries, size]), b: float32(train, [count, size]) });
    await program.dispose();
    const expected = Array.from({ length: queries }, (_, image) => {
      const own = similarity!.data.subarray(image * count, (image + 1) * count);
      return labels.toSorted((a, b) => own[b]! - own[a]!).slice(0, k).flatMap((label) => [label, own[label]!]);
    }).flat();
    for (const [memory, batch] of [[2 ** 20, 64], [100, 97], [100, 1000]] as const) {
      const table = await openFeatureTable(queries, size, { memory });
      await table.append(validation);
      const neighbours = await findNeighbours(stream(size, train, labels, batch), table, k, settings);
      expect(Array.from({ length: queries }, (_, image) => [...neighbours(image)].flat()).flat()).toEqual(expected);
      await table.close();
    }
  });

  it('prefers the earlier of equally similar images on both sides of a block\'s end', async () => {
    // 8,192 training images are compared at a time.
    const alike = new Set([8191, 8192, 8300]), labels = Array.from({ length: 8400 }, (_, i) => i);
    const training = stream(2, labels.flatMap((i) => alike.has(i) ? [1, 0] : [0, 1]), labels);
    const neighbours = await findNeighbours(training, memoryTable(2, Float32Array.of(3, 0)), 5, settings);
    expect([...neighbours(0)]).toEqual([[8191, 1], [8192, 1], [8300, 1], [0, 0], [1, 0]]);
  });

  it('says how many training images are done, and stops when asked to', async () => {
    const values = new Random('many').normals(8300), labels = Array.from({ length: 8300 }, () => 0), query = features(1, [1], [0]);
    const done: number[] = [];
    await classifyByNeighbours(stream(1, values, labels), query, { ...settings, recipe: { k: 1, temperature: 1 }, classes: 1, onProgress: (images) => done.push(images) });
    expect(done).toEqual([8192, 108]);
    await expect(classifyByNeighbours(stream(1, values, labels), query, { ...settings, signal: AbortSignal.abort(new Error('stopped')), recipe: { k: 1, temperature: 1 }, classes: 1 })).rejects.toThrow('stopped');
  });
});
