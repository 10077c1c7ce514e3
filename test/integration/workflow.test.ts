import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { runLocal } from '../../src/workflow/local.ts';
import { colouredSquare } from './support/squares.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const models = join(root, 'models', 'demo', 'unclip.safetensors');
if (!existsSync(models)) console.warn(`skipped: the embedded models (${models}) are not there; npm run train:demo-models makes them`);

let folder: string;
let recipe: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'workflow-'));
  await drawDataset(join(folder, 'images'));
  recipe = join(folder, 'tiny.yaml');
  writeFileSync(recipe, `
name: tiny
dataset: { url: images, shardSize: 24 }
foreground: { sampleImages: 32 }
generation: { noise: adaptive, steps: 4, guidance: 2, batch: 8 }
pretraining:
  method: mocov2
  backbone: { name: resnet-small, width: 8 }
  epochs: 12
  batch: 16
  queue: 32
  checkpointSteps: 4
  schedule: { warmupEpochs: 1 }
variants:
  - name: baseline
    pretraining: { views: { probability: 0 } }
  - name: genview
    pretraining: { qualityLoss: { enabled: true }, nodes: 2 }
evaluation:
  linear: { epochs: 2, batch: 16 }
  knn: { k: 3 }
  semiSupervised: { fraction: 0.3, epochs: 1, batch: 8 }
`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Three classes of coloured squares on noise, and one file that is no image. */
async function drawDataset(at: string): Promise<void> {
  for (const split of ['train', 'val'] as const) for (const [label, name] of ['red', 'green', 'blue'].entries()) {
    mkdirSync(join(at, split, name), { recursive: true });
    for (let i = 0; i < (split === 'train' ? 24 : 8); i++) {
      writeFileSync(join(at, split, name, `${i}.png`), await colouredSquare(label, split, name, i));
    }
  }
  writeFileSync(join(at, 'train', 'red', 'broken.jpg'), 'this is no picture');
}

const artefactFolders = ['datasets', 'foreground', 'analysis', 'views', 'similarity', 'pretrain', 'evaluate'];
/** Every artefact of a store with the hash of its bytes. */
function artefacts(store: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of artefactFolders) for (const name of readdirSync(join(store, part), { recursive: true, encoding: 'utf8' }).toSorted()) {
    const file = join(store, part, name);
    // What a killed process had begun to write is no object: the store does not list it and removes it at its next listing.
    if (/(^|\/)\.genview-[^/]*\.tmp$/.test(name)) continue;
    if (statSync(file).isFile()) found[`${part}/${name}`] = createHash('sha256').update(readFileSync(file)).digest('hex');
  }
  return found;
}
const local = (store: string, onEvent?: (event: HistoryEvent) => void): Promise<{ run: string; report: string }> =>
  runLocal({ recipe: pathToFileURL(recipe).href, store: pathToFileURL(`${store}/`).href, log: silentLog, signal: new AbortController().signal, ...(onEvent && { onEvent }) });

/** `genview run`, to be killed. */
function start(store: string): { child: ChildProcess; text: () => string; ended: Promise<number | null> } {
  const child = spawn(process.execPath, [join(root, 'bin', 'genview.mjs'), 'run', recipe, '--store', store], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (part: string) => { text += part; });
  return { child, text: () => text, ended: new Promise((resolve) => { child.on('close', resolve); }) };
}
const seconds = (count: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, 1000 * count); });
/** Processes of our programs that belong to a run of this test. */
const programs = (store: string): string[] => readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).filter((pid) => {
  try { const line = readFileSync(join('/proc', pid, 'cmdline'), 'utf8'); return line.includes('/containers/') && line.includes(store); } catch { return false; }
});

describe.skipIf(!existsSync(models))('the whole workflow on this machine', () => {
  let undisturbed: string, expected: Record<string, string>;

  it('goes from a folder of images to a report, with one baseline and one variant on two nodes', async () => {
    undisturbed = join(folder, 'undisturbed');
    const events: HistoryEvent[] = [];
    const { run, report } = await local(undisturbed, (event) => events.push(event));
    expect(readFileSync(fileURLToPath(report), 'utf8')).toContain('<html');
    const at = fileURLToPath(run);
    expect(readdirSync(at).toSorted()).toEqual(['history.jsonl', 'logs', 'plan.json', 'recipe.json', 'report.html', 'report.json']);
    expect(readFileSync(join(at, 'history.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as unknown)).toEqual(events);
    expect(events.at(-1)!.type).toBe('ExecutionSucceeded');
    expect(readdirSync(join(at, 'logs'))).toEqual(expect.arrayContaining(['fit-foreground.log', 'generate-views-00003.log', 'pretrain-baseline.log', 'pretrain-genview-node-0.log', 'pretrain-genview-node-1.log', 'semi-supervised-genview.log']));
    expected = artefacts(undisturbed);
    expect(Object.keys(expected).filter((name) => name.endsWith('.lease'))).toEqual([]);
  });

  it('does nothing again, and changes nothing, when it is run again', async () => {
    const before = statSync(join(undisturbed, Object.keys(expected)[0]!)).mtimeMs;
    await local(undisturbed);
    expect(artefacts(undisturbed)).toEqual(expected);
    expect(statSync(join(undisturbed, Object.keys(expected)[0]!)).mtimeMs).toBe(before);
  });

  it.each<[string, RegExp]>([
    ['AnalyzeForeground', /analyze-foreground 1\/\d+ shards/],
    ['GenerateViews', /generate-views 1\/\d+ shards/],
    ['Pretrain', /pretrain baseline started/],
  ])('continues after kill -9 during %s, to the same bytes', async (stage, moment) => {
    const store = join(folder, `killed-${stage}`);
    const first = start(store);
    const checkpoint = (): boolean => stage !== 'Pretrain' || (existsSync(join(store, 'pretrain')) && readdirSync(join(store, 'pretrain'), { recursive: true, encoding: 'utf8' }).some((name) => name.endsWith('checkpoint.safetensors')));
    while (!moment.test(first.text()) || !checkpoint()) {
      expect(first.child.exitCode, first.text()).toBe(null);
      await seconds(0.02);
    }
    first.child.kill('SIGKILL');
    await first.ended;
    for (let i = 0; programs(store).length > 0; i++) { expect(i, 'processes that outlived the runner').toBeLessThan(300); await seconds(0.2); }
    const again = start(store);
    expect(await again.ended, again.text()).toBe(0);
    expect(artefacts(store)).toEqual(expected);
  });

  it('two runs at once share the work and corrupt nothing', async () => {
    const store = join(folder, 'shared');
    const runs = [start(store), start(store)];
    for (const run of runs) expect(await run.ended, run.text()).toBe(0);
    expect(artefacts(store)).toEqual(expected);
    const [run] = readdirSync(join(store, 'runs'));
    const logs = join(store, 'runs', run!, 'logs');
    for (const name of readdirSync(logs).filter((file) => file.startsWith('generate-views'))) {
      const finished = readFileSync(join(logs, name), 'utf8').split('\n').filter((line) => /generating views of shard \d+ (\d+)\/\1 /.test(line));
      expect(finished.length, `${name}: ${finished.join('\n')}`).toBeLessThanOrEqual(1);
    }
  });

  it('leaves no process behind when it is interrupted, and says how to go on', async () => {
    const store = join(folder, 'interrupted');
    const run = start(store);
    while (!/generate-views \d+ shards started/.test(run.text())) { expect(run.child.exitCode, run.text()).toBe(null); await seconds(0.02); }
    run.child.kill('SIGINT');
    expect(await run.ended).toBe(130);
    expect(run.text()).toContain('run the same command again');
    expect(programs(store)).toEqual([]);
  });

  it("fails with the stage's own message and exit status", async () => {
    const strict = join(folder, 'strict.yaml');
    writeFileSync(strict, readFileSync(recipe, 'utf8').replace('shardSize: 24', 'shardSize: 24, quarantineLimit: 0'));
    const run = spawn(process.execPath, [join(root, 'bin', 'genview.mjs'), 'run', strict, '--store', join(folder, 'strict')], { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    run.stderr.setEncoding('utf8').on('data', (part: string) => { text += part; });
    expect(await new Promise((resolve) => { run.on('close', resolve); })).toBe(2);
    expect(text.trim().split('\n').at(-1)).toContain('quarantine');
    const [id] = readdirSync(join(folder, 'strict', 'runs'));
    expect(existsSync(join(folder, 'strict', 'runs', id!, 'failure.json'))).toBe(true);
  });
});
