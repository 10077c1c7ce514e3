import { describe, expect, it } from 'vitest';
import { memoryTable, openFeatureTable } from '../../src/evaluation/featureTable.ts';
import type { LabelledFeatures } from '../../src/evaluation/labelled.ts';
import { trainLinearProbe } from '../../src/evaluation/linearProbe.ts';
import { Random } from '../../src/random.ts';
import { float32 } from '../../src/tensor.ts';
import { reference } from './reference.ts';

const features = (size: number, values: readonly number[] | Float32Array, labels: readonly number[] | Int32Array): LabelledFeatures => ({ features: memoryTable(size, Float32Array.from(values)), mirrored: false, labels: Int32Array.from(labels) });
const settings = { seed: 0, threads: 1, signal: new AbortController().signal };
const initial = { 'classifier.weight': float32(reference.linear.weight, [4, 5]), 'classifier.bias': float32([0, 0, 0, 0], [4]) };

/** [n, size] and [n]: Gaussian clouds around `classes` random centres. */
function cloudValues(n: number, classes: number, size: number, spread: number): { values: Float32Array; labels: number[] } {
  const centres = new Random('centres').normals(classes * size), noise = new Random('noise', n).normals(n * size);
  const labels = Array.from({ length: n }, (_, i) => i % classes);
  return { values: noise.map((v, i) => centres[labels[Math.floor(i / size)]! * size + i % size]! + spread * v), labels };
}

function clouds(n: number, classes: number, size: number, spread: number): LabelledFeatures {
  const { values, labels } = cloudValues(n, classes, size, spread);
  return features(size, values, labels);
}

/** Rows of `first` and `second` in turn. */
const inTurn = (first: Float32Array, second: Float32Array, size: number): Float32Array =>
  Float32Array.from({ length: 2 * first.length }, (_, i) => { const row = Math.floor(i / size); return (row % 2 ? second : first)[Math.floor(row / 2) * size + i % size]!; });

describe('linear probe', () => {
  it('follows PyTorch: SGD with momentum, weight decay, cosine per epoch', async () => {
    const { features: values, size, labels, classes, epochs, learningRate, weightDecay, losses } = reference.linear;
    const training = features(size, values, labels);
    const { curve } = await trainLinearProbe(training, training, { ...settings, recipe: { epochs, batch: 64, learningRate, momentum: 0.9, weightDecay }, classes, initial });
    for (const [i, { loss }] of curve.entries()) expect(loss).toBeCloseTo(losses[i]!, 5);
  });

  it('weighs the incomplete last batch of an epoch as PyTorch does', async () => {
    const { features: values, labels, batch, epochs, learningRate, losses } = reference.linearPartial;
    const training = features(5, values, labels);
    const { curve } = await trainLinearProbe(training, training, { ...settings, recipe: { epochs, batch, learningRate, momentum: 0.9, weightDecay: 0 }, classes: 4, initial });
    for (const [i, { loss }] of curve.entries()) expect(loss).toBeCloseTo(losses[i]!, 5);
  });

  it('separates what is separable and repeats exactly', async () => {
    const recipe = { epochs: 20, batch: 64, learningRate: 0.2, momentum: 0.9, weightDecay: 0 };
    const training = clouds(300, 6, 16, 0.3), validation = clouds(120, 6, 16, 0.3);
    const first = await trainLinearProbe(training, validation, { ...settings, recipe, classes: 6 });
    expect(first.top1).toBe(100);
    expect(first.curve).toHaveLength(20);
    expect(await trainLinearProbe(training, validation, { ...settings, recipe, classes: 6 })).toEqual(first);
  });

  it('sees original and mirrored features', async () => {
    // Validation lies where only the mirrored features are.
    const { values, labels } = cloudValues(200, 4, 8, 0.2), others = cloudValues(80, 4, 8, 0.2);
    const training = features(8, values, labels), validation = features(8, others.values.map((v) => v + 5), others.labels);
    const recipe = { epochs: 30, batch: 64, learningRate: 0.05, momentum: 0.9, weightDecay: 0 };
    const without = await trainLinearProbe(training, validation, { ...settings, recipe, classes: 4 });
    const turns = inTurn(values, values.map((v) => v + 5), 8);
    const both = await trainLinearProbe({ ...features(8, turns, labels), mirrored: true }, validation, { ...settings, recipe, classes: 4 });
    expect(both.top1).toBeGreaterThan(95);
    expect(without.top1).toBeLessThan(both.top1);
  });

  it('is the same to the last bit with features in memory and in a file', async () => {
    const { values, labels } = cloudValues(300, 6, 16, 1), others = cloudValues(130, 6, 16, 1);
    const turns = inTurn(values, values.map((v) => v * 0.9 + 0.1), 16);
    const outcomes = [];
    for (const memory of [2 ** 20, 100]) {
      const training = await openFeatureTable(600, 16, { memory }), validation = await openFeatureTable(130, 16, { memory });
      for (let row = 0; row < 600; row += 7) await training.append(turns.subarray(row * 16, (row + 7) * 16));
      await validation.append(others.values);
      // 300 images are 4 batches and a part of one, 130 are less than the rows that are scored at once.
      outcomes.push(await trainLinearProbe({ features: training, mirrored: true, labels: Int32Array.from(labels) }, { features: validation, mirrored: false, labels: Int32Array.from(others.labels) }, {
        ...settings, recipe: { epochs: 5, batch: 64, learningRate: 0.1, momentum: 0.9, weightDecay: 1e-4 }, classes: 6,
      }));
      await Promise.all([training.close(), validation.close()]);
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
    expect(outcomes[0]!.curve[4]!.loss).toBeLessThan(outcomes[0]!.curve[0]!.loss);
  });

  it('says which setting to change when it diverges', async () => {
    const training = features(1, [1e30, -1e30], [0, 1]);
    await expect(trainLinearProbe(training, training, { ...settings, recipe: { epochs: 20, batch: 2, learningRate: 1e30, momentum: 0.9, weightDecay: 1 }, classes: 2 }))
      .rejects.toMatchObject({ code: 'LossNotFinite', message: expect.stringContaining('evaluation.linear.learningRate') });
  });

  it('stops when asked to', async () => {
    const stop = new AbortController();
    const training = clouds(100, 4, 8, 0.2);
    const running = trainLinearProbe(training, training, { ...settings, signal: stop.signal, recipe: { epochs: 1e6, batch: 64, learningRate: 0.05, momentum: 0.9, weightDecay: 0 }, classes: 4, onEpoch: () => stop.abort(new Error('stopped')) });
    await expect(running).rejects.toThrow('stopped');
  });
});
