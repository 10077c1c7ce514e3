import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodePng } from '../../src/dataset/image.ts';
import { writeSamples, type Sample } from '../../src/dataset/samples.ts';
import { silentLog } from '../../src/log.ts';
import { initialize } from '../../src/nn/module.ts';
import { backboneNetwork } from '../../src/nn/backbone.ts';
import { encodeSafetensors } from '../../src/nn/safetensors.ts';
import { Random } from '../../src/random.ts';
import type { EvaluationRecipe } from '../../src/recipe/recipe.ts';
import type { PlannedImage, ProbeResult, StageContext } from '../../src/stages/contract.ts';
import { linearProbe } from '../../src/stages/linearProbe.ts';
import { nearestNeighbours } from '../../src/stages/nearestNeighbours.ts';
import { semiSupervised } from '../../src/stages/semiSupervised.ts';
import { openStore, writeJson } from '../../src/storage/index.ts';
import { description } from '../evaluation/reference.ts';

const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };
const evaluation: EvaluationRecipe = {
  linear: { epochs: 15, batch: 32, learningRate: 0.2, momentum: 0.9, weightDecay: 0 },
  knn: { k: 5, temperature: 0.07 },
  semiSupervised: { fraction: 0.2, epochs: 5, batch: 8, headLearningRate: 0.2, backboneLearningRate: 0.02 },
  similarityImages: 10,
};

const folders: string[] = [];
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

/** A store as it is after Pretrain: 3 classes of coloured noise, two shards, a network with its first weights. Returns the folder. */
async function storeAfterPretrain(keep: (image: PlannedImage) => boolean = () => true, classes = ['blue sky', 'grün', 'red']): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'genview-probes-'));
  folders.push(folder);
  const store = openStore(folder);
  const listed: PlannedImage[] = Array.from({ length: 120 }, (_, index) => {
    const label = index % classes.length, split = index < 90 ? 'train' : 'val';
    return { index, path: `${split}/${classes[label]}/${index}.png`, bytes: 1, etag: '', split, label };
  }).filter((image) => keep(image as PlannedImage)) as PlannedImage[];
  const sample = async ({ index, path: name, split, label }: PlannedImage): Promise<Sample> => {
    const random = new Random('image', index);
    const data = Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => 40 + 120 * Number(i % 3 === label) + random.integer(60));
    return { key: String(index).padStart(9, '0'), files: { 'orig.png': await encodePng({ width: 16, height: 16, data }), json: Buffer.from(JSON.stringify({ index, path: name, split, label, seed: 0 })) } };
  };
  const count = (split: string): number => listed.filter((image) => image.split === split).length;
  for (const shard of [0, 1]) {
    const images = listed.filter(({ index }) => Math.floor(index / 60) === shard);
    await store.put(`views/v/manifest-0000${shard}.jsonl`, images.map((image) => JSON.stringify(image) + '\n').join(''));
    await store.put(`views/v/shard-0000${shard}.tar`, writeSamples(await Promise.all(images.map(sample))));
  }
  await writeJson(store, 'views/v/plan.json', { images: { train: count('train'), val: count('val'), quarantined: 0 }, shards: 2 });
  await writeJson(store, 'datasets/d/dataset.json', { classes });
  const network = backboneNetwork(description.backbone, description.imageSize, { frozenPatches: false });
  await writeJson(store, 'pretrain/p/encoder.json', description);
  await store.put('pretrain/p/encoder.safetensors', encodeSafetensors(initialize(network, 3)));
  await writeJson(store, 'runs/r/recipe.json', { runId: 'r', store: store.root, recipe: { seed: 5, variants: [{ name: 'baseline', seed: 5 }], evaluation } });
  await writeJson(store, 'runs/r/plan.json', { dataset: 'datasets/d/', views: 'views/v/', shards: 2, variants: [{ name: 'baseline', pretrain: 'pretrain/p/', evaluate: 'evaluate/e/' }] });
  return folder;
}

const stages = { linear: linearProbe, knn: nearestNeighbours, semi: semiSupervised };

describe('probes of an encoder', () => {
  let first: string;
  const input = (folder: string) => ({ run: `${folder}/runs/r/`, variant: 'baseline' });
  beforeAll(async () => { first = await storeAfterPretrain(); });

  it.each(Object.entries(stages))('%s: tells coloured noise apart, and writes the same bytes again', async (file, stage) => {
    const result: ProbeResult = await stage(input(first), context);
    expect(result).toMatchObject({ validationImages: 30, trainImages: file === 'semi' ? 18 : 90 });
    // Chance is 33.
    expect(result.top1).toBeGreaterThan(60);
    expect(result.top5).toBeGreaterThanOrEqual(result.top1);
    if (file !== 'knn') expect(result.curve).toHaveLength(file === 'linear' ? 15 : 5);
    const second = await storeAfterPretrain();
    await stage(input(second), context);
    expect(await readFile(path.join(second, `evaluate/e/${file}.json`))).toEqual(await readFile(path.join(first, `evaluate/e/${file}.json`)));
  });

  it('are not measured twice', async () => {
    const before = await linearProbe(input(first), context);
    await openStore(first).delete('pretrain/p/encoder.safetensors');
    expect(await linearProbe(input(first), context)).toEqual(before);
  });

  it('say what is missing, before any work', async () => {
    const missing = async (keep: (image: PlannedImage) => boolean, classes?: string[]) => input(await storeAfterPretrain(keep, classes));
    await expect(linearProbe(await missing(({ split }) => split === 'train'), context)).rejects.toMatchObject({ code: 'EvaluationImpossible', message: expect.stringContaining('no usable validation image') });
    await expect(nearestNeighbours(await missing(({ split, label }) => split === 'val' || label !== 1), context)).rejects.toMatchObject({ code: 'EvaluationImpossible', message: expect.stringContaining('class grün has validation images but no usable training image') });
    await expect(semiSupervised(await missing(() => true, ['all']), context)).rejects.toMatchObject({ code: 'EvaluationImpossible', message: expect.stringContaining('one class (all)') });
    await expect(linearProbe({ ...input(first), variant: 'genview' }, context)).rejects.toMatchObject({ code: 'VariantUnknown', message: expect.stringContaining('it has baseline') });
  });

  it('stop when asked to, and leave nothing', async () => {
    const folder = await storeAfterPretrain();
    await expect(linearProbe(input(folder), { ...context, signal: AbortSignal.abort(new Error('stopped')) })).rejects.toThrow('stopped');
    expect(await openStore(folder).head('evaluate/e/linear.json')).toBeUndefined();
  });
});
