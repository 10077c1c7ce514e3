import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/dataset/image.ts';
import { choosePair, makeViews } from '../../src/pretraining/pairs.ts';
import { pretrainingRecipe, syntheticSamples } from '../fixtures/pretraining/synthetic.ts';

const samples = syntheticSamples(400, 16, 2);
const views = (probability: number, order: 'random' | 'fixed' = 'random') => ({ probability, order });

describe('pair construction (spec §4.1)', () => {
  it('gives the plain batches with probability 0 and with no stored view (spec §13.2)', () => {
    const few = samples.slice(0, 16);
    const recipe = pretrainingRecipe({ views: views(0) });
    const plain = makeViews(few, 3, 5, recipe);
    const noViews = makeViews(few.map((sample) => ({ ...sample, views: [] })), 3, 5, pretrainingRecipe({ views: views(1) }));
    expect(noViews).toEqual(plain);
    const mixed = makeViews(few, 3, 5, pretrainingRecipe({ views: views(1, 'fixed') }));
    expect(mixed[0]).toEqual(plain[0]);
    expect(mixed[1]).not.toEqual(plain[1]);
  });

  it('uses a generated view with the given probability, in either place equally, each stored view equally', () => {
    const counts = { none: 0, first: 0, second: 0 };
    const stored = new Map<number, number>();
    for (const sample of samples) {
      const { images, generated } = choosePair(sample, 0, 1, views(0.5));
      counts[generated === undefined ? 'none' : generated === 0 ? 'first' : 'second']++;
      expect(images.filter((image: Image) => image !== sample.original)).toHaveLength(generated === undefined ? 0 : 1);
      if (generated !== undefined) stored.set(sample.views.indexOf(images[generated]), (stored.get(sample.views.indexOf(images[generated])) ?? 0) + 1);
    }
    expect(Math.abs(counts.none - 200)).toBeLessThan(40);
    expect(Math.abs(counts.first - 100)).toBeLessThan(35);
    expect(Math.abs(counts.second - 100)).toBeLessThan(35);
    expect(Math.abs(stored.get(0)! - stored.get(1)!)).toBeLessThan(50);
  });

  it('always replaces the second view with the fixed order', () => {
    for (const sample of samples) expect(choosePair(sample, 0, 1, views(1, 'fixed')).generated).toBe(1);
  });

  it('repeats for the same seed and epoch, and changes with either', () => {
    const few = samples.slice(0, 8), recipe = pretrainingRecipe({});
    const [first] = makeViews(few, 0, 1, recipe);
    expect(makeViews(few, 0, 1, recipe)[0]).toEqual(first);
    expect(makeViews(few, 1, 1, recipe)[0]).not.toEqual(first);
    expect(makeViews(few, 0, 2, recipe)[0]).not.toEqual(first);
    for (const value of first.data) if (value < 0 || value > 1) expect.fail(`pixel ${value}`);
  });

  it('does not depend on the rest of the batch', () => {
    const recipe = pretrainingRecipe({});
    const [whole] = makeViews(samples.slice(0, 4), 0, 1, recipe), [part] = makeViews(samples.slice(2, 4), 0, 1, recipe);
    expect(whole.data.subarray(whole.data.length / 2)).toEqual(part.data);
  });
});
