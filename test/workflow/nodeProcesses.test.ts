import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from '../integration/support/ports.ts';
import { processesOfNode, runNodeProcesses, variablesOf } from '../../src/workflow/nodeProcesses.ts';

const machine = (node: number, machines: number, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({ AWS_BATCH_JOB_NODE_INDEX: String(node), AWS_BATCH_JOB_NUM_NODES: String(machines), AWS_BATCH_JOB_MAIN_NODE_INDEX: '0', ...more });

describe('the processes of a machine', () => {
  it('are one, of one, where nothing is said', () => {
    expect(processesOfNode({})).toEqual({ first: 0, count: 1, size: 1 });
    expect(processesOfNode(machine(1, 3))).toEqual({ first: 1, count: 1, size: 3 });
  });

  it.each([[0, [0, 4]], [1, [4, 4]], [2, [8, 2]]])('machine %i of three with four GPUs has its share of ten processes', (node, [first, count]) => {
    expect(processesOfNode(machine(node, 3, { GENVIEW_PROCESSES_PER_NODE: '4', GENVIEW_PROCESSES: '10' }))).toEqual({ first, count, size: 10 });
  });

  it('count from the main node', () => {
    expect(processesOfNode(machine(0, 2, { AWS_BATCH_JOB_MAIN_NODE_INDEX: '1', GENVIEW_PROCESSES_PER_NODE: '2' }))).toEqual({ first: 2, count: 2, size: 4 });
  });

  it.each([
    [{ GENVIEW_PROCESSES_PER_NODE: 'two' }, /GENVIEW_PROCESSES_PER_NODE is "two": it must be a whole number from 1/],
    [{ GENVIEW_PROCESSES_PER_NODE: '1000000' }, /neither can be above 999999/],
    [{ GENVIEW_PROCESSES_PER_NODE: '2', GENVIEW_PROCESSES: '5' }, /GENVIEW_PROCESSES is 5, but 2 machines with GENVIEW_PROCESSES_PER_NODE=2 have 3 to 4/],
    [{ GENVIEW_PROCESSES_PER_NODE: '2', GENVIEW_PROCESSES: '2' }, /start as many machines as the processes need/],
  ])('%j is refused', (more, message) => {
    expect(() => processesOfNode(machine(1, 2, more))).toThrow(message);
  });

  it('are nodes to their program, each with a GPU of its own', () => {
    const given = { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '10.0.0.1' };
    expect(variablesOf({ first: 0, count: 2, size: 4 }, 0, {})).toMatchObject({ AWS_BATCH_JOB_NODE_INDEX: '0', AWS_BATCH_JOB_NUM_NODES: '4', GENVIEW_DEVICE: 'cuda:0' });
    expect(variablesOf({ first: 0, count: 2, size: 4 }, 0, {})).not.toHaveProperty('AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS');
    expect(variablesOf({ first: 0, count: 2, size: 4 }, 1, {})).toMatchObject({ AWS_BATCH_JOB_NODE_INDEX: '1', GENVIEW_DEVICE: 'cuda:1', AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' });
    // The address that Batch gave stays.
    expect({ ...given, ...variablesOf({ first: 2, count: 2, size: 4 }, 1, given) }).toMatchObject({ AWS_BATCH_JOB_NODE_INDEX: '3', GENVIEW_DEVICE: 'cuda:1', ...given });
    // The process of rank 0 listens where it was told to, and not on every address.
    expect(variablesOf({ first: 0, count: 2, size: 4 }, 1, { GENVIEW_RENDEZVOUS_ADDRESS: '10.0.0.1' })).toMatchObject({ AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '10.0.0.1' });
    expect(variablesOf({ first: 0, count: 2, size: 4 }, 1, { GENVIEW_RENDEZVOUS_ADDRESS: '0.0.0.0' })).toMatchObject({ AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' });
    expect(variablesOf({ first: 0, count: 2, size: 2 }, 1, { GENVIEW_DEVICE: 'cpu', GENVIEW_THREADS: '3' })).toMatchObject({ GENVIEW_DEVICE: 'cpu', GENVIEW_THREADS: '3' });
  });
});

describe('running them', () => {
  let folder: string;
  beforeEach(() => { folder = mkdtempSync(path.join(tmpdir(), 'genview-processes-')); });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Each process runs the code with its rank in `rank`; the second to the fourth of a job of four are here. */
  const run = (code: string, signal = new AbortController().signal, grace = 20_000): { lines: string[]; code: Promise<number> } => {
    const lines: string[] = [];
    const program = `
      const fs = require('node:fs'), folder = ${JSON.stringify(folder)}, rank = Number(process.env.AWS_BATCH_JOB_NODE_INDEX);
      process.on('SIGTERM', () => { fs.appendFileSync(folder + '/stopped', rank + '\\n'); process.exit(75); });
      fs.writeFileSync(folder + '/ready-' + rank, '');
      const wait = () => setTimeout(() => {}, 60_000);
      const whenAllCanBeStopped = (then) => { const timer = setInterval(() => { if ([1, 2, 3].every((r) => fs.existsSync(folder + '/ready-' + r))) { clearInterval(timer); then(); } }, 10); };
      console.log('rank ' + rank);
      ${code}`;
    return { lines, code: runNodeProcesses({ first: 1, count: 3, size: 4 }, { file: process.execPath, args: ['--eval', program], env: process.env, signal, grace, onLine: (line) => lines.push(line) }) };
  };

  it('ends with 0 when all have, and passes on what they write', async () => {
    const { lines, code } = run('');
    expect(await code).toBe(0);
    expect(lines.toSorted()).toEqual(['rank 1', 'rank 2', 'rank 3']);
  });

  it('stops the others when one fails, and ends with its code, not with theirs', async () => {
    const { code } = run('if (rank === 2) whenAllCanBeStopped(() => process.exit(2)); else wait();');
    expect(await code).toBe(2);
    expect(readFileSync(path.join(folder, 'stopped'), 'utf8').split('\n').toSorted()).toEqual(['', '1', '3']);
  });

  it('end on every machine with the error of one of them, which each names', async () => {
    const port = String(await freePort()), rank = fileURLToPath(new URL('../distributed/rank.ts', import.meta.url)), lines: string[][] = [[], []];
    const codes = await Promise.all([0, 1].map((node) => {
      const env = { ...process.env, ...machine(node, 2), AWS_BATCH_JOB_ID: `job#${node}`, AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1', GENVIEW_RENDEZVOUS_PORT: port, GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1' };
      // Rank 1, on machine 0, is the one that fails.
      return runNodeProcesses({ first: node * 2, count: 2, size: 4 }, { file: process.execPath, args: ['--import', 'tsx', rank, 'fail'], env, signal: new AbortController().signal, grace: 5000, onLine: (line) => lines[node]!.push(line) });
    }));
    expect(codes).toEqual([2, 2]);
    // The first to end has the other of its machine stopped.
    expect(lines[0]!.join('\n')).toContain('shard-00001.tar: sample 7 has no .json"}');
    expect(lines[1]).toContain('{"code":"ShardUnreadable","message":"rank 1 of 4 (node 0): shard-00001.tar: sample 7 has no .json"}');
  });

  it('ends with 75 when one lost its peer, and with 137 when one was killed', async () => {
    expect(await run('if (rank === 1) whenAllCanBeStopped(() => process.exit(75)); else wait();').code).toBe(75);
    expect(await run("if (rank === 1) whenAllCanBeStopped(() => process.kill(process.pid, 'SIGKILL')); else wait();").code).toBe(137);
  });

  it('ends with 75 when one lost its peer and another had to be killed, since it did not stop', async () => {
    const deaf = "process.removeAllListeners('SIGTERM'); process.on('SIGTERM', () => {}); fs.writeFileSync(folder + '/deaf', ''); wait();";
    const { code } = run(`if (rank === 1) { const timer = setInterval(() => { if (fs.existsSync(folder + '/deaf')) { clearInterval(timer); whenAllCanBeStopped(() => process.exit(75)); } }, 10); } else if (rank === 2) { ${deaf} } else wait();`, undefined, 300);
    expect(await code).toBe(75);
  });

  it('ends with 75 when it is stopped', async () => {
    const stop = new AbortController(), { lines, code } = run('wait();', stop.signal);
    while (lines.length < 3) await new Promise((resolve) => { setTimeout(resolve, 20); });
    stop.abort(new Error('enough'));
    expect(await code).toBe(75);
    expect(readFileSync(path.join(folder, 'stopped'), 'utf8').split('\n').toSorted()).toEqual(['', '1', '2', '3']);
  });
});
