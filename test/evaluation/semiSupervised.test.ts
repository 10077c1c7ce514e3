import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/dataset/image.ts';
import { checkLabels, cropsOf, type LabelledSample } from '../../src/evaluation/labelled.ts';
import { chooseLabelled, fineTune, openFineTuning } from '../../src/evaluation/semiSupervised.ts';
import { featureBatch } from '../../src/evaluation/features.ts';
import { Random } from '../../src/random.ts';
import { float32, int32, scalar, type HostTensor } from '../../src/tensor.ts';
import { formulaEncoder, formulaPixels, formulaTensor, reference } from './reference.ts';

const head = { 'classifier.weight': formulaTensor('classifier.weight', [3, 16]), 'classifier.bias': formulaTensor('classifier.bias', [3]) };

describe('fine-tuning', () => {
  it('follows PyTorch: batch statistics, one learning rate for the head and one for the backbone', async () => {
    const { step, score, state } = await openFineTuning(formulaEncoder(), head, 6, 1);
    const pixels = float32(formulaPixels(), [6, 3, 16, 16]);
    for (const expected of reference.fineTuning.losses) {
      const { loss } = await step.run({ pixels, labels: int32([0, 1, 2, 0, 1, 2], [6]), headRate: scalar(0.2), backboneRate: scalar(0.05) });
      expect(loss!.data[0]).toBeCloseTo(expected, 4);
    }
    const close = (actual: ArrayLike<number>, expected: readonly number[]): void => { for (const [i, value] of expected.entries()) expect(Math.abs(actual[i]! - value)).toBeLessThan(5e-4 * Math.max(1, Math.abs(value))); };
    close(state.get('backbone.bn1.running_var').data, reference.fineTuning['bn1.running_var']);
    close(state.get('backbone.conv1.weight').data, reference.fineTuning['conv1.weight']);
    const padded = new Float32Array(featureBatch * 768);
    padded.set(pixels.data);
    const { logits } = await score.run({ pixels: float32(padded, [featureBatch, 3, 16, 16]) });
    close((logits as HostTensor<'float32'>).data, reference.fineTuning.logits);
    await Promise.all([step.dispose(), score.dispose()]);
  });

  /** Noise around a colour for each of three classes. */
  const sample = (index: number): LabelledSample => {
    const label = index % 3, random = new Random('toy', index);
    const data = Uint8Array.from({ length: 20 * 16 * 3 }, (_, i) => 60 + 40 * Number(i % 3 === label) + random.integer(100));
    return { metadata: { index, path: `train/${label}/${index}.png`, label }, original: { width: 20, height: 16, data } };
  };
  const samples = (from: number, to: number): LabelledSample[] => Array.from({ length: to - from }, (_, i) => sample(from + i));
  async function* stream<T>(items: readonly T[]): AsyncGenerator<T> { yield* items; }

  it('learns three colours from 24 images and repeats exactly', async () => {
    const labelled = samples(0, 24), validation = cropsOf(() => stream(samples(100, 160)), 60, 16);
    const curves = [];
    for (let run = 0; run < 2; run++) {
      curves.push(await fineTune(formulaEncoder(), (epoch) => stream(new Random(epoch).shuffle(labelled)), 24, validation, {
        recipe: { fraction: 0.1, epochs: 15, batch: 8, headLearningRate: 0.2, backboneLearningRate: 0.02 }, classes: 3, seed: 1, threads: 1, signal: new AbortController().signal,
      }));
    }
    expect(curves[0]!.top1).toBeGreaterThan(95);
    expect(curves[0]!.curve).toHaveLength(15);
    expect(curves[1]).toEqual(curves[0]);
  });

  it('decodes validation images once when they fit in memory, and each time otherwise', async () => {
    let decoded = 0;
    async function* counted(): AsyncGenerator<LabelledSample> { for (const item of samples(0, 5)) { decoded++; yield item; } }
    const read = async (crops: () => AsyncIterable<{ image: Image; label: number }>): Promise<number[]> => { const labels = []; for await (const { label } of crops()) labels.push(label); return labels; };
    const kept = cropsOf(counted, 5, 16), streamed = cropsOf(counted, 5, 16, 100);
    for (let i = 0; i < 3; i++) expect(await read(kept)).toEqual([0, 1, 2, 0, 1]);
    expect(decoded).toBe(5);
    for (let i = 0; i < 3; i++) expect(await read(streamed)).toEqual([0, 1, 2, 0, 1]);
    expect(decoded).toBe(20);
  });
});

describe('choice of labelled images', () => {
  const images = Array.from({ length: 330 }, (_, index) => ({ index, path: `train/${index}.png`, label: index < 100 ? 0 : index < 325 ? 1 : 2 }));

  it('takes the fraction of every class, at least one image, by seed', async () => {
    const chosen = await chooseLabelled(() => images, 0.1, 7);
    const counts = [0, 1, 2].map((label) => images.filter((image) => image.label === label && chosen.has(image.index)).length);
    expect(counts).toEqual([10, 23, 1]);
    const reversed = await chooseLabelled(() => images.toReversed(), 0.1, 7);
    expect(images.filter(({ index }) => reversed.has(index))).toEqual(images.filter(({ index }) => chosen.has(index)));
    expect(await chooseLabelled(() => images, 0.1, 8)).not.toEqual(chosen);
  });

  it('grows without exchanging images, and is the same in the other classes when one changes', async () => {
    const small = await chooseLabelled(() => images, 0.1, 7), large = await chooseLabelled(() => images, 0.3, 7);
    expect([...small].every((index) => large.has(index))).toBe(true);
    const others = await chooseLabelled(() => images.filter(({ label }) => label !== 1), 0.1, 7);
    expect([...others].every((index) => small.has(index))).toBe(true);
  });
});

describe('labels', () => {
  const image = (split: string, label: number): { split: string; label: number } => ({ split, label });

  it('must let classes be told apart', () => {
    expect(() => checkLabels(['cat'], [image('train', 0), image('val', 0)])).toThrow('one class (cat)');
    expect(() => checkLabels(['cat', 'dog'], [image('train', 0), image('train', 1)])).toThrow('no usable validation image');
    expect(() => checkLabels(['cat', 'dog'], [image('train', 0), image('val', 0), image('val', 1)])).toThrow('class dog has validation images but no usable training image');
    checkLabels(['cat', 'dog', 'unused'], [image('train', 0), image('train', 1), image('val', 1)]);
  });
});
