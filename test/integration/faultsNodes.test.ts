import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { retries } from '../../src/workflow/batch/localBatch.ts';
import { batchStages } from '../../src/workflow/stages.ts';
import { writeRun } from '../fixtures/pretraining/run.ts';
import { pretrainingRecipe } from '../fixtures/pretraining/synthetic.ts';
import { artefactsOf, leftoversOf } from './support/artefacts.ts';
import { freePort } from './support/ports.ts';

const program = fileURLToPath(new URL('../../containers/pretraining/main.ts', import.meta.url));
let root: string;
beforeAll(() => { root = mkdtempSync(path.join(tmpdir(), 'genview-nodes-')); });
afterAll(() => rmSync(root, { recursive: true, force: true }));

interface Node { readonly child: ChildProcess; text: string; readonly ended: Promise<{ end: number | NodeJS.Signals; at: number }> }

/** The two nodes of a job, each the real program with the variables that AWS Batch sets; node 1 with what `other` says of it. */
async function startNodes(run: string, attempt: number, other: { readonly run?: string; readonly env?: NodeJS.ProcessEnv } = {}, env: NodeJS.ProcessEnv = {}): Promise<[Node, Node]> {
  const port = await freePort();
  const start = (rank: number): Node => {
    const child = spawn(process.execPath, ['--import', 'tsx', program, 'pretrain', '--run', rank > 0 && other.run ? other.run : run, '--variant', 'two'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env, ...env, GENVIEW_THREADS: '1', GENVIEW_RENDEZVOUS_PORT: String(port), GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1',
        AWS_BATCH_JOB_ID: `job#${rank}`, AWS_BATCH_JOB_ATTEMPT: String(attempt), AWS_BATCH_JOB_NODE_INDEX: String(rank), AWS_BATCH_JOB_NUM_NODES: '2', AWS_BATCH_JOB_MAIN_NODE_INDEX: '0',
        ...(rank > 0 && { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1', ...other.env }),
      },
    });
    const node: Node = { child, text: '', ended: new Promise((resolve) => { child.on('exit', (code, signal) => resolve({ end: signal ?? code!, at: performance.now() })); }) };
    child.stderr!.setEncoding('utf8').on('data', (text: string) => { node.text += text; });
    return node;
  };
  return [start(0), start(1)];
}

const ends = async (nodes: readonly Node[]): Promise<(number | string)[]> => (await Promise.all(nodes.map(({ ended }) => ended))).map(({ end }) => end);

describe('a pretraining job of two nodes', () => {
  // Long enough that a node dies in its middle, whatever else the machine does.
  const recipe = pretrainingRecipe({ nodes: 2, epochs: 60, checkpointSteps: 10, schedule: { warmupEpochs: 0 } });
  let expected: Record<string, string>;
  const folderOf = (name: string): string => path.join(root, name);
  const writtenBy = (name: string): Record<string, string> => Object.fromEntries(Object.entries(artefactsOf(folderOf(name))).filter(([key]) => key.startsWith('pretrain/')));

  beforeAll(async () => {
    const nodes = await startNodes(await writeRun(folderOf('quiet'), { two: recipe }), 1);
    expect(await ends(nodes), nodes[0].text).toEqual([0, 0]);
    expected = writtenBy('quiet');
    expect(Object.keys(expected)).toEqual(expect.arrayContaining(['pretrain/two/.done', 'pretrain/two/checkpoint.safetensors', 'pretrain/two/encoder.safetensors', 'pretrain/two/metrics.jsonl']));
  });

  it.each([[1, 'SIGKILL'], [0, 'SIGKILL'], [1, 'SIGTERM'], [0, 'SIGTERM']] as const)('ends with exit status 75 within 10 s when node %i gets %s, and its repetition goes on from the checkpoint to the same bytes', async (victim, signal) => {
    const name = `${victim}-${signal}`, run = await writeRun(folderOf(name), { two: recipe });
    const nodes = await startNodes(run, 1);
    while (!existsSync(path.join(folderOf(name), 'pretrain/two/checkpoint.safetensors'))) {
      expect(nodes.map(({ child }) => child.exitCode), nodes.map(({ text }) => text).join('\n')).toEqual([null, null]);
      await sleep(5);
    }
    const killed = performance.now();
    nodes[victim].child.kill(signal);
    const survivor = await nodes[1 - victim]!.ended;
    const seconds = Math.max(0, survivor.at - killed) / 1000;
    expect(survivor.end, nodes[1 - victim]!.text).toBe(75);
    expect((await nodes[victim].ended).end).toBe(signal === 'SIGKILL' ? 'SIGKILL' : 75);
    expect(seconds).toBeLessThan(10);
    expect(existsSync(path.join(folderOf(name), 'pretrain/two/.done'))).toBe(false);

    const again = await startNodes(run, 2);
    expect(await ends(again), again[0].text).toEqual([0, 0]);
    const [, from, steps] = /continues after step (\d+) of (\d+)/.exec(again[0].text) ?? [];
    expect(Number(from)).toBeGreaterThanOrEqual(10);
    expect(writtenBy(name)).toEqual(expected);
    expect(leftoversOf(folderOf(name)).filter((key) => key.endsWith('.lease'))).toEqual([]);
    console.log(`node ${victim} of 2 gets ${signal}: the other ends with exit status 75 after ${seconds.toFixed(2)} s; the repetition goes on after step ${from} of ${steps}; encoder, checkpoint and metrics equal to those of a quiet run`);
  });

  /** A copy of the run for node 1, whose second shard lacks the metadata of its last sample. */
  const damaged = (name: string): string => {
    const copy = folderOf(`${name}-damaged`), shard = path.join(copy, 'views/v/shard-00001.tar');
    cpSync(folderOf(name), copy, { recursive: true });
    const bytes = readFileSync(shard), at = bytes.lastIndexOf('000000019.json');
    bytes.write('000000019.text', at, 'latin1');
    // The checksum of the tar header counts every byte of it.
    const header = bytes.subarray(at, at + 512).fill(' ', 148, 156);
    header.write(`${header.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    writeFileSync(shard, bytes);
    return `${pathToFileURL(copy).href}/runs/r/`;
  };

  it.each([
    ['a shard that it cannot use', async (name: string) => ({ run: damaged(name) }), /sample 000000019 has no \.json/],
    ['a GPU that it does not have', async () => ({ env: { GENVIEW_DEVICE: 'cuda:99' } }), /device cuda:99 cannot be had/],
  ] as const)('ends with the exit status and the words of node 1 when that fails by %s, and is not tried again', async (what, prepare, words) => {
    const name = what.replaceAll(' ', '-'), run = await writeRun(folderOf(name), { two: recipe });
    const nodes = await startNodes(run, 1, await prepare(name)), since = await nodes[1].ended;
    expect(await ends(nodes), nodes[0].text).toEqual([2, 2]);
    const seconds = Math.max(0, (await nodes[0].ended).at - since.at) / 1000;
    expect(seconds).toBeLessThan(10);
    const last = (node: Node): string => node.text.trim().split('\n').at(-1)!;
    expect(last(nodes[0])).toMatch(/^error: rank 1 of 2 \(node 1\): /);
    for (const node of nodes) expect(last(node)).toMatch(words);
    expect(retries(batchStages['pretrain'].retry, { statusReason: 'Essential container in task exited', reason: '', exitCode: 2 })).toBe(false);
    expect(leftoversOf(folderOf(name)).filter((key) => key.endsWith('.lease'))).toEqual([]);
    console.log(`node 1 of 2 fails by ${what}: the main node ends with exit status 2 ${seconds.toFixed(2)} s later, by: ${last(nodes[0])}`);
  });

  it('has the same end on machines with several processes', async () => {
    const name = 'machines', four = pretrainingRecipe({ nodes: 4, epochs: 60, checkpointSteps: 10, schedule: { warmupEpochs: 0 } }), run = await writeRun(folderOf(name), { two: four });
    const both = { GENVIEW_PROCESSES_PER_NODE: '2', GENVIEW_DEVICE: 'cpu' };
    const nodes = await startNodes(run, 1, { run: damaged(name), env: both }, both);
    expect(await ends(nodes), nodes[0].text).toEqual([2, 2]);
    expect(nodes[0].text).toMatch(/error: rank [23] of 4 \(node 1\): .*sample 000000019 has no \.json/);
  });
});
