import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeRun } from '../fixtures/pretraining/run.ts';
import { pretrainingRecipe } from '../fixtures/pretraining/synthetic.ts';
import { artefactsOf, leftoversOf } from './support/artefacts.ts';
import { freePort } from './support/ports.ts';

const program = fileURLToPath(new URL('../../containers/pretraining/main.ts', import.meta.url));
let root: string;
beforeAll(() => { root = mkdtempSync(path.join(tmpdir(), 'genview-nodes-')); });
afterAll(() => rmSync(root, { recursive: true, force: true }));

interface Node { readonly child: ChildProcess; text: string; readonly ended: Promise<{ end: number | NodeJS.Signals; at: number }> }

/** The two processes of a 2-node job, each the real program with the variables that AWS Batch sets. */
async function startNodes(run: string, attempt: number): Promise<[Node, Node]> {
  const port = await freePort();
  const start = (rank: number): Node => {
    const child = spawn(process.execPath, ['--import', 'tsx', program, 'pretrain', '--run', run, '--variant', 'two'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env, GENVIEW_THREADS: '1', GENVIEW_RENDEZVOUS_PORT: String(port), GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1',
        AWS_BATCH_JOB_ID: `job#${rank}`, AWS_BATCH_JOB_ATTEMPT: String(attempt), AWS_BATCH_JOB_NODE_INDEX: String(rank), AWS_BATCH_JOB_NUM_NODES: '2', AWS_BATCH_JOB_MAIN_NODE_INDEX: '0',
        ...(rank > 0 && { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' }),
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
});
