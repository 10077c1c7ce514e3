import { rm, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { analyzeForeground } from '../../src/stages/analyzeForeground.ts';
import type { AnalyzedImage, ForegroundModel, ListedImage } from '../../src/stages/contract.ts';
import { fitForeground } from '../../src/stages/fitForeground.ts';
import { planViews } from '../../src/stages/planViews.ts';
import { readJson } from '../../src/storage/index.ts';
import { addRun, context, createRun, discImage, lines, smallRecipe, type SmallRun } from './smallRun.ts';

const radii = [0.3, 0.5, 0.7, 0.9, 1.1];

async function discFiles(): Promise<Record<string, Uint8Array | string>> {
  const files: Record<string, Uint8Array | string> = {};
  for (let i = 0; i < 15; i++) files[`train/disc/${i} 'ö#%.png`] = await discImage(i, radii[i % 5]!);
  files['train/disc/empty.png'] = '';
  files['train/disc/text.jpg'] = 'this is no picture';
  files['train/disc/wide.png'] = await discImage(99, 0.7, 64);
  for (let i = 0; i < 3; i++) files[`val/disc/${i}.png`] = await discImage(50 + i, 0.7);
  files['val/disc/broken.png'] = (await discImage(60, 0.5)).subarray(0, 60);
  return files;
}

describe('from sampled tokens to planned views', () => {
  let small: SmallRun;
  let model: ForegroundModel;
  beforeAll(async () => {
    small = await createRun(smallRecipe({ quarantineLimit: 0.2 }), await discFiles(), [10, 12, 0]);
    await fitForeground({ run: small.run }, context);
    model = await readJson(small.store, `${small.plan.foreground}foreground.json`);
    for (const shard of [0, 1, 2]) await analyzeForeground({ run: small.run, shard }, context);
  });
  afterAll(() => small.remove());

  test('the model has a unit vector and says what it is made of; unreadable samples are skipped', () => {
    expect(Math.hypot(...model.vector)).toBeCloseTo(1, 12);
    expect(model).toMatchObject({ images: 16, skipped: 2, quantile: 0.6, grid: [4, 4], normalizeTokens: false });
    expect(model.explained).toBeGreaterThan(0.3);
    expect(model.sign.flipped).toBe(model.sign.centre < model.sign.border);
  });

  test('40 % of the sampled tokens are foreground', async () => {
    const analysed = [...await lines<AnalyzedImage>(small.store, `${small.plan.analysis}shard-00000.jsonl`), ...await lines<AnalyzedImage>(small.store, `${small.plan.analysis}shard-00001.jsonl`)];
    const proportions = analysed.flatMap((line) => line.status === 'used' && line.split === 'train' ? [line.foregroundProportion!] : []);
    expect(proportions.length).toBe(16);
    // 256 tokens; 102 lie strictly above the 154th smallest, but for rounding of tokens in another batch.
    expect(Math.abs(proportions.reduce((sum, p) => sum + p, 0) * 16 - 102)).toBeLessThanOrEqual(2);
  });

  test('larger discs have more foreground', async () => {
    const analysed = await lines<AnalyzedImage>(small.store, `${small.plan.analysis}shard-00000.jsonl`);
    const proportion = (i: number): number => { const line = analysed[i]!; return line.status === 'used' ? line.foregroundProportion! : NaN; };
    expect(proportion(0)).toBeLessThan(proportion(2));
    expect(proportion(2)).toBeLessThan(proportion(4));
  });

  test('every listed image is used or quarantined with a reason, in order', async () => {
    const analysed = (await Promise.all(['00000', '00001', '00002'].map((name) => lines<AnalyzedImage>(small.store, `${small.plan.analysis}shard-${name}.jsonl`)))).flat();
    expect(analysed.map(({ path }) => path)).toEqual(small.listed.map(({ path }) => path));
    const bad = analysed.filter((line) => line.status === 'quarantined');
    expect(bad.map(({ path }) => path)).toEqual(['train/disc/empty.png', 'train/disc/text.jpg', 'val/disc/broken.png']);
    for (const { reason } of bad) expect(reason).toMatch(/\S/);
    const wide = analysed.find(({ path }) => path.includes('wide'));
    expect(wide).toMatchObject({ status: 'used', width: 64, height: 64 });
    expect(analysed.filter((line) => line.split === 'val' && line.status === 'used')).toHaveLength(3);
    expect(analysed.some((line) => line.split === 'val' && 'foregroundProportion' in line)).toBe(false);
  });

  test('a small shard keeps the maps of all its training images, 0 to 255', async () => {
    const analysed = await lines<AnalyzedImage & { map?: number[] }>(small.store, `${small.plan.analysis}shard-00001.jsonl`);
    for (const { split, status, map } of analysed) {
      if (split === 'val' || status === 'quarantined') { expect(map).toBeUndefined(); continue; }
      expect(map).toHaveLength(16);
      expect([Math.min(...map!), Math.max(...map!)]).toEqual([0, 255]);
    }
  });

  test('the plan counts everything and levels follow the proportions', async () => {
    expect(await planViews({ run: small.run }, context)).toEqual({ train: 16, val: 3, quarantined: 3 });
    const plan = await readJson<Record<string, unknown> & { proportionHistogram: number[]; levelHistogram: Record<string, number> }>(small.store, `${small.plan.views}plan.json`);
    expect(plan).toMatchObject({ shards: 3, images: { train: 16, val: 3, quarantined: 3 } });
    expect(plan.proportionHistogram.reduce((sum, n) => sum + n, 0)).toBe(16);
    expect(Object.values(plan.levelHistogram).reduce((sum, n) => sum + n, 0)).toBe(16);
    const manifest = await lines<ListedImage & { foregroundProportion?: number; noiseLevel?: number }>(small.store, `${small.plan.views}manifest-00001.jsonl`);
    expect(manifest.map(({ index }) => index)).toEqual([10, 11, 12, 13, 14, 17, 18, 19, 20]);
    for (const { split, foregroundProportion, noiseLevel } of manifest) {
      if (split === 'val') expect(noiseLevel).toBeUndefined();
      else expect(noiseLevel).toBe(100 * Math.min(Math.floor(5 * foregroundProportion!), 4));
    }
  });

  test('a repeated stage does nothing, and one that lost its marker writes the same bytes', async () => {
    const key = `${small.plan.analysis}shard-00001.jsonl`, marker = `${small.plan.analysis}shard-00001.done`;
    const before = await small.store.get(key);
    await small.store.delete(marker);
    await small.store.delete(key);
    await analyzeForeground({ run: small.run, shard: 1 }, context);
    expect(await small.store.get(key)).toEqual(before);
    const { etag } = (await small.store.head(key))!;
    await analyzeForeground({ run: small.run, shard: 1 }, context);
    expect((await small.store.head(key))!.etag).toBe(etag);
  });

  test('other batches and shards give the same levels', async () => {
    const other = await addRun(small.store, small.images, small.listed, smallRecipe({ quarantineLimit: 0.2, foreground: { batch: 16 }, seed: 1 }), [22, 0]);
    await fitForeground({ run: other.run }, context);
    for (const shard of [0, 1]) await analyzeForeground({ run: other.run, shard }, context);
    await planViews({ run: other.run }, context);
    const all = async (prefix: string, names: string[]) => (await Promise.all(names.map((name) => lines<{ path: string; noiseLevel?: number }>(small.store, `${prefix}manifest-${name}.jsonl`)))).flat().map(({ path, noiseLevel }) => [path, noiseLevel]);
    const same = await all(other.plan.views, ['00000', '00001']), reference = await all(small.plan.views, ['00000', '00001', '00002']);
    // A projection that is the threshold itself may fall on the other side by rounding: one token of one image.
    expect(same.filter(([, level], i) => level !== reference[i]![1]).length).toBeLessThanOrEqual(1);
    expect(same.map(([path]) => path)).toEqual(reference.map(([path]) => path));
  });

  test('tokens that do not fit in memory are encoded again, to the same model', async () => {
    const key = `${small.plan.foreground}foreground.json`, before = await small.store.get(key);
    await small.store.delete(`${small.plan.foreground}foreground.done`);
    await fitForeground({ run: small.run }, context, 1000);
    expect(await small.store.get(key)).toEqual(before);
  });

  test('another sharding gives the same analysis to the last bit', async () => {
    const other = await addRun(small.store, small.images, small.listed, smallRecipe({ quarantineLimit: 0.2 }), [7, 15]);
    await fitForeground({ run: other.run }, context);
    for (const shard of [0, 1]) await analyzeForeground({ run: other.run, shard }, context);
    expect((await small.store.get(`${other.plan.foreground}foreground.json`))).toEqual(await small.store.get(`${small.plan.foreground}foreground.json`));
    const all = async (prefix: string, names: string[]) => (await Promise.all(names.map((name) => lines<AnalyzedImage>(small.store, `${prefix}shard-${name}.jsonl`)))).flat().map((line) => ({ ...line, map: undefined }));
    expect(await all(other.plan.analysis, ['00000', '00001'])).toEqual(await all(small.plan.analysis, ['00000', '00001']));
  });

  test('too many quarantined images stop the run, also when the plan is there already', async () => {
    const strict = await addRun(small.store, small.images, small.listed, smallRecipe({ quarantineLimit: 0.1 }), [10, 12, 0]);
    await expect(planViews({ run: strict.run }, context)).rejects.toMatchObject({
      code: 'QuarantineLimitExceeded',
      message: expect.stringMatching(/^3 of 22 images \(13\.6 %\) cannot be used, more than dataset\.quarantineLimit 10 %: train\/disc\/empty\.png \(.+\), train\/disc\/text\.jpg \(.+\), val\/disc\/broken\.png/) as string,
    });
  });

  test('fewer usable images than a batch', async () => {
    const large = await addRun(small.store, small.images, small.listed, smallRecipe({ quarantineLimit: 0.2, batch: 17 }), [10, 12, 0]);
    await expect(planViews({ run: large.run }, context)).rejects.toMatchObject({ code: 'TooFewImages', message: expect.stringContaining('16 usable training images (3 are quarantined) are fewer than one batch of variant baseline (pretraining.batch 17)') as string });
  });

  test('a shard that does not exist', async () => {
    await expect(analyzeForeground({ run: small.run, shard: 3 }, context)).rejects.toMatchObject({ code: 'ShardInvalid' });
  });

  test('an image without analysis is noticed', async () => {
    const other = await addRun(small.store, small.images, small.listed, smallRecipe({ quarantineLimit: 0.2, seed: 2 }), [10, 12]);
    await fitForeground({ run: other.run }, context);
    await analyzeForeground({ run: other.run, shard: 0 }, context);
    await expect(planViews({ run: other.run }, context)).rejects.toMatchObject({ code: 'ImagesUnaccounted', message: expect.stringContaining('shard 1 has not been analysed') as string });
    const [first] = await lines(small.store, `${other.plan.analysis}shard-00000.jsonl`);
    await small.store.put(`${other.plan.analysis}shard-00001.jsonl`, `${JSON.stringify(first)}\n`);
    await expect(planViews({ run: other.run }, context)).rejects.toMatchObject({ code: 'ImagesUnaccounted' });
  });
});

test('a shard keeps 16 maps, spread over its classes, whatever the batch', async () => {
  const files: Record<string, Uint8Array | string> = {};
  // 40 training images of four classes, a validation image listed among them; number 6, one of the 16 choices, is no image.
  for (let i = 0; i < 40; i++) files[`${String.fromCharCode(97 + Math.floor(i / 10))}/${i}.png`] = i === 6 ? 'text' : await discImage(i, radii[i % 5]!);
  const small = await createRun(smallRecipe(), files, [40, 0]);
  const listed = small.listed.flatMap((image) => image.index === 5 ? [{ ...image, path: 'val.png', split: 'val' as const }, image] : [image]);
  await writeFile(`${small.images}/val.png`, await discImage(99, 0.7));
  const kept: number[][] = [];
  for (const batch of [3, 32]) {
    const { run, plan } = await addRun(small.store, small.images, listed, smallRecipe({ quarantineLimit: 0.2, foreground: { batch }, seed: batch }), [41, 0]);
    await fitForeground({ run }, context);
    await analyzeForeground({ run, shard: 0 }, context);
    kept.push((await lines<AnalyzedImage & { map?: number[] }>(small.store, `${plan.analysis}shard-00000.jsonl`)).flatMap(({ path, map }) => map ? [parseInt(path.slice(2), 10)] : []));
  }
  // Middles of 16 equal pieces of 40: 1.25, 3.75, 6.25, ...
  expect(kept).toEqual(Array.from({ length: 2 }, () => [1, 3, 8, 11, 13, 16, 18, 21, 23, 26, 28, 31, 33, 36, 38]));
  await small.remove();
});

test('a sample without a readable image is an error', async () => {
  const small = await createRun(smallRecipe(), { 'train/a/1.png': '', 'train/a/2.png': 'x' }, [2, 0]);
  await expect(fitForeground({ run: small.run }, context)).rejects.toMatchObject({ code: 'NoUsableImages' });
  await small.remove();
});

test('a vanished file is quarantined', async () => {
  const small = await createRun(smallRecipe(), { 'train/a/1.png': await discImage(1, 0.5), 'train/a/2.png': await discImage(2, 0.9), 'val/a/3.png': await discImage(3, 0.9) }, [3, 0]);
  await fitForeground({ run: small.run }, context);
  await rm(`${small.images}/train/a/2.png`);
  await analyzeForeground({ run: small.run, shard: 0 }, context);
  expect((await lines<AnalyzedImage>(small.store, `${small.plan.analysis}shard-00000.jsonl`))[1]).toMatchObject({ status: 'quarantined', reason: expect.stringContaining('gone') as string });
  await small.remove();
});
