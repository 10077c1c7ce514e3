import { describe, expect, it } from 'vitest';
import type { LabelledFeatures } from '../../src/evaluation/labelled.ts';
import { trainLinearProbe } from '../../src/evaluation/linearProbe.ts';
import { Random } from '../../src/random.ts';
import { float32 } from '../../src/tensor.ts';
import { reference } from './reference.ts';

const features = (size: number, values: readonly number[], labels: readonly number[]): LabelledFeatures => ({ size, features: Float32Array.from(values), labels: Int32Array.from(labels) });
const settings = { seed: 0, threads: 1, signal: new AbortController().signal };
const initial = { 'classifier.weight': float32(reference.linear.weight, [4, 5]), 'classifier.bias': float32([0, 0, 0, 0], [4]) };

/** Gaussian clouds around `classes` random centres. */
function clouds(n: number, classes: number, size: number, spread: number): LabelledFeatures {
  const centres = new Random('centres').normals(classes * size), noise = new Random('noise', n).normals(n * size);
  const labels = Array.from({ length: n }, (_, i) => i % classes);
  return features(size, Array.from(noise, (v, i) => centres[labels[Math.floor(i / size)]! * size + i % size]! + spread * v), labels);
}

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
    const training = clouds(200, 4, 8, 0.2), moved = training.features.map((v) => v + 5);
    const validation = { ...clouds(80, 4, 8, 0.2), features: clouds(80, 4, 8, 0.2).features.map((v) => v + 5) };
    const recipe = { epochs: 30, batch: 64, learningRate: 0.05, momentum: 0.9, weightDecay: 0 };
    const without = await trainLinearProbe(training, validation, { ...settings, recipe, classes: 4 });
    const both = await trainLinearProbe({ ...training, mirrored: moved }, validation, { ...settings, recipe, classes: 4 });
    expect(both.top1).toBeGreaterThan(95);
    expect(without.top1).toBeLessThan(both.top1);
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
