import { rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openStore } from '../../src/storage/index.ts';
import { artefactsIn, artefactsOf, leftoversOf } from './support/artefacts.ts';
import { makeCloudRun } from './support/cloudRun.ts';
import { atRandom, startFaultyProxy } from './support/faultyProxy.ts';
import { type Outcome, run, startRun } from './support/program.ts';
import { type S3Server, s3Servers } from './support/s3Servers.ts';

const { install, start } = s3Servers.find(({ name }) => name === 'versitygw')!;
const missing = install();
if (missing) console.warn(`skipped: ${missing}`);

describe.skipIf(missing)('genview run in a bucket', () => {
  let small: Awaited<ReturnType<typeof makeCloudRun>>, server: S3Server, recipe: string, expected: Record<string, string>;
  const bucket = 'genview-run';
  const summary = ({ seconds }: Outcome, keys: number): string => `${keys} artefacts equal to those of a quiet run in a folder; ${seconds.toFixed(0)} s`;

  beforeAll(async () => {
    small = await makeCloudRun();
    server = await start(bucket);
    Object.assign(process.env, server.env);
    recipe = await small.upload(bucket);
    const quiet = await run(small.recipe, path.join(small.folder, 'quiet'));
    expect(quiet.code, quiet.stderr).toBe(0);
    expect(leftoversOf(path.join(small.folder, 'quiet'))).toEqual([]);
    expected = artefactsOf(path.join(small.folder, 'quiet'));
    expect(Object.keys(expected).length).toBeGreaterThan(30);
  });
  afterAll(async () => {
    for (const variable of Object.keys(server.env)) delete process.env[variable];
    await server.stop();
    rmSync(small.folder, { recursive: true, force: true });
  });

  it('survives the restart of the server in four stages', async () => {
    const running = startRun(recipe, `s3://${bucket}/restarted`);
    let said = '';
    running.child.stderr!.on('data', (text: string) => { said += text; });
    const seconds: number[] = [];
    for (const stage of ['fit-foreground', 'analyze-foreground', 'generate-views', 'pretrain genview']) {
      while (!new RegExp(`${stage}( \\d+ shards)? started`).test(said)) {
        if (running.child.exitCode !== null) throw new Error(`the run ended before ${stage}:\n${said}`);
        await sleep(20);
      }
      const since = performance.now();
      await server.restart!(2);
      seconds.push((performance.now() - since) / 1000);
    }
    const outcome = await running.ended;
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(await artefactsIn(openStore(`s3://${bucket}/restarted`))).toEqual(expected);
    const retries = outcome.stderr.split('\n').filter((line) => /attempt \d/.test(line));
    console.log(`server killed and started again ${seconds.length} times, away for ${seconds.map((each) => each.toFixed(1)).join(', ')} s: no job failed${retries.length > 0 ? `, but ${retries.join('; ')}` : ''}; ${summary(outcome, Object.keys(expected).length)}`);
  });

  it('survives that 5 % of its requests fail', async () => {
    const proxy = await startFaultyProxy(server.env.AWS_ENDPOINT_URL_S3, atRandom(0.05, [500, 503, 'done-500', 'cut-before', 'cut-request', 'cut-response', 'lost'], 'five percent'));
    try {
      const outcome = await run(recipe, `s3://${bucket}/failing`, { AWS_ENDPOINT_URL_S3: proxy.endpoint });
      expect(outcome.code, outcome.stderr).toBe(0);
      const { requests, faults } = proxy.counts, failed = Object.values(faults).reduce((a, b) => a + b);
      expect(await artefactsIn(openStore(`s3://${bucket}/failing`))).toEqual(expected);
      expect(failed / requests).toBeGreaterThan(0.03);
      console.log(`${requests} requests, ${failed} of them with a fault (${(100 * failed / requests).toFixed(1)} %: ${Object.entries(faults).map(([name, count]) => `${count} ${name}`).join(', ')}): exit status 0 at the first try; ${summary(outcome, Object.keys(expected).length)}`);
    } finally { await proxy.stop(); }
  });
});
