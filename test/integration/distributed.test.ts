import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import type { PretrainingRecipe } from '../../src/recipe/recipe.ts';
import type { StepMetrics } from '../../src/stages/contract.ts';
import { writeRun } from '../fixtures/pretraining/run.ts';
import { pretrainingRecipe } from '../fixtures/pretraining/synthetic.ts';
import type { Job } from '../fixtures/pretraining/train.ts';

let root: string;
beforeAll(async () => { root = await mkdtemp(path.join(tmpdir(), 'genview-distributed-')); });
afterAll(async () => { await rm(root, { recursive: true, force: true }); });

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts a process for each list of arguments, with the variables of an AWS Batch multi-node job; resolves to their exit statuses or signals. */
async function nodes(processes: readonly (readonly string[])[], more: NodeJS.ProcessEnv = {}): Promise<(number | string)[]> {
  const port = await freePort();
  return Promise.all(processes.map((argv, rank) => {
    const env = processes.length === 1 ? process.env : {
      ...process.env, GENVIEW_RENDEZVOUS_PORT: String(port), AWS_BATCH_JOB_ID: 'test', AWS_BATCH_JOB_NODE_INDEX: String(rank), AWS_BATCH_JOB_NUM_NODES: String(processes.length),
      AWS_BATCH_JOB_MAIN_NODE_INDEX: '0', GENVIEW_THREADS: '1', ...(rank > 0 && { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' }), ...more,
    };
    const child = spawn(process.execPath, ['--import', 'tsx', ...argv], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => { errors += chunk.toString(); });
    return new Promise<number | string>((resolve) => child.on('exit', (code, signal) => {
      if (code === 1 || code === 2) console.error(errors);
      resolve(signal ?? code!);
    }));
  }));
}

const program = (url: string): string => fileURLToPath(new URL(url, import.meta.url));
const processes = (jobs: readonly Job[], more: NodeJS.ProcessEnv = {}): Promise<(number | string)[]> => nodes(jobs.map((job) => [program('../fixtures/pretraining/train.ts'), JSON.stringify(job)]), more);

const file = (name: string, key: string) => readFile(path.join(root, name, 'pretrain/x', key));
const metricsOf = async (name: string) => (await file(name, 'metrics.jsonl')).toString().trim().split('\n').map((line) => JSON.parse(line) as StepMetrics);

const recipes: [string, Partial<PretrainingRecipe>][] = [
  ['mocov2', { method: 'mocov2' }],
  ['mocov3', { method: 'mocov3', optimizer: { name: 'lars', learningRate: 1, momentum: 0.9, weightDecay: 1e-6, trust: 0.005, form: 'mmpretrain' }, ema: { base: 0.9, schedule: 'cosine' } }],
];

describe('pretraining on several processes', () => {
  it.each(recipes)('%s: two processes equal one to 1e-5 without batch norm', async (name, overrides) => {
    const recipe: Partial<PretrainingRecipe> = { ...overrides, backbone: { name: 'resnet-small', stem: 'cifar', width: 8, norm: 'none' }, epochs: 3 };
    const job = (folder: string): Job => ({ folder: path.join(root, folder), recipe, samples: 24 });
    expect(await processes([job(`${name}-1`)])).toEqual([0]);
    expect(await processes([job(`${name}-2`), job(`${name}-2`)])).toEqual([0, 0]);
    const one = await metricsOf(`${name}-1`), two = await metricsOf(`${name}-2`);
    expect(two).toHaveLength(9);
    for (const [i, line] of one.entries()) {
      expect(Math.abs(two[i]!.loss / line.loss - 1), `loss of step ${i}`).toBeLessThan(1e-5);
      expect(two[i]!.accuracy, `accuracy of step ${i}`).toBeCloseTo(line.accuracy, 6);
    }
    const expected = decodeSafetensors(await file(`${name}-1`, 'checkpoint.safetensors'), 'one').tensors;
    const actual = decodeSafetensors(await file(`${name}-2`, 'checkpoint.safetensors'), 'two').tensors;
    expect(Object.keys(actual)).toEqual(Object.keys(expected));
    for (const [tensor, { data }] of Object.entries(expected)) {
      let difference = 0, size = 0;
      for (let i = 0; i < data.length; i++) { difference = Math.max(difference, Math.abs(actual[tensor]!.data[i]! - data[i]!)); size = Math.max(size, Math.abs(data[i]!)); }
      expect(difference, tensor).toBeLessThanOrEqual(1e-5 * Math.max(1, size));
    }
  });

  it('ends every process with 75 when one is lost, and continues from the checkpoint to the same bytes', async () => {
    const job = (folder: string, killAt?: number): Job => ({ folder: path.join(root, folder), recipe: { method: 'mocov2', epochs: 3 }, samples: 24, ...(killAt !== undefined && { killAt }) });
    expect(await processes([job('undisturbed'), job('undisturbed')])).toEqual([0, 0]);
    const start = performance.now();
    // Steps count from the last checkpoint (every 3 steps) in each process.
    expect(await processes([job('disturbed'), job('disturbed', 5)], { GENVIEW_PEER_TIMEOUT: '600' })).toEqual([75, 'SIGKILL']);
    // Not by a silence of ten minutes.
    expect(performance.now() - start).toBeLessThan(300_000);
    expect(await processes([job('disturbed'), job('disturbed')])).toEqual([0, 0]);
    for (const key of ['encoder.safetensors', 'encoder.json', 'metrics.jsonl', 'checkpoint.safetensors']) {
      expect((await file('disturbed', key)).equals(await file('undisturbed', key)), key).toBe(true);
    }
  });

  it('runs as the stage of a two-node job, skips when done on every node, and takes part in the quality weights', async () => {
    const quality = { qualityLoss: { enabled: true, gamma: 1 }, backbone: { name: 'resnet-small', stem: 'cifar', width: 8, norm: 'none' } } as const;
    const folder = path.join(root, 'stage');
    const run = await writeRun(folder, { one: pretrainingRecipe(quality), two: pretrainingRecipe({ ...quality, nodes: 2 }) });
    const argv = (variant: string): string[] => [program('../../containers/pretraining/main.ts'), 'pretrain', '--run', run, '--variant', variant];
    expect(await nodes([argv('one')])).toEqual([0]);
    expect(await nodes([argv('two'), argv('two')])).toEqual([0, 0]);
    expect(await nodes([argv('two'), argv('two')])).toEqual([0, 0]);
    const lines = async (variant: string) => (await readFile(path.join(folder, 'pretrain', variant, 'metrics.jsonl'))).toString().trim().split('\n').map((line) => JSON.parse(line) as StepMetrics);
    const one = await lines('one'), two = await lines('two');
    expect(two).toHaveLength(4);
    for (const [i, line] of one.entries()) {
      expect(two[i]!.quality, `quality of step ${i}`).toBeCloseTo(line.quality!, 6);
      expect(Math.abs(two[i]!.loss / line.loss - 1), `loss of step ${i}`).toBeLessThan(1e-5);
    }
  });

  it('runs several processes on a machine, one for each of its GPUs, to the bytes of as many machines with one', async () => {
    const recipe = pretrainingRecipe({ nodes: 3, batch: 6, backbone: { name: 'resnet-small', stem: 'cifar', width: 8, norm: 'none' } });
    const runs = await Promise.all(['single', 'shared'].map((folder) => writeRun(path.join(root, folder), { three: recipe })));
    const argv = (run: string): string[] => [program('../../containers/pretraining/main.ts'), 'pretrain', '--run', run, '--variant', 'three'];
    expect(await nodes([argv(runs[0]!), argv(runs[0]!), argv(runs[0]!)])).toEqual([0, 0, 0]);
    // The second machine has one process of the two that it could have.
    expect(await nodes([argv(runs[1]!), argv(runs[1]!)], { GENVIEW_PROCESSES_PER_NODE: '2', GENVIEW_PROCESSES: '3', GENVIEW_DEVICE: 'cpu' })).toEqual([0, 0]);
    for (const key of ['encoder.safetensors', 'checkpoint.safetensors', 'metrics.jsonl']) {
      const [single, shared] = await Promise.all(['single', 'shared'].map((folder) => readFile(path.join(root, folder, 'pretrain/three', key))));
      expect(shared!.equals(single!), key).toBe(true);
    }
  });
});
