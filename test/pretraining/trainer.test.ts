import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { singleProcess } from '../../src/distributed/singleProcess.ts';
import { silentLog } from '../../src/log.ts';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import { train, type TrainOptions } from '../../src/pretraining/trainer.ts';
import type { PretrainingRecipe } from '../../src/recipe/recipe.ts';
import type { StepMetrics } from '../../src/stages/contract.ts';
import { openStore } from '../../src/storage/index.ts';
import { pretrainingRecipe, syntheticSamples, syntheticSource } from '../fixtures/pretraining/synthetic.ts';
import { logOfSteps, type Job } from '../fixtures/pretraining/train.ts';

let root: string;
beforeAll(async () => { root = await mkdtemp(path.join(tmpdir(), 'genview-trainer-')); });
afterAll(async () => { await rm(root, { recursive: true, force: true }); });

const artefacts = ['encoder.safetensors', 'encoder.json', 'metrics.jsonl', 'checkpoint.safetensors'];
const read = (name: string, file: string) => readFile(path.join(root, name, 'pretrain/x', file));
const metricsOf = async (name: string) => (await read(name, 'metrics.jsonl')).toString().trim().split('\n').filter(Boolean).map((line) => JSON.parse(line) as StepMetrics);

async function trained(name: string, overrides: Partial<PretrainingRecipe>, more: Partial<TrainOptions> = {}): Promise<void> {
  await train({
    recipe: pretrainingRecipe(overrides), seed: 11, source: syntheticSource(syntheticSamples(20, 16)), collective: singleProcess(), store: openStore(path.join(root, name)),
    prefix: 'pretrain/x/', threads: 1, signal: new AbortController().signal, log: silentLog, ...more,
  });
}

async function sameArtefacts(a: string, b: string): Promise<void> {
  for (const file of artefacts) expect((await read(a, file)).equals(await read(b, file)), file).toBe(true);
}

/** Runs the training process of the fixture; resolves to its exit status or signal. */
async function process_(job: Job): Promise<number | string> {
  const child = spawn(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('../fixtures/pretraining/train.ts', import.meta.url)), JSON.stringify(job)], { stdio: ['ignore', 'ignore', 'pipe'] });
  return new Promise((resolve) => { child.on('exit', (code, signal) => resolve(signal ?? code!)); });
}

describe('trainer', () => {
  it('writes the encoder with its normalisation, and a line of metrics a step', async () => {
    await trained('plain', {});
    const recipe = pretrainingRecipe({});
    const { tensors, metadata } = decodeSafetensors(await read('plain', 'encoder.safetensors'), 'encoder.safetensors');
    expect(tensors['conv1.weight']!.shape).toEqual([8, 3, 3, 3]);
    expect(tensors['bn1.running_mean']!.shape).toEqual([8]);
    expect(Object.keys(tensors).some((name) => name.startsWith('projector') || name.startsWith('momentum'))).toBe(false);
    expect(JSON.parse(metadata['mean']!)).toEqual(recipe.augmentation.mean);
    expect(JSON.parse((await read('plain', 'encoder.json')).toString())).toEqual({
      backbone: recipe.backbone, imageSize: 16, mean: recipe.augmentation.mean, std: recipe.augmentation.std, method: 'mocov2', epochs: 2,
    });
    // 20 samples, batch 8: two steps an epoch, the rest dropped.
    const metrics = await metricsOf('plain');
    expect(metrics.map(({ step, epoch }) => [step, epoch])).toEqual([[0, 0], [1, 0], [2, 1], [3, 1]]);
    expect(metrics[0]).toMatchObject({ learningRate: 0.05, ema: 0.99 });
    expect(metrics[2]!.learningRate).toBeCloseTo(0.025, 12);
  });

  it('gives identical bytes when run again, and when killed and continued', async () => {
    await trained('again', {});
    await sameArtefacts('plain', 'again');
    // The checkpoint is at step 3 of 4; the kill comes before it (start again) and after it (continue).
    const job: Job = { folder: path.join(root, 'killed'), recipe: {}, samples: 20 };
    expect(await process_({ ...job, killAt: 2 })).toBe('SIGKILL');
    expect(await process_({ ...job, killAt: 4 })).toBe('SIGKILL');
    expect((await metricsOf('killed')).length).toBe(3);
    expect(await process_(job)).toBe(0);
    await sameArtefacts('plain', 'killed');
  });

  it('writes a checkpoint when asked to stop, and continues from it', async () => {
    const stop = new AbortController();
    await expect(trained('stopped', { checkpointSteps: 100 }, { signal: stop.signal, log: logOfSteps((count) => { if (count === 1) stop.abort(); }) }))
      .rejects.toMatchObject({ code: 'Interrupted', exitCode: 75 });
    expect(await metricsOf('stopped')).toHaveLength(1);
    let steps = 0;
    await trained('stopped', { checkpointSteps: 100 }, { log: logOfSteps(() => { steps++; }) });
    expect(steps).toBe(3);
    await sameArtefacts('plain', 'stopped');
  });

  it('trains the same without generated views as with probability 0 (spec §13.2)', async () => {
    await trained('off', { views: { probability: 0, order: 'random' } });
    await trained('none', { views: { probability: 1, order: 'random' } }, { source: syntheticSource(syntheticSamples(20, 16, 0)) });
    await sameArtefacts('off', 'none');
    expect((await read('off', 'encoder.safetensors')).equals(await read('plain', 'encoder.safetensors'))).toBe(false);
  });

  it('weighs pairs by their quality; equal qualities change nothing (spec §13.3)', async () => {
    const qualityLoss = { enabled: true, gamma: 1 };
    await trained('equal', { qualityLoss }, { scorer: async (view1) => new Float32Array(view1.shape[0]!).fill(0.25) });
    expect((await read('equal', 'encoder.safetensors')).equals(await read('plain', 'encoder.safetensors'))).toBe(true);
    expect((await metricsOf('equal')).map((m) => m.quality)).toEqual([0.25, 0.25, 0.25, 0.25]);
    await trained('weighted', { qualityLoss }, { scorer: async (view1) => Float32Array.from({ length: view1.shape[0]! }, (_, i) => i % 2) });
    const [plain] = await metricsOf('plain'), [weighted] = await metricsOf('weighted');
    expect(weighted!.quality).toBe(0.5);
    expect(weighted!.accuracy).toBe(plain!.accuracy);
    expect(weighted!.loss).not.toBeCloseTo(plain!.loss, 4);
  });

  it('writes the random initialisation with 0 epochs', async () => {
    await trained('random', { epochs: 0 });
    const { tensors } = decodeSafetensors(await read('random', 'encoder.safetensors'), 'encoder.safetensors');
    expect([...tensors['bn1.weight']!.data]).toEqual(Array(8).fill(1));
    expect(await metricsOf('random')).toEqual([]);
  });

  it.each([
    ['mocov2', {}, 2.4, 0.3],
    ['mocov3', { optimizer: { name: 'lars', learningRate: 1, momentum: 0.9, weightDecay: 1e-6, trust: 0.005, form: 'moco-v3' }, ema: { base: 0.9, schedule: 'cosine' } }, 1, 0.6],
  ] as const)('%s lowers the loss and finds the positives on a tiny set', async (method, overrides, loss, accuracy) => {
    const name = `learns-${method}`;
    await trained(name, {
      method, epochs: 20, batch: 16, checkpointSteps: 1000, views: { probability: 0, order: 'random' }, head: { hidden: 32, output: 32 }, ...overrides,
      augmentation: { ...pretrainingRecipe({}).augmentation, minScale: 0.5, jitter: [0.2, 0.2, 0.2, 0.02], grayscaleProbability: 0, solarizeProbability: [0, 0] },
    }, { source: syntheticSource(syntheticSamples(64, 16)) });
    const last = (await metricsOf(name)).slice(-16);
    // Chance: ln 33 = 3.50 and 1/33; 4τ·ln 16 = 2.22 and 1/16.
    expect(last.reduce((sum, m) => sum + m.loss, 0) / 16).toBeLessThan(loss);
    expect(last.reduce((sum, m) => sum + m.accuracy, 0) / 16).toBeGreaterThan(accuracy);
  });

  it('says what to do when there are too few images or the loss runs away', async () => {
    await expect(trained('few', { batch: 32 })).rejects.toThrow('20 training images do not fill one batch of 32; lower pretraining.batch or add images');
    await expect(trained('wild', { epochs: 20, optimizer: { name: 'sgd', learningRate: 1e20, momentum: 0.9, weightDecay: 1e-4 } })).rejects.toThrow(/the loss became (NaN|-?Infinity) at step \d+ \(epoch \d+\); lower pretraining\.optimizer\.learningRate/);
  });
});
