import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { RunPlan } from '../../src/stages/contract.ts';
import { shardDataset } from '../../src/stages/shardDataset.ts';
import { once, openStore, readJson, writeJson } from '../../src/storage/index.ts';
import { codeOf, describeObjectStore, keysOf } from '../storage/objectStoreContract.ts';
import { freePort } from './support/ports.ts';
import { type S3Server, s3Servers } from './support/s3Servers.ts';

describe.each(s3Servers)('S3 of $name', ({ install, start }) => {
  let server: S3Server | undefined;
  let count = 0;
  const bucket = 'genview-test';

  const missing = install();
  if (missing) { console.warn(`skipped: ${missing}`); it.skip(missing, () => {}); return; }

  beforeAll(async () => {
    server = await start(bucket);
    Object.assign(process.env, server.env);
  });
  afterAll(() => server?.stop());

  describeObjectStore('a bucket prefix', async () => openStore(`s3://${bucket}/prefix with space/${count++}/`));

  it('pages through long listings', async () => {
    const store = openStore(`s3://${bucket}/pages`);
    const keys = Array.from({ length: 1100 }, (_, i) => `k${String(i).padStart(5, '0')}`);
    for (let i = 0; i < keys.length; i += 50) await Promise.all(keys.slice(i, i + 50).map((key) => store.put(key, key)));
    expect(await keysOf(store)).toEqual(keys);
    expect(await keysOf(store, '', 'k01090')).toEqual(keys.slice(1091));
  });

  it('lists neighbours of the prefix not', async () => {
    await openStore(`s3://${bucket}/neighbour`).put('in', 'x');
    await openStore(`s3://${bucket}/neighbour-2`).put('out', 'x');
    expect(await keysOf(openStore(`s3://${bucket}/neighbour`))).toEqual(['in']);
  });

  it('does work once', async () => {
    const store = openStore(`s3://${bucket}/once`);
    let runs = 0;
    const work = async (): Promise<void> => { runs++; await sleep(300); };
    const outcomes = await Promise.all([once(store, 'x.done', work), once(store, 'x.done', work), once(store, 'x.done', work)]);
    expect(outcomes.toSorted()).toEqual(['already', 'already', 'done']);
    expect(runs).toBe(1);
    expect(await keysOf(store)).toEqual(['x.done']);
  });

  it('gives a dataset the address that the same files have in a folder', async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-s3-'));
    try {
      const plans: RunPlan[] = [];
      for (const [images, store] of [[`s3://${bucket}/images/`, `s3://${bucket}/store`], [`${folder}/images`, `${folder}/store`]] as const) {
        for (const split of ['train', 'val']) {
          for (const name of ['a', 'ü b']) for (let i = 0; i < 4; i++) await openStore(images).put(`${split}/${name}/${i}.jpg`, `${split} ${name} ${i}`);
        }
        const parsed = parseRecipe('name: test\ndataset:\n  url: x\n', 'test.yaml');
        const recipe: Recipe = { ...parsed, dataset: { ...parsed.dataset, url: openStore(images).root, shardSize: 5 }, variants: parsed.variants.map((variant) => ({ ...variant, pretraining: { ...variant.pretraining, batch: 4 } })) };
        const runs = openStore(store);
        await writeJson(runs, 'runs/r/recipe.json', { runId: 'r', store: runs.root, recipe, models: { encoder: 'e', generator: 'g' } });
        const context = { signal: new AbortController().signal, log: silentLog, threads: 1 };
        let continuation: string | null = null, shards = 0;
        do ({ continuation, shards } = await shardDataset({ run: runs.url('runs/r/'), continuation }, context, { objects: 6 })); while (continuation !== null);
        expect(shards).toBe(4);
        plans.push(await readJson<RunPlan>(runs, 'runs/r/plan.json'));
        expect(await keysOf(runs, plans[0]!.dataset)).toEqual(['dataset.done', 'dataset.json', 'sample.jsonl', 'shard-00000.jsonl', 'shard-00001.jsonl', 'shard-00002.jsonl', 'shard-00003.jsonl'].map((name) => plans[0]!.dataset + name));
      }
      expect(plans[1]).toEqual(plans[0]);
    } finally { rmSync(folder, { recursive: true }); }
  });

  it('says what is wrong', async () => {
    const absent = openStore('s3://genview-absent-bucket/x');
    expect(await codeOf(absent.get('a'))).toBe('BucketNotFound');
    expect(await codeOf(absent.put('a', 'x'))).toBe('BucketNotFound');
    expect(await codeOf(keysOf(absent))).toBe('BucketNotFound');
    expect(await codeOf(openStore(`s3://${bucket}/x`).put('k'.repeat(1025), 'x'))).toBe('KeyInvalid');
    const endpoint = process.env['AWS_ENDPOINT_URL_S3'];
    Object.assign(process.env, { AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${await freePort()}`, GENVIEW_S3_PATIENCE: '1' });
    try {
      const failure = openStore(`s3://${bucket}/x`).get('a');
      expect(await codeOf(failure)).toBe('StoreUnreachable');
      await expect(failure).rejects.toThrow(/cannot be reached \(ECONNREFUSED\)/);
    } finally {
      process.env['AWS_ENDPOINT_URL_S3'] = endpoint;
      delete process.env['GENVIEW_S3_PATIENCE'];
    }
  });
});
