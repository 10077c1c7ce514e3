import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { Random } from '../../src/random.ts';
import { analyzeForeground } from '../../src/stages/analyzeForeground.ts';
import type { PlanViewsOutput } from '../../src/stages/contract.ts';
import { fitForeground } from '../../src/stages/fitForeground.ts';
import { generateViews } from '../../src/stages/generateViews.ts';
import { planViews } from '../../src/stages/planViews.ts';
import { openStore, type ObjectStore } from '../../src/storage/index.ts';
import { LocalBatch } from '../../src/workflow/batch/localBatch.ts';
import { Display } from '../../src/workflow/display.ts';
import { batchStages, type ProgramName } from '../../src/workflow/stages.ts';
import { addRun, context, createRun, discImage, smallRecipe, type SmallRun } from '../stages/smallRun.ts';
import { artefactsIn, artefactsOf, leftoversOf } from './support/artefacts.ts';
import { batchChildren, cannotFindChildren } from './support/killer.ts';
import { s3Servers } from './support/s3Servers.ts';

if (cannotFindChildren) console.warn(`skipped: ${cannotFindChildren}`);

/** Shards of the run whose children are killed, and images in each. */
const shards = 200, perShard = 3;
/** Shards of the runs whose jobs are started twice. */
const doubled = { 'analyze-foreground': 30, 'generate-views': 4 } as const;
const recipe = smallRecipe({ generation: { steps: 2 }, quarantineLimit: 0.1 });

let folder: string, quiet: SmallRun;
const counts = { many: {} as PlanViewsOutput };

async function images(count: number): Promise<Record<string, Uint8Array | string>> {
  const files: Record<string, Uint8Array | string> = {};
  for (let i = 0; i < count; i++) {
    // One of 40 cannot be read, one of six validates.
    files[`${i % 6 === 5 ? 'val' : 'train'}/disc/${String(i).padStart(4, '0')}.png`] = i % 40 === 7 ? 'no picture' : await discImage(i, 0.3 + (i % 5) / 5);
  }
  return files;
}

/** The run of `quiet` in another store, up to the stages that are disturbed. */
async function copyRun(store: ObjectStore, plan: readonly number[], withPlan: boolean): Promise<string> {
  const { run } = await addRun(store, quiet.images, quiet.listed, recipe, plan);
  await fitForeground({ run }, context);
  if (withPlan) {
    for (let shard = 0; shard < plan.length; shard++) await analyzeForeground({ run, shard }, context);
    await planViews({ run }, context);
  }
  return run;
}

/** Every stage in this process, one shard after the other. */
async function runQuietly(run: string, count: number, views: boolean): Promise<PlanViewsOutput> {
  await fitForeground({ run }, context);
  for (let shard = 0; shard < count; shard++) await analyzeForeground({ run, shard }, context);
  const planned = await planViews({ run }, context);
  if (views) for (let shard = 0; shard < count; shard++) await generateViews({ run, shard }, context);
  return planned;
}

/** The real array job: the programs of the containers as children of the local Batch. */
function submit(stage: ProgramName, run: string, size: number, options: { logs: string; cores?: number }): Promise<unknown> {
  const batch = new LocalBatch({
    display: new Display(silentLog, undefined), cores: options.cores ?? 2, variants: () => [1], logFolder: () => options.logs,
    // A killed process stands for a lost host, which Batch reports and repeats: `Host EC2*` in the product's own rules.
    stages: { ...batchStages, [stage]: { ...batchStages[stage], retry: { attempts: 10, evaluateOnExit: [{ action: 'RETRY', onReason: 'killed by SIGKILL' }, ...batchStages[stage].retry.evaluateOnExit] } } },
  });
  return Promise.resolve(batch.submitJob(
    { JobName: stage, JobDefinition: stage, JobQueue: 'gpu', ArrayProperties: { Size: size }, ContainerOverrides: { Command: [stage, '--run', run] } },
    { signal: new AbortController().signal, submitted: () => {} },
  ));
}

/** Log lines of all shards, by the shard's number. */
function logLines(logs: string, pattern: RegExp): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name of readdirSync(logs)) {
    const shard = /-(\d{5})\.log$/.exec(name)![1]!;
    found[shard] = (found[shard] ?? 0) + readFileSync(path.join(logs, name), 'utf8').split('\n').filter((line) => pattern.test(line)).length;
  }
  return found;
}

describe.skipIf(cannotFindChildren)('array jobs', () => {
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'genview-shards-'));
    quiet = await createRun(recipe, await images(shards * perShard), Array.from({ length: shards }, () => perShard));
    counts.many = await runQuietly(quiet.run, shards, false);
  });
  afterAll(async () => {
    await quiet.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  it('lose and double nothing when 30 % of 200 children are killed', async () => {
    const at = path.join(folder, 'killed'), store = openStore(at), logs = path.join(folder, 'killed-logs');
    const run = await copyRun(store, Array.from({ length: shards }, () => perShard), false);
    const analysis = path.join(at, quiet.plan.analysis);
    const order = new Random('victims').shuffle(Array.from({ length: shards }, (_, i) => i)), victims = order.slice(0, 0.3 * shards), spare = order.slice(0.3 * shards);
    const fileOf = (shard: number): string => path.join(analysis, `shard-${String(shard).padStart(5, '0')}`);
    /** Killed while it imports its program, while it holds the lease, or between its result and its marker. */
    const moments = ['import', 'work', 'result'] as const;
    const kills: Record<string, number> = { import: 0, work: 0, result: 0, marker: 0 };
    const first = new Map<number, number>();
    const watch = setInterval(() => {
      const children = batchChildren();
      // One that was faster than we are, on a busy machine: another that has not begun takes its place.
      for (const [shard, pid] of first) {
        if (pid < 0 || children.some((child) => child.pid === pid)) continue;
        first.set(shard, -1);
        const next = spare.findIndex((other) => !existsSync(`${fileOf(other)}.done.lease`) && !existsSync(`${fileOf(other)}.done`));
        if (next >= 0) victims[victims.indexOf(shard)] = spare.splice(next, 1)[0]!;
      }
      for (const { pid, env } of children) {
        const shard = Number(env['AWS_BATCH_JOB_ARRAY_INDEX']), place = victims.indexOf(shard);
        // Each victim once: its second attempt is let alone.
        if (place < 0 || (first.get(shard) ?? pid) !== pid) continue;
        first.set(shard, pid);
        const name = fileOf(shard), wanted = moments[place % 3]!;
        const reached = existsSync(`${name}.done`) ? 'marker' : existsSync(`${name}.jsonl`) ? 'result' : existsSync(`${name}.done.lease`) ? 'work' : 'import';
        if (reached !== 'marker' && moments.indexOf(reached) < moments.indexOf(wanted)) continue;
        try { process.kill(pid, 'SIGKILL'); kills[reached]!++; first.set(shard, -1); } catch { /* it was faster */ }
      }
    }, 4);
    const since = performance.now();
    try { await submit('analyze-foreground', run, shards, { logs }); } finally { clearInterval(watch); }
    const seconds = (performance.now() - since) / 1000;

    const planned = await planViews({ run }, context);
    expect(planned).toEqual(counts.many);
    expect(planned.train + planned.val + planned.quarantined).toBe(shards * perShard);
    for await (const info of store.list('')) void info;
    expect(leftoversOf(at)).toEqual([]);
    expect(artefactsOf(at)).toEqual(artefactsOf(fileURLToPath(quiet.store.root)));
    const killed = Object.values(kills).reduce((a, b) => a + b);
    const attempts = Object.values(logLines(logs, /, attempt \d+;/)).reduce((a, b) => a + b);
    console.log(`${shards} shards: ${killed} children killed (${kills['import']} before their work, ${kills['work']} at it, ${kills['result']} between result and marker, ${kills['marker']} behind the marker); `
      + `${attempts} attempts reached their program; ${planned.train + planned.val} images used and ${planned.quarantined} quarantined of ${shards * perShard}; results equal; ${seconds.toFixed(0)} s`);
    expect(killed).toBeGreaterThanOrEqual(0.28 * shards);
    expect(kills['work']! + kills['result']!).toBeGreaterThan(10);
  });

  it('do every shard once when every job is submitted twice', async ({ skip }) => {
    // One server is enough: how each treats leases is tested in s3.test.ts.
    const available = s3Servers.toReversed().find(({ install }) => install() === undefined);
    if (!available) { console.warn('skipped: no S3 server can be had here'); return skip('no S3 server can be had here'); }
    const { name } = available, bucket = 'genview-doubled', server = await available.start(bucket);
    Object.assign(process.env, server.env);
    try {
      const store = openStore(`s3://${bucket}/store`);
      const sizes = Object.fromEntries(Object.entries(doubled).map(([stage, count]) => [stage, Array.from({ length: count }, () => perShard)]));
      for (const [stage, count] of Object.entries(doubled) as [ProgramName, number][]) {
        const views = stage === 'generate-views', logs = [1, 2].map((i) => path.join(folder, `${name}-${stage}-${i}`));
        const run = await copyRun(store, sizes[stage]!, views);
        // Two cores each: both jobs come to the same shards at about the same time.
        await Promise.all(logs.map((folderOfLogs) => submit(stage, run, count, { logs: folderOfLogs })));
        const done = [logLines(logs[0]!, views ? /views of shard \d+ (\d+)\/\1 / : /images usable/), logLines(logs[1]!, views ? /views of shard \d+ (\d+)\/\1 / : /images usable/)];
        const each = Object.keys(done[0]!).map((shard) => done[0]![shard]! + done[1]![shard]!);
        console.log(`${name}: ${stage}, ${count} shards submitted twice: ${2 * count} jobs, ${each.reduce((a, b) => a + b)} did the work of a shard (${Object.values(done[0]!).reduce((a, b) => a + b)} and ${Object.values(done[1]!).reduce((a, b) => a + b)}), ${each.filter((n) => n > 1).length} shards done twice`);
        expect(each).toEqual(Array.from({ length: count }, () => 1));
        if (!views) await planViews({ run }, context);
      }
      const calm = openStore(path.join(folder, `calm-${name}`));
      for (const [stage, count] of Object.entries(doubled)) {
        const { run } = await addRun(calm, quiet.images, quiet.listed, recipe, sizes[stage]!);
        await runQuietly(run, count, stage === 'generate-views');
      }
      const found = await artefactsIn(store);
      expect(Object.keys(found).filter((key) => key.endsWith('.lease'))).toEqual([]);
      expect(found).toEqual(await artefactsIn(calm));
    } finally {
      await server.stop();
      for (const variable of Object.keys(server.env)) delete process.env[variable];
    }
  });
});
