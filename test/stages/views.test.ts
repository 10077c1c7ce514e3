import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { centreCrop, decodeImage, toPixels } from '../../src/dataset/image.ts';
import { readSamples, type Sample } from '../../src/dataset/samples.ts';
import { openEncoder } from '../../src/foreground/encoder.ts';
import { cosine } from '../../src/foreground/quality.ts';
import { analyzeForeground } from '../../src/stages/analyzeForeground.ts';
import type { RunPlan, SampleMetadata } from '../../src/stages/contract.ts';
import { fitForeground } from '../../src/stages/fitForeground.ts';
import { generateViews } from '../../src/stages/generateViews.ts';
import { pairSimilarity } from '../../src/stages/pairSimilarity.ts';
import { planViews } from '../../src/stages/planViews.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { ObjectStore } from '../../src/storage/index.ts';
import { openNetworks } from '../generation/networks.ts';
import { addRun, context, createRun, discImage, smallRecipe, type SmallRun } from './smallRun.ts';

/** The small untrained networks in the place of a generator. */
const open: Parameters<typeof generateViews>[2] = (_generator, { threads, batch }) => openNetworks(batch, threads);

const sizes = [0.3, 0.6, 0.9, 1.2];
let small: SmallRun;
const files: Record<string, Uint8Array> = {};

beforeAll(async () => {
  for (let i = 0; i < 9; i++) files[`train/a/${i} ä#.PNG`] = await discImage(i, sizes[i % 4]!, 16 + 8 * (i % 3));
  for (let i = 0; i < 3; i++) files[`val/a/${i}.png`] = await discImage(50 + i, 0.7);
  small = await createRun(smallRecipe({ generation: { viewsPerImage: 2 } }), files, [5, 7]);
  await upToPlan(small.run, 2);
  for (const shard of [0, 1]) await generateViews({ run: small.run, shard }, context, open);
});
afterAll(() => small.remove());

async function upToPlan(run: string, shards: number): Promise<void> {
  await fitForeground({ run }, context);
  for (let shard = 0; shard < shards; shard++) await analyzeForeground({ run, shard }, context);
  await planViews({ run }, context);
}

async function samplesOf(store: ObjectStore, plan: RunPlan): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let shard = 0; shard < plan.shards; shard++) {
    for await (const sample of readSamples(store, `${plan.views}shard-0000${shard}.tar`)) samples.push(sample);
  }
  return samples;
}
const metadataOf = (sample: Sample): SampleMetadata => JSON.parse(new TextDecoder().decode(sample.files['json'])) as SampleMetadata;

/** A second run in the same store, through GenerateViews. */
async function runAgain(recipe: Recipe, shardSizes: readonly number[]): Promise<RunPlan> {
  const { run, plan } = await addRun(small.store, small.images, small.listed, recipe, shardSizes);
  await upToPlan(run, shardSizes.length);
  for (let shard = 0; shard < shardSizes.length; shard++) await generateViews({ run, shard }, context, open);
  return plan;
}

describe('view shards', () => {
  test('hold the original bytes, the views of training images, and what is needed to repeat them', async () => {
    const samples = await samplesOf(small.store, small.plan);
    expect(samples.map(({ key }) => key)).toEqual(Array.from({ length: 12 }, (_, i) => `00000000${i}`.slice(-9)));
    for (const [i, sample] of samples.entries()) {
      const [file, bytes] = Object.entries(files)[i]!;
      expect(Buffer.from(sample.files['orig.png']!).equals(bytes)).toBe(true);
      const metadata = metadataOf(sample);
      expect(metadata).toMatchObject({ index: i, path: file, seed: 0, label: 0 });
      if (metadata.split === 'val') {
        expect(Object.keys(sample.files).toSorted()).toEqual(['json', 'orig.png']);
        expect(metadata).not.toHaveProperty('noiseLevel');
        continue;
      }
      expect(Object.keys(sample.files).toSorted()).toEqual(['json', 'orig.png', 'view0.png', 'view1.png']);
      expect(metadata.noiseLevel).toBe(100 * Math.min(Math.floor(5 * metadata.foregroundProportion!), 4));
      const [first, second] = await Promise.all([decodeImage(sample.files['view0.png']!), decodeImage(sample.files['view1.png']!)]);
      expect([first.width, first.height]).toEqual([16, 16]);
      expect(Buffer.from(first.data).equals(second.data)).toBe(false);
    }
  });

  test('another sharding gives the same views, byte for byte', async () => {
    const constant = { noise: { constant: 200 }, viewsPerImage: 1 };
    const one = await runAgain(smallRecipe({ generation: constant }), [12, 0]);
    const two = await runAgain(smallRecipe({ generation: constant }), [1, 6, 5]);
    const [a, b] = [await samplesOf(small.store, one), await samplesOf(small.store, two)];
    expect(one.views).not.toBe(two.views);
    expect(b.map(({ key }) => key)).toEqual(a.map(({ key }) => key));
    for (const [i, sample] of a.entries()) {
      for (const name of ['orig.png', 'view0.png']) expect(Buffer.from(b[i]!.files[name] ?? []).equals(sample.files[name] ?? new Uint8Array())).toBe(true);
    }
  });

  test('a shard whose marker is lost is written again with the same bytes, one that is done is left alone', async () => {
    const key = `${small.plan.views}shard-00001.tar`, before = await small.store.get(key);
    await small.store.delete(`${small.plan.views}shard-00001.done`);
    await small.store.delete(key);
    await generateViews({ run: small.run, shard: 1 }, context, open);
    expect(Buffer.from(await small.store.get(key)).equals(before)).toBe(true);
    await generateViews({ run: small.run, shard: 1 }, context, () => { throw new Error('must not open the generator'); });
  });

  test('a failure leaves no shard behind, and the next attempt succeeds', async () => {
    const { run, plan } = await addRun(small.store, small.images, small.listed, smallRecipe({ seed: 3 }), [12, 0]);
    await upToPlan(run, 2);
    const failing: typeof open = async (_generator, options) => {
      const model = await openNetworks(options.batch);
      let calls = 0;
      return { ...model, predict: (...call) => { if (calls++ > 8) throw new Error('out of memory'); return model.predict(...call); } };
    };
    await expect(generateViews({ run, shard: 0 }, context, failing)).rejects.toThrow('out of memory');
    expect(await small.store.head(`${plan.views}shard-00000.tar`)).toBeUndefined();
    await generateViews({ run, shard: 0 }, context, open);
    expect(await small.store.head(`${plan.views}shard-00000.done`)).toBeDefined();
  });

  test('no view is generated when no variant uses one', async () => {
    const { run, plan } = await addRun(small.store, small.images, small.listed, smallRecipe({ probability: 0 }), [12, 0]);
    await upToPlan(run, 2);
    for (const shard of [0, 1]) await generateViews({ run, shard }, context, () => { throw new Error('must not open the generator'); });
    const samples = await samplesOf(small.store, plan);
    expect(samples).toHaveLength(12);
    expect(samples.every(({ files: own }) => !Object.keys(own).some((name) => name.startsWith('view')))).toBe(true);
    expect(await pairSimilarity({ run }, context)).toEqual({ mean: 0, standardDeviation: 0, pairs: 0, byLevel: {} });
  });

  test('an image that vanished after its analysis stops the stage', async () => {
    const { run, plan } = await addRun(small.store, small.images, small.listed, smallRecipe({ seed: 4 }), [12, 0]);
    await upToPlan(run, 2);
    const manifest = new TextDecoder().decode(await small.store.get(`${plan.views}manifest-00000.jsonl`));
    await small.store.put(`${plan.views}manifest-00000.jsonl`, manifest.replace('train/a/2 ä#.PNG', 'train/a/gone.png'));
    await expect(generateViews({ run, shard: 0 }, context, open)).rejects.toMatchObject({ code: 'DatasetChanged', message: expect.stringContaining('train/a/gone.png') as string });
  });
});

describe('similarity of pairs', () => {
  test('is the mean cosine of the embeddings, by level', async () => {
    const result = await pairSimilarity({ run: small.run }, context);
    const encoder = await openEncoder(smallRecipe().foreground.encoder, { threads: 1 });
    const expected: { level: number; value: number }[] = [];
    for (const sample of await samplesOf(small.store, small.plan)) {
      const { split, noiseLevel } = metadataOf(sample);
      if (split !== 'train') continue;
      const images = await Promise.all(['orig.png', 'view0.png', 'view1.png'].map(async (name) => centreCrop(await decodeImage(sample.files[name]!), 16)));
      const { data } = (await encoder.encode(toPixels(images))).embedding;
      for (const view of [1, 2]) expected.push({ level: noiseLevel!, value: cosine(data.subarray(0, 5), data.subarray(5 * view, 5 * view + 5)) });
    }
    await encoder.dispose();
    const mean = (values: { value: number }[]): number => values.reduce((sum, { value }) => sum + value, 0) / values.length;
    expect(result.pairs).toBe(18);
    expect(result.mean).toBeCloseTo(mean(expected), 5);
    expect(result.standardDeviation).toBeCloseTo(Math.sqrt(expected.reduce((sum, { value }) => sum + (value - mean(expected)) ** 2, 0) / 18), 5);
    const levels = [...new Set(expected.map(({ level }) => level))].toSorted((a, b) => a - b);
    expect(Object.keys(result.byLevel)).toEqual(levels.map(String));
    for (const level of levels) {
      const own = expected.filter((pair) => pair.level === level);
      expect(result.byLevel[level]!.pairs).toBe(own.length);
      expect(result.byLevel[level]!.mean).toBeCloseTo(mean(own), 5);
    }
  });

  test('takes exactly as many images as asked, the same each time', async () => {
    const { run, plan } = await addRun(small.store, small.images, small.listed, smallRecipe({ generation: { viewsPerImage: 2 }, similarityImages: 4 }), [5, 7]);
    expect(plan.views).toBe(small.plan.views);
    const first = await pairSimilarity({ run }, context);
    expect(first.pairs).toBe(8);
    await small.store.delete(`${plan.similarity}similarity.done`);
    expect(await pairSimilarity({ run }, context)).toEqual(first);
  });
});
