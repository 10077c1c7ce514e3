import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { centreCrop, decodeImage, toPixels } from '../../src/dataset/image.ts';
import { openEncoder } from '../../src/foreground/encoder.ts';
import { pairQuality } from '../../src/foreground/quality.ts';
import { chooseEvenly, collectGallery, mapColours, mapImage } from '../../src/report/gallery.ts';
import { analyzeForeground } from '../../src/stages/analyzeForeground.ts';
import { openRun } from '../../src/stages/artefacts.ts';
import type { AnalyzedImage, DatasetSummary, ForegroundModel, ResolvedRun } from '../../src/stages/contract.ts';
import { fitForeground } from '../../src/stages/fitForeground.ts';
import { generateViews } from '../../src/stages/generateViews.ts';
import { planViews } from '../../src/stages/planViews.ts';
import { readSamples } from '../../src/dataset/samples.ts';
import { readJson } from '../../src/storage/index.ts';
import { openNetworks } from '../generation/networks.ts';
import { context, createRun, discImage, lines, smallRecipe, type SmallRun } from '../stages/smallRun.ts';

describe('a real run', () => {
  let small: SmallRun, run: ResolvedRun, dataset: DatasetSummary, model: ForegroundModel;
  /** Up to GenerateViews, whose second shard is not done. */
  beforeAll(async () => {
    const files: Record<string, Uint8Array | string> = {};
    for (let i = 0; i < 30; i++) files[`train/a/${String(i).padStart(2, '0')} <b>&.png`] = i === 4 ? 'text' : await discImage(i, 0.25 + 0.2 * (i % 5), i % 7 === 0 ? 300 : 16);
    for (let i = 0; i < 4; i++) files[`val/a/${i}.png`] = await discImage(50 + i, 0.7);
    small = await createRun(smallRecipe({ quarantineLimit: 0.2 }), files, [20, 14]);
    await fitForeground({ run: small.run }, context);
    for (const shard of [0, 1]) await analyzeForeground({ run: small.run, shard }, context);
    await planViews({ run: small.run }, context);
    await generateViews({ run: small.run, shard: 0 }, context, (_generator, { threads, batch }) => openNetworks(batch, threads));
    ({ run } = await openRun(small.run));
    dataset = await readJson(small.store, `${small.plan.dataset}dataset.json`);
    model = await readJson(small.store, `${small.plan.foreground}foreground.json`);
  });
  afterAll(() => small.remove());
  const collect = (pairs?: number) => collectGallery(small.store, run, small.plan, dataset, model, 1, pairs);

  test('shows the images whose map was kept, with what the stages found', async () => {
    const gallery = await collect();
    const analysed = (await lines<AnalyzedImage>(small.store, `${small.plan.analysis}shard-00000.jsonl`)).flatMap((line) => line.status === 'used' && line.map ? [line] : []);
    expect(analysed.length).toBeGreaterThan(12);
    expect(gallery.map(({ path }) => path).toSorted()).toEqual(analysed.map(({ path }) => path).toSorted());
    for (const pair of gallery) {
      const line = analysed.find(({ path }) => path === pair.path)!;
      expect(pair).toMatchObject({ className: 'one', foregroundProportion: line.foregroundProportion, noiseLevel: 100 * Math.min(Math.floor(5 * line.foregroundProportion!), 4) });
      const map = await decodeImage(pair.map.png);
      expect([map.width, map.height, pair.map.side]).toEqual([4, 4, 4]);
      // The brightest colour, yellow, stands where the map is largest.
      const brightest = line.map!.indexOf(255);
      expect([...map.data.subarray(3 * brightest, 3 * brightest + 3)]).toEqual([0xfd, 0xe7, 0x25]);
    }
  });

  test('pictures are what the store holds, cut to a square of 128 pixels at most', async () => {
    const gallery = new Map((await collect()).map((pair) => [pair.path, pair]));
    let large = 0, checked = 0;
    for await (const { files } of readSamples(small.store, `${small.plan.views}shard-00000.tar`)) {
      const pair = gallery.get((JSON.parse(new TextDecoder().decode(files['json'])) as { path: string }).path);
      if (!pair) continue;
      const original = await decodeImage(files['orig.png']!);
      if (original.width === 300) large++;
      expect(pair.original.side).toBe(Math.min(original.width, 128));
      expect(Buffer.from((await decodeImage(pair.original.png)).data).equals((await centreCrop(original, pair.original.side)).data)).toBe(true);
      expect(Buffer.from((await decodeImage(pair.view.png)).data).equals((await decodeImage(files['view0.png']!)).data)).toBe(true);
      checked++;
    }
    expect(checked).toBe(gallery.size);
    expect(large).toBeGreaterThan(0);
  });

  test('quality is that of the pair as stored', async () => {
    const [pair] = await collect(1);
    const encoder = await openEncoder(run.recipe.foreground.encoder, { threads: 1 });
    for await (const { files } of readSamples(small.store, `${small.plan.views}shard-00000.tar`)) {
      if ((JSON.parse(new TextDecoder().decode(files['json'])) as { path: string }).path !== pair!.path) continue;
      const tokens = async (name: string) => (await encoder.encode(toPixels([await centreCrop(await decodeImage(files[name]!), 16)]))).tokens;
      expect(pair!.quality).toBeCloseTo(pairQuality(await tokens('orig.png'), await tokens('view0.png'), model.vector)[0]!, 5);
    }
    await encoder.dispose();
  });

  test('is the same every time, ordered by noise level and foreground', async () => {
    const gallery = await collect(8);
    expect(gallery).toHaveLength(8);
    expect(await collect(8)).toEqual(gallery);
    const keys = gallery.map(({ noiseLevel, foregroundProportion }) => noiseLevel + foregroundProportion);
    expect(keys).toEqual(keys.toSorted((a, b) => a - b));
  });

  test('is empty before any view is generated', async () => {
    expect(await collectGallery(small.store, run, { ...small.plan, views: 'views/none/' }, dataset, model, 1)).toEqual([]);
  });
});

describe('choice of pairs', () => {
  const candidates = (levels: Readonly<Record<number, number>>) => {
    const all = Object.entries(levels).flatMap(([level, count]) => Array.from({ length: count }, () => Number(level)));
    return all.map((noiseLevel, index) => ({ index, noiseLevel, foregroundProportion: noiseLevel / 500 }));
  };
  const counts = (chosen: readonly { noiseLevel: number }[]): Record<number, number> => {
    const result: Record<number, number> = {};
    for (const { noiseLevel } of chosen) result[noiseLevel] = (result[noiseLevel] ?? 0) + 1;
    return result;
  };

  test('levels share evenly; what a rare one cannot fill goes to the others', () => {
    expect(counts(chooseEvenly(candidates({ 0: 100, 100: 40, 200: 20, 300: 10 }), 24))).toEqual({ 0: 6, 100: 6, 200: 6, 300: 6 });
    expect(counts(chooseEvenly(candidates({ 0: 100, 100: 2, 200: 9 }), 24))).toEqual({ 0: 13, 100: 2, 200: 9 });
    expect(chooseEvenly(candidates({ 0: 3, 400: 4 }), 24)).toHaveLength(7);
    expect(chooseEvenly(candidates({ 200: 500 }), 24)).toHaveLength(24);
    expect(chooseEvenly([], 24)).toEqual([]);
  });

  test('within a level they come from everywhere in the dataset', () => {
    expect(chooseEvenly(candidates({ 200: 100 }), 5).map(({ index }) => index)).toEqual([10, 30, 50, 70, 90]);
  });
});

test('a map goes from dark for background to yellow for foreground', () => {
  const rgb = (colour: string): number[] => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const { width, height, data } = mapImage([0, 255, 85, 170, 0, 255], [2, 3]);
  expect([width, height]).toEqual([3, 2]);
  expect([...data.subarray(0, 6)]).toEqual([...rgb(mapColours[0]), ...rgb(mapColours[9])]);
  // A third and two thirds of the way are anchors of their own.
  expect([...data.subarray(6, 12)]).toEqual([...rgb(mapColours[3]), ...rgb(mapColours[6])]);
  const luminance = Array.from({ length: 256 }, (_, value) => mapImage([value], [1, 1]).data).map(([r, g, b]) => 0.2126 * r! + 0.7152 * g! + 0.0722 * b!);
  expect(luminance.every((value, i) => i === 0 || value >= luminance[i - 1]! - 0.5)).toBe(true);
});
