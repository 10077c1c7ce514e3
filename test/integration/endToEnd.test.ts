import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os, { availableParallelism } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSamples } from '../../src/dataset/samples.ts';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import type { ReportData } from '../../src/report/data.ts';
import type { AnalyzedImage, RunPlan } from '../../src/stages/contract.ts';
import { openStore } from '../../src/storage/index.ts';
import { artefactsIn, artefactsOf, finishedIn, leftoversOf, matching, versionsOf, watchVersions } from './support/artefacts.ts';
import { installMoto, startMoto } from './support/moto.ts';
import { complaint, killWhen, type Outcome, processesLeft, run, startRun } from './support/program.ts';
import { makeSmallRun, type SmallRun } from './support/smallRun.ts';

/** One run that nothing disturbs; every other one must leave the same bytes. */
let small: SmallRun, reference: string, outcome: Outcome, plan: RunPlan, expected: Record<string, string>;

beforeAll(async () => {
  small = await makeSmallRun();
  reference = small.store('reference');
  outcome = await run(small.recipe, reference);
  if (outcome.code !== 0) throw new Error(`the run failed:\n${outcome.stderr}`);
  plan = json<RunPlan>('plan.json');
  expected = artefactsOf(reference);
  console.log(`undisturbed run: ${outcome.seconds.toFixed(0)} s`);
});
afterAll(() => rmSync(small.folder, { recursive: true, force: true }));

/** Of the only run in a store. */
const runFolder = (store = reference): string => path.join(store, 'runs', readdirSync(path.join(store, 'runs'))[0]!);
const json = <T>(name: string): T => JSON.parse(readFileSync(path.join(runFolder(), name), 'utf8')) as T;
const lines = (file: string): string[] => readFileSync(file, 'utf8').split('\n').filter((line) => line !== '');
/** Messages in the logs of a run whose names begin with `program`. */
const messages = (store: string, program: string): string[] => readdirSync(path.join(runFolder(store), 'logs')).filter((name) => name.startsWith(program))
  .flatMap((name) => lines(path.join(runFolder(store), 'logs', name)))
  .map((line) => (JSON.parse(line) as { message: string }).message);
const pretrainOf = (variant: string): string => plan.variants.find(({ name }) => name === variant)!.pretrain;
/** Lines that say how much of some work is done. */
const work = /\d+\/\d+ (images|steps|epochs)/;

describe('a run of a small dataset with every kind of odd image in it', () => {
  it('succeeds, prints the table of variants, and leaves a report', () => {
    expect(outcome.stdout).toMatch(/^baseline .*\n^genview /m);
    expect(readFileSync(path.join(runFolder(), 'report.html'), 'utf8')).toContain('</html>');
    expect(json<Required<ReportData>>('report.json').variants.map(({ name }) => name)).toEqual(['baseline', 'genview']);
    expect(leftoversOf(reference)).toEqual([]);
  });

  it('accounts for every image that is in the folder', async () => {
    const files = matching(path.join(small.folder, 'images'), /^(train|val)\/[^/]+\/./);
    expect(files).toHaveLength(small.listed.train + small.listed.val);
    const analysed = Array.from({ length: plan.shards }, (_, shard) => lines(path.join(reference, plan.analysis, `shard-0000${shard}.jsonl`))).flat().map((line) => JSON.parse(line) as AnalyzedImage);
    expect(analysed.map((image) => image.path).toSorted()).toEqual(files.toSorted());

    const { images } = json<Required<ReportData>>('report.json');
    expect(images.train + images.val + images.quarantined).toBe(files.length);
    const store = openStore(reference), used = [];
    for (let shard = 0; shard < plan.shards; shard++) {
      for await (const { files: parts } of readSamples(store, `${plan.views}shard-0000${shard}.tar`)) {
        const { path: file, split } = JSON.parse(Buffer.from(parts['json']!).toString()) as { path: string; split: string };
        const original = Object.entries(parts).find(([name]) => name.startsWith('orig.'))![1];
        expect(Buffer.from(original).equals(readFileSync(path.join(small.folder, 'images', file))), file).toBe(true);
        expect('view0.png' in parts, file).toBe(split === 'train');
        used.push(file);
      }
    }
    const bad = Object.keys(small.odd.unreadable);
    expect(used.toSorted()).toEqual(files.filter((file) => !bad.includes(file)).toSorted());
    for (const file of small.odd.usable) expect(used).toContain(file);
  });

  it('quarantines what cannot be read, with the reason, and counts it in the report', () => {
    const { images, quarantined } = json<Required<ReportData>>('report.json');
    expect(Object.fromEntries(quarantined.map(({ path: file, reason }) => [file, reason])))
      .toEqual(Object.fromEntries(Object.entries(small.odd.unreadable).map(([file, reason]) => [file, expect.stringMatching(reason) as string])));
    expect(images.quarantined).toBe(quarantined.length);
    for (const { path: file } of quarantined) expect(outcome.stderr).toContain(`quarantined: ${file}: `);
  });

  it('pretrains one variant on one node, the other on two', () => {
    const names = readdirSync(path.join(runFolder(), 'logs')).filter((name) => name.startsWith('pretrain'));
    expect(names.toSorted()).toEqual(['pretrain-baseline.log', 'pretrain-genview-node-0.log', 'pretrain-genview-node-1.log']);
    for (const rank of [0, 1]) expect(messages(reference, `pretrain-genview-node-${rank}`)).toContain(`rank ${rank} of 2 is connected`);
    for (const variant of ['baseline', 'genview']) {
      // 159 usable training images make 9 batches of 16; 3 epochs.
      const metrics = lines(path.join(reference, pretrainOf(variant), 'metrics.jsonl')).map((line) => JSON.parse(line) as { step: number; loss: number; quality?: number });
      expect(metrics.map(({ step }) => step)).toEqual(Array.from({ length: 27 }, (_, step) => step));
      expect(metrics.every(({ loss, quality }) => Number.isFinite(loss) && (quality !== undefined) === (variant === 'genview'))).toBe(true);
    }
  });

  it('does nothing again when it is run again', async () => {
    const before = versionsOf(reference);
    const again = await run(small.recipe, reference);
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toBe(outcome.stdout);
    expect(again.stderr).not.toMatch(work);
    expect(versionsOf(reference)).toEqual(before);
    console.log(`run again: ${again.seconds.toFixed(0)} s`);
  });
});

describe('kill -9', () => {
  /** One store that is killed at one moment after the other, and then left alone. */
  const killed = (): string => small.store('killed');
  /** What was finished at the last kill. */
  let finished: Record<string, string> = {};
  /** Steps of the checkpoints that the kills left, by variant. */
  const checkpoints: Record<string, number> = {};

  /** Version of the last checkpoint of a variant whose pretraining is not at its end. */
  const checkpoint = (variant: string): string | undefined => {
    const folder = path.join(killed(), pretrainOf(variant));
    const file = statSync(path.join(folder, 'checkpoint.safetensors'), { bigint: true, throwIfNoEntry: false });
    return file && !existsSync(path.join(folder, '.done')) ? String(file.mtimeNs) : undefined;
  };
  /** Some shards are finished, not all. Where there is a core for each they may end all at once: then some have begun. */
  const someShards = (folder: string): string | undefined => {
    const [done, begun] = [/shard-\d+\.done$/, /shard-\d+\.done\.lease$/].map((pattern) => matching(path.join(killed(), folder), pattern).length) as [number, number];
    return done < plan.shards && (done > 0 || (begun > 0 && availableParallelism() >= plan.shards)) ? 'some' : undefined;
  };

  it.each<[string, () => string | undefined]>([
    ['AnalyzeForeground', () => someShards(plan.analysis)],
    ['GenerateViews', () => someShards(plan.views)],
    ['Pretrain', () => checkpoint('baseline')],
    ['Pretrain of two nodes', () => checkpoint('genview')],
  ])('of the runner during %s ends every process; the same command has continued up to there', async (_, middle) => {
    const before = middle();
    await killWhen(startRun(small.recipe, killed()), () => middle() !== undefined && middle() !== before);
    expect(await processesLeft(killed())).toEqual([]);
    expect(middle()).toBeDefined();
    for (const variant of ['baseline', 'genview'].filter((name) => checkpoint(name) !== undefined)) {
      const file = path.join(killed(), pretrainOf(variant), 'checkpoint.safetensors');
      checkpoints[variant] = Number(decodeSafetensors(readFileSync(file), file).metadata['step']);
    }
    // Nothing that was finished before has been made again, and what is there is what an undisturbed run leaves.
    expect(versionsOf(killed())).toMatchObject(finished);
    finished = finishedIn(killed());
    expect(expected).toMatchObject(Object.fromEntries(Object.entries(artefactsOf(killed())).filter(([key]) => key in finished)));
  });

  it('leaves what the same command ends, to the same bytes, wasting at most the shard or the checkpoint interval in hand', async () => {
    const ended = await run(small.recipe, killed());
    expect(ended.code, ended.stderr).toBe(0);
    expect(artefactsOf(killed())).toEqual(expected);
    expect(versionsOf(killed())).toMatchObject(finished);
    expect(Object.keys(checkpoints)).toEqual(['baseline', 'genview']);
    for (const [variant, step] of Object.entries(checkpoints)) {
      expect(step).toBeGreaterThan(0);
      expect(messages(killed(), variant === 'baseline' ? 'pretrain-baseline' : 'pretrain-genview-node-0').filter((message) => message.startsWith('continues')).at(-1)).toBe(`continues after step ${step} of 27`);
    }
    expect(await processesLeft(killed())).toEqual([]);
  });
});

describe('two runs of the same recipe at once', () => {
  it('both succeed, and every piece of work is done once', async () => {
    const store = small.store('shared');
    const watch = watchVersions(store, /^(analysis\/.*\.jsonl|views\/.*\.tar|evaluate\/.*\.json)$/);
    const both = [startRun(small.recipe, store), startRun(small.recipe, store)];
    for (const { code, stderr, stdout } of await Promise.all(both.map(({ ended }) => ended))) {
      expect(code, stderr).toBe(0);
      expect(stdout.replaceAll(store, reference)).toBe(outcome.stdout);
    }
    const versions = watch.stop();
    expect(artefactsOf(store)).toEqual(expected);
    expect(leftoversOf(store)).toEqual([]);
    expect(Object.keys(versions)).toHaveLength(2 * plan.shards + 6);
    expect(Object.entries(versions).filter(([, of]) => of.length > 1)).toEqual([]);
    for (const log of ['pretrain-baseline', 'pretrain-genview-node-0']) expect(messages(store, log).filter((message) => message.startsWith('continues'))).toEqual([]);
  });
});

const mountable = process.platform === 'linux' && process.getuid?.() === 0 && canMount();
if (!mountable) console.warn('skipped: a full disk needs a small file system, and only root may mount one');

function canMount(): boolean {
  const place = path.join(os.tmpdir(), `genview-mount-${process.pid}`);
  mkdirSync(place);
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', place], { stdio: 'pipe' });
    execFileSync('umount', [place]);
    return true;
  } catch { return false; } finally { rmSync(place, { recursive: true }); }
}

describe.runIf(mountable)('a full disk', () => {
  let store: string;
  beforeAll(() => {
    store = small.store('tiny-disk');
    mkdirSync(store);
    // Enough for the analysis, not for all views.
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=900k', 'tmpfs', store]);
  });
  afterAll(() => { execFileSync('umount', [store]); });

  it('stops the run with one line, and nothing is half-written', async () => {
    const failed = await run(small.recipe, store);
    expect(failed.code).toBe(2);
    expect(complaint(failed)).toMatch(/^genview: file:.*\/views\/.* was not written: no space left on the disk; free some space and run the same command again$/);
    expect(expected).toMatchObject(artefactsOf(store));
    expect(leftoversOf(store)).toEqual([]);
    expect(await processesLeft(store)).toEqual([]);
  });

  it('lets the same command continue when there is space again', async () => {
    const finished = finishedIn(store);
    execFileSync('mount', ['-o', 'remount,size=64m', store]);
    const again = await run(small.recipe, store);
    expect(again.code, again.stderr).toBe(0);
    expect(artefactsOf(store)).toEqual(expected);
    expect(versionsOf(store)).toMatchObject(finished);
  });
});

const noMoto = installMoto();
if (noMoto) console.warn(`skipped: ${noMoto}`);

describe.skipIf(noMoto)('a run whose store is a bucket', () => {
  it('leaves the same bytes as in a folder', async () => {
    const moto = await startMoto('genview-run');
    try {
      Object.assign(process.env, moto.env);
      const inBucket = await run(small.recipe, 's3://genview-run/some/prefix/');
      expect(inBucket.code, inBucket.stderr).toBe(0);
      expect(inBucket.stdout).toMatch(/s3:\/\/genview-run\/some\/prefix\/runs\/small-[0-9a-f]{8}\/report\.html/);
      const store = openStore('s3://genview-run/some/prefix/');
      expect(await artefactsIn(store)).toEqual(expected);
      const keys: string[] = [];
      for await (const { key } of store.list('runs/')) keys.push(path.posix.basename(key));
      expect(keys).toEqual(expect.arrayContaining(['history.jsonl', 'report.html', 'report.json']));
    } finally { moto.stop(); }
  });
});
