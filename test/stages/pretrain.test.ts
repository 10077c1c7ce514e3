import * as tf from '@tensorflow/tfjs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodePng } from '../../src/dataset/image.ts';
import { writeSamples, type Sample } from '../../src/dataset/samples.ts';
import { silentLog } from '../../src/log.ts';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import type { PretrainingRecipe, Recipe } from '../../src/recipe/recipe.ts';
import { compileInference } from '../../src/runtime/compile.ts';
import type { ForegroundModel, ResolvedRun, RunPlan, StageContext, StepMetrics, ViewsPlan } from '../../src/stages/contract.ts';
import { pretrain } from '../../src/stages/pretrain.ts';
import { openStore, readJson, readLines, writeJson } from '../../src/storage/index.ts';
import { pretrainingRecipe, syntheticSamples } from '../fixtures/pretraining/synthetic.ts';

let root: string, runUrl: string;
const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };
const samples = syntheticSamples(20, 16);
const baseline = pretrainingRecipe({ views: { probability: 0, order: 'random' } });
const variants: Record<string, PretrainingRecipe> = {
  baseline,
  quality: pretrainingRecipe({ qualityLoss: { enabled: true, gamma: 1 } }),
  'half-quality': pretrainingRecipe({ qualityLoss: { enabled: true, gamma: 0.5 } }),
  two: pretrainingRecipe({ nodes: 2 }),
};

/** A network of three average-pooled colours as tokens, for images of 8 x 8 pixels. */
async function writeEncoder(file: string): Promise<void> {
  const program = await compileInference(({ pixels }) => {
    const tokens = tf.transpose(tf.avgPool(tf.transpose(pixels as tf.Tensor4D, [0, 2, 3, 1]), 2, 2, 'valid'), [0, 3, 1, 2]);
    return { tokens, embedding: tf.mean(tokens, [2, 3]) };
  }, { pixels: { shape: [8, 3, 8, 8] } }, {});
  await writeFile(file, program.toOnnx());
  await program.dispose();
}

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'genview-pretrain-'));
  const store = openStore(root);
  const model = path.join(root, 'encoder.onnx');
  await writeEncoder(model);
  const files: Sample[] = [];
  for (const { metadata, original, views } of samples) {
    files.push({ key: String(metadata.index).padStart(9, '0'), files: { 'orig.png': await encodePng(original), 'view0.png': await encodePng(views[0]!), json: Buffer.from(JSON.stringify(metadata)) } });
  }
  await store.put('views/v/shard-00000.tar', writeSamples(files.slice(0, 12)));
  await store.put('views/v/shard-00001.tar', writeSamples(files.slice(12)));
  await writeJson(store, 'views/v/plan.json', { images: { train: 20, val: 0, quarantined: 0 }, quarantined: [], proportionHistogram: [], levelHistogram: {}, shards: 2 } satisfies ViewsPlan);
  await writeJson(store, 'foreground/f/foreground.json', {
    vector: [0.8, -0.6, 0], mean: [0, 0, 0], explained: 1, threshold: 0, quantile: 0.6, sign: { centre: 0, border: 0, flipped: false }, grid: [4, 4], images: 20, normalizeTokens: false, skipped: 0,
  } satisfies ForegroundModel);
  const recipe = {
    name: 'test', seed: 4, foreground: { encoder: { model: pathToFileURL(model).href, imageSize: 8 } },
    variants: Object.entries(variants).map(([name, pretraining]) => ({ name, pretraining })),
  } as unknown as Recipe;
  await writeJson(store, 'runs/r/recipe.json', { runId: 'r', store: `${pathToFileURL(root).href}/`, recipe, models: { encoder: '', generator: '' } } satisfies ResolvedRun);
  await writeJson(store, 'runs/r/plan.json', {
    dataset: 'datasets/d/', foreground: 'foreground/f/', analysis: 'analysis/a/', views: 'views/v/', similarity: 'similarity/s/', shards: 2,
    variants: Object.keys(variants).map((name) => ({ name, pretrain: `pretrain/${name}/`, evaluate: `evaluate/${name}/` })),
  } satisfies RunPlan);
  runUrl = `${pathToFileURL(root).href}/runs/r/`;
});
afterAll(async () => { await rm(root, { recursive: true, force: true }); });

async function metricsOf(variant: string): Promise<StepMetrics[]> {
  const lines: StepMetrics[] = [];
  for await (const line of readLines<StepMetrics>(openStore(root), `pretrain/${variant}/metrics.jsonl`)) lines.push(line);
  return lines;
}

describe('pretrain stage', () => {
  it('trains a variant once, and leaves a finished one alone', async () => {
    const store = openStore(root);
    await pretrain({ run: runUrl, variant: 'baseline' }, context);
    expect(await store.head('pretrain/baseline/.done')).toBeDefined();
    expect(await store.head('pretrain/baseline/.done.lease')).toBeUndefined();
    expect((await metricsOf('baseline')).map((m) => m.step)).toEqual([0, 1, 2, 3]);
    expect(decodeSafetensors(await store.get('pretrain/baseline/encoder.safetensors'), 'encoder').tensors['conv1.weight']!.shape).toEqual([8, 3, 3, 3]);
    expect(await readJson(store, 'pretrain/baseline/encoder.json')).toMatchObject({ imageSize: 16, mean: baseline.augmentation.mean });
    const before = (await store.head('pretrain/baseline/encoder.safetensors'))!.etag;
    await pretrain({ run: runUrl, variant: 'baseline' }, context);
    expect((await store.head('pretrain/baseline/encoder.safetensors'))!.etag).toBe(before);
  });

  it('weighs pairs by what the foreground encoder sees of both views', async () => {
    await pretrain({ run: runUrl, variant: 'quality' }, context);
    await pretrain({ run: runUrl, variant: 'half-quality' }, context);
    const metrics = await metricsOf('quality'), half = await metricsOf('half-quality');
    for (const { quality } of metrics) { expect(quality).toBeGreaterThan(-2); expect(quality).toBeLessThan(2); }
    expect(new Set(metrics.map((m) => m.quality)).size).toBe(4);
    // The same pairs, other weights.
    expect(half[0]!.quality).toBe(metrics[0]!.quality);
    expect(half[0]!.accuracy).toBe(metrics[0]!.accuracy);
    expect(half[0]!.loss).not.toBe(metrics[0]!.loss);
  });

  it('refuses an unknown variant and a wrong number of processes', async () => {
    await expect(pretrain({ run: runUrl, variant: 'other' }, context)).rejects.toThrow('the recipe has no variant "other"; it has baseline, quality, half-quality, two');
    await expect(pretrain({ run: runUrl, variant: 'two' }, context)).rejects.toThrow('variant two asks for pretraining.nodes 2 but 1 processes run; start as many as the recipe says');
  });
});
