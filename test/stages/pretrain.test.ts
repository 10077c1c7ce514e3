import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import type { PretrainingRecipe } from '../../src/recipe/recipe.ts';
import type { StageContext, StepMetrics } from '../../src/stages/contract.ts';
import { pretrain } from '../../src/stages/pretrain.ts';
import { openStore, readJson, readLines } from '../../src/storage/index.ts';
import { writeRun } from '../fixtures/pretraining/run.ts';
import { pretrainingRecipe } from '../fixtures/pretraining/synthetic.ts';

let root: string, runUrl: string;
const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };
const baseline = pretrainingRecipe({ views: { probability: 0, order: 'random' } });
const variants: Record<string, PretrainingRecipe> = {
  baseline,
  quality: pretrainingRecipe({ qualityLoss: { enabled: true, gamma: 1 } }),
  'half-quality': pretrainingRecipe({ qualityLoss: { enabled: true, gamma: 0.5 } }),
  two: pretrainingRecipe({ nodes: 2 }),
};

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'genview-pretrain-'));
  runUrl = await writeRun(root, variants);
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
