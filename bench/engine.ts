import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GenViewError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import { rows } from './engine/rows.ts';

/** A process that does one step for every line it is given. */
interface Peer {
  readonly name: string;
  /** Seconds of one step, and the peak memory of the process so far in MiB. */
  step(): Promise<{ seconds: number; memory: number }>;
  close(): void;
}

const file = (name: string): string => fileURLToPath(new URL(`engine/${name}`, import.meta.url));

/** Resolves when the process is warm; undefined when it cannot start (the reason is logged). */
async function open(name: string, command: string, args: readonly string[], environment: NodeJS.ProcessEnv, log: Log): Promise<Peer | undefined> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
  let problem = '';
  child.on('error', (error) => { problem = error.message; });
  child.stderr.on('data', (text: Buffer) => { problem = (problem + text.toString()).slice(-2000); });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await lines.next();
    if (done) {
      log.warn(`${name} is left out: ${problem.trim().split('\n').at(-1) ?? 'it ended'}`);
      return undefined;
    }
    if (value === 'ready') break;
  }
  return {
    name,
    async step() {
      child.stdin.write('\n');
      const { value, done } = await lines.next();
      if (done) throw new GenViewError('PeerEnded', `${name} ended in the middle: ${problem.trim()}`);
      const [seconds, memory] = value.split(' ').map(Number) as [number, number];
      return { seconds, memory };
    },
    close() { child.stdin.end(); child.kill(); },
  };
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/**
 * `npm run bench -- engine [--rows a,b] [--threads 2] [--rounds 7] [--warmup 2] [--python FILE] [--tfjs-node DIR]`: seconds a step and peak memory of our
 * engine, of PyTorch (CPU, NCHW and channels_last) where `--python` names a Python that has it, and of tfjs-node where `--tfjs-node` names the
 * package. The sides take turns, step by step, in one run; medians.
 */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({
    args, options: {
      rows: { type: 'string', default: Object.keys(rows).join() }, threads: { type: 'string', default: '2' }, rounds: { type: 'string', default: '7' },
      warmup: { type: 'string', default: '2' }, python: { type: 'string' }, 'tfjs-node': { type: 'string' },
    },
  });
  const { threads, warmup, python } = values, tfjsNode = values['tfjs-node'];
  const lines: string[] = [];
  for (const key of values.rows.split(',')) {
    const row = rows[key];
    if (!row) throw new GenViewError('OptionInvalid', `--rows: there is no ${key}; rows are ${Object.keys(rows).join(', ')}`);
    log.info(`${row.label}, batch ${row.batch}, ${threads} threads`);
    const ours = [process.execPath, ['--import', 'tsx', file('ours.ts'), key, threads, warmup]] as const;
    const started = [
      await open('genview', ...ours, { GENVIEW_EXECUTOR: 'onnxruntime' }, log),
      ...tfjsNode ? [await open('tfjs-node', ...ours, { GENVIEW_EXECUTOR: 'tensorflow', GENVIEW_TFJS_NODE: tfjsNode }, log)] : [],
      ...python ? await Promise.all(['nchw', 'channels_last'].map((layout) => open(`PyTorch ${layout}`, python, [file('peer.py'), key, threads, layout, warmup], {}, log))) : [],
    ].filter((peer) => peer !== undefined);
    const measured = new Map(started.map((peer) => [peer, { seconds: [] as number[], memory: 0 }]));
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const peer of started) {
        const { seconds, memory } = await peer.step(), sums = measured.get(peer)!;
        sums.seconds.push(seconds);
        sums.memory = memory;
      }
    }
    for (const peer of started) peer.close();
    const results = [...measured].map(([peer, { seconds, memory }]) => ({ name: peer.name, seconds: median(seconds), memory }));
    const own = results.find(({ name }) => name === 'genview');
    const torch = results.filter(({ name }) => name.startsWith('PyTorch')).toSorted((a, b) => a.seconds - b.seconds)[0];
    for (const { name, seconds, memory } of results) lines.push(`| ${row.label} | ${row.batch} | ${name} | ${(seconds * 1000).toFixed(0)} ms | ${memory.toFixed(0)} MiB |`);
    if (own && torch) lines.push(`| | | genview against the best PyTorch | ${(torch.seconds / own.seconds).toFixed(2)}x as fast | ${(own.memory / torch.memory).toFixed(2)}x the memory |`);
  }
  console.log(['| work | batch | engine | a step | peak memory |', '| --- | --- | --- | --- | --- |', ...lines].join('\n'));
}
