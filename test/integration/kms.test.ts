import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listDataset, uploadFolder } from '../../src/cloud/dataset.ts';
import { silentLog } from '../../src/log.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { RunPlan } from '../../src/stages/contract.ts';
import { shardDataset } from '../../src/stages/shardDataset.ts';
import { openStore, readJson, writeJson } from '../../src/storage/index.ts';
import { describeObjectStore } from '../storage/objectStoreContract.ts';
import { makeCloudRun } from './support/cloudRun.ts';
import { type FaultyProxy, startFaultyProxy } from './support/faultyProxy.ts';
import { encryptBucket, installMoto, type Moto, startMoto } from './support/moto.ts';
import { run } from './support/program.ts';

const missing = installMoto();
if (missing) console.warn(`skipped: ${missing}`);

describe.skipIf(missing)('a bucket that KMS encrypts', () => {
  const bucket = 'genview-kms', context = { log: silentLog, signal: new AbortController().signal, threads: 1 };
  let moto: Moto, proxy: FaultyProxy, folder: string, methods: string[] = [];
  let count = 0;
  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-kms-'));
    moto = await startMoto(bucket);
    await encryptBucket(moto, bucket);
    proxy = await startFaultyProxy(moto.env['AWS_ENDPOINT_URL_S3']!, ({ method, url }) => { if (method !== 'GET') methods.push(`${method} ${new URL(url, 'http://x').pathname.replace(/^.*\/datasets\/\w+\//, '')}`); return undefined; });
    Object.assign(process.env, moto.env, { AWS_ENDPOINT_URL_S3: proxy.endpoint });
  });
  afterAll(async () => {
    await proxy?.stop();
    moto?.stop();
    delete process.env['AWS_ENDPOINT_URL_S3'];
    rmSync(folder, { recursive: true });
  });

  describeObjectStore('its prefix', async () => openStore(`s3://${bucket}/contract/${count++}/`), { etags: 'new' });

  /** Address of a dataset as ShardDataset finds it. */
  async function addressOf(images: string): Promise<string> {
    const parsed = parseRecipe('name: test\ndataset:\n  url: x\n', 'test.yaml');
    const recipe: Recipe = { ...parsed, dataset: { ...parsed.dataset, url: images }, variants: parsed.variants.map((variant) => ({ ...variant, pretraining: { ...variant.pretraining, batch: 2 } })) };
    const runs = openStore(path.join(folder, `store-${count++}`));
    await writeJson(runs, 'runs/r/recipe.json', { runId: 'r', store: runs.root, recipe, models: { encoder: 'e', generator: 'g' } });
    expect((await shardDataset({ run: runs.url('runs/r/'), continuation: null }, context)).continuation).toBeNull();
    return (await readJson<RunPlan>(runs, 'runs/r/plan.json')).dataset;
  }

  it('is sent nothing that it has, so that the dataset and its execution keep their names', async () => {
    const from = openStore(path.join(folder, 'birds')), to = openStore(`s3://${bucket}/datasets/birds/`);
    const keys = ['train/a/1.jpg', 'train/a/2.jpg', 'train/b/1.jpg', 'train/b/2.jpg', 'val/a/1.jpg', 'val/b/1.jpg'];
    for (const key of keys) await from.put(key, `bytes of ${key}`);
    // In two parts.
    await from.put('archive.tar', Buffer.alloc(9 * 2 ** 20, 'x'));
    expect(await uploadFolder(from, to, context)).toEqual({ copied: 7, present: 0 });
    const first = await listDataset(to, 0.1, context), address = await addressOf(to.root);

    methods = [];
    expect(await uploadFolder(from, to, context)).toEqual({ copied: 0, present: 7 });
    expect(methods.toSorted()).toEqual(['archive.tar', ...keys].map((key) => `HEAD ${key}`));
    expect(await listDataset(to, 0.1, context)).toEqual(first);
    expect(await addressOf(to.root)).toBe(address);

    // Of the same size: only its MD5 tells.
    await from.put('train/a/2.jpg', 'BYTES of train/a/2.jpg');
    expect(await uploadFolder(from, to, context)).toEqual({ copied: 1, present: 6 });
    expect(new TextDecoder().decode(await to.get('train/a/2.jpg'))).toBe('BYTES of train/a/2.jpg');
    expect((await listDataset(to, 0.1, context)).content).not.toBe(first.content);
    // Put by another program, which leaves no MD5: copied once more, to be sure.
    await to.put('val/b/1.jpg', 'bytes of val/b/1.jpg');
    expect(await uploadFolder(from, to, context)).toEqual({ copied: 1, present: 6 });
    expect(await uploadFolder(from, to, context)).toEqual({ copied: 0, present: 7 });
  });

  it('keeps what a run has made for the next one of the same recipe, which puts nothing again', async () => {
    const small = await makeCloudRun(), store = openStore(`s3://${bucket}/store/`);
    const made = async (): Promise<Record<string, string>> => {
      const etags: Record<string, string> = {};
      for await (const { key, etag } of store.list('')) if (!key.startsWith('runs/')) etags[key] = etag;
      return etags;
    };
    try {
      const recipe = await small.upload(bucket), first = await run(recipe, store.root);
      expect(first.code, first.stderr).toBe(0);
      const etags = await made();
      expect(Object.keys(etags).length).toBeGreaterThan(30);
      const second = await run(recipe, store.root);
      expect(second.code, second.stderr).toBe(0);
      expect(await made()).toEqual(etags);
    } finally { rmSync(small.folder, { recursive: true }); }
  });
});

describe.skipIf(missing)('a bucket that S3 encrypts itself', () => {
  it('is asked for the MD5 of those files alone that were sent in parts', async () => {
    const bucket = 'genview-plain', folder = mkdtempSync(path.join(os.tmpdir(), 'genview-plain-')), context = { log: silentLog, signal: new AbortController().signal };
    const moto = await startMoto(bucket), methods: string[] = [];
    const proxy = await startFaultyProxy(moto.env['AWS_ENDPOINT_URL_S3']!, ({ method, url }) => { if (method !== 'GET') methods.push(`${method} ${new URL(url, 'http://x').pathname}`); return undefined; });
    Object.assign(process.env, moto.env, { AWS_ENDPOINT_URL_S3: proxy.endpoint });
    try {
      const from = openStore(folder), to = openStore(`s3://${bucket}/datasets/birds/`);
      await from.put('train/a/1.jpg', 'bytes');
      await from.put('archive.tar', Buffer.alloc(9 * 2 ** 20, 'x'));
      expect(await uploadFolder(from, to, context)).toEqual({ copied: 2, present: 0 });
      methods.length = 0;
      expect(await uploadFolder(from, to, context)).toEqual({ copied: 0, present: 2 });
      expect(methods).toEqual([`HEAD /${bucket}/datasets/birds/archive.tar`]);
    } finally {
      await proxy.stop();
      moto.stop();
      delete process.env['AWS_ENDPOINT_URL_S3'];
      rmSync(folder, { recursive: true });
    }
  });
});
