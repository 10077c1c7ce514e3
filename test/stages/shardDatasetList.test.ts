import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer, type Server } from '../../bench/sharding/server.ts';
import { imagenetLike } from '../../bench/sharding/simulated.ts';
import { silentLog } from '../../src/log.ts';
import { Random } from '../../src/random.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import type { DatasetSummary, ListedImage, RunPlan, StageContext } from '../../src/stages/contract.ts';
import { type ListingLimits, shardDataset } from '../../src/stages/shardDataset.ts';
import { openStore, readJson, readLines, writeJson } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';

const images = imagenetLike(500, 6);
const base = mkdtempSync(path.join(os.tmpdir(), 'genview-list-'));
let server: Server;
const before = { ...process.env };
beforeAll(async () => {
  server = await startServer({ simulated: { images } });
  Object.assign(process.env, { AWS_ENDPOINT_URL_S3: server.endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' });
});
afterAll(async () => { await server.close(); process.env = before; rmSync(base, { recursive: true, force: true }); });

const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };
let runs = 0;

async function prepare(store: ObjectStore, dataset: { url: string; list?: string; validationFraction?: number }): Promise<{ run: string; prefix: string }> {
  const parsed = parseRecipe('name: test\ndataset: { url: x, shardSize: 60 }\nforeground: { sampleImages: 20 }\n', 'test.yaml');
  const recipe = { ...parsed, dataset: { ...parsed.dataset, ...dataset }, variants: parsed.variants.map((variant) => ({ ...variant, pretraining: { ...variant.pretraining, batch: 2 } })) };
  const prefix = `runs/r${++runs}/`;
  await writeJson(store, `${prefix}recipe.json`, { runId: prefix, store: store.root, recipe, models: { encoder: 'e', generator: 'g' } });
  return { run: store.url(prefix), prefix };
}

interface Made { calls: number; plan: RunPlan; summary: DatasetSummary; listed: ListedImage[]; objects: Record<string, string> }

async function make(store: ObjectStore, dataset: Parameters<typeof prepare>[1], limits: ListingLimits = {}): Promise<Made> {
  const { run, prefix } = await prepare(store, dataset);
  let continuation: string | null = null, calls = 0;
  do { ({ continuation } = await shardDataset({ run, continuation }, context, limits)); calls++; } while (continuation !== null);
  const plan = await readJson<RunPlan>(store, `${prefix}plan.json`), listed: ListedImage[] = [], objects: Record<string, string> = {};
  for await (const { key } of store.list(plan.dataset)) {
    objects[key] = createHash('sha256').update(await store.get(key)).digest('hex');
    if (key.includes('/shard-')) for await (const image of readLines<ListedImage>(store, key)) listed.push(image);
  }
  for await (const { key } of store.list(`${prefix}listing/`)) throw new Error(`${key} is left over`);
  return { calls, plan, summary: await readJson(store, `${plan.dataset}dataset.json`), listed, objects };
}

const row = (i: number): string => ['images', encodeURIComponent(images.key(i)).replaceAll('%2F', '/'), String(images.size(i)), images.etag(i)].map((value) => `"${value}"`).join(',');

async function writeInventory(store: ObjectStore, name: string, files: readonly (readonly string[])[], changes: object = {}): Promise<string> {
  const data = files.map((rows, i) => ({ key: `${name}/data/${i}.csv.gz`, bytes: gzipSync(rows.map((line) => `${line}\n`).join('')) }));
  for (const { key, bytes } of data) await store.put(key, bytes);
  await writeJson(store, `${name}/2026-11-25T01-00Z/manifest.json`, {
    sourceBucket: 'images', destinationBucket: `arn:aws:s3:::${store.root.slice('s3://'.length, -1)}`, fileFormat: 'CSV', fileSchema: 'Bucket, Key, Size, ETag', 
    files: data.map(({ key, bytes }) => ({ key, size: bytes.length, MD5checksum: createHash('md5').update(bytes).digest('hex') })), ...changes,
  });
  return store.url(`${name}/2026-11-25T01-00Z/manifest.json`);
}

describe('a dataset given as an S3 Inventory', () => {
  it('has the address and the bytes of the listed dataset, however its files are ordered and its calls are cut', async () => {
    const listed = await make(openStore('s3://store-listed/'), { url: 's3://images/' });
    const order = new Random('inventory').shuffle([...Array(images.count).keys()]);
    const files = [order.slice(0, 220), [], order.slice(220)].map((numbers) => numbers.map(row));
    for (const limits of [{}, { objects: 90, saveEvery: 0 }]) {
      const store = openStore(`s3://store-inventory-${runs}/`);
      const made = await make(store, { url: 's3://images/', list: await writeInventory(store, 'inventory', files) }, limits);
      expect(made.objects).toEqual(listed.objects);
      expect(made.calls > 8).toBe('objects' in limits);
    }
  });

  it('names the file and the line that cannot be used', async () => {
    const store = openStore('s3://store-faults/');
    const failure = async (files: readonly (readonly string[])[], changes: object = {}): Promise<string> => {
      const { run, prefix } = await prepare(store, { url: 's3://images/', list: await writeInventory(store, `i${runs}`, files, changes) });
      return shardDataset({ run }, context).then(() => 'no error', (error: Error) => `${error.name}: ${error.message.replace(prefix, '')}`);
    };
    expect(await failure([[row(0)], [row(1), row(2), '"images","x.jpg"']])).toMatch(/^ListInvalid: s3:\/\/store-faults\/i\d+\/data\/1\.csv\.gz line 3: has 2 values/);
    expect(await failure([[row(0), row(1)], [row(2), row(1)]])).toMatch(/^ListInvalid: .*\/data\/1\.csv\.gz line 2: names train\/.* a second time; it stands in i\d+\/data\/0\.csv\.gz line 2 already$/);
    expect(await failure([[]])).toMatch(/^DatasetEmpty: dataset\.list: .* names no images under s3:\/\/images\/$/);
    expect(await failure([[row(0)]], { fileFormat: 'ORC' })).toMatch(/^ListInvalid: .*fileFormat ORC cannot be read/);
    expect(await failure([[row(0)]], { files: [{ key: 'gone.csv.gz' }] })).toMatch(/^ObjectNotFound: s3:\/\/store-faults\/gone\.csv\.gz does not exist/);
    await store.put('torn/data/0.csv.gz', gzipSync(Array.from({ length: 400 }, (_, i) => `${row(i)}\n`).join('')).subarray(0, 3000));
    expect(await failure([[row(0)]], { files: [{ key: 'torn/data/0.csv.gz' }] })).toMatch(/^ListInvalid: s3:\/\/store-faults\/torn\/data\/0\.csv\.gz is not a whole gzip file/);
  });
});

it('an inventory whose file is not the one of the manifest is refused, however the calls are cut', async () => {
  const store = openStore('s3://store-replaced/'), url = await writeInventory(store, 'i', [[row(0), row(1)], [row(2), row(3), row(4)]]);
  // As well-formed as the one it stands for.
  await store.put('i/data/1.csv.gz', gzipSync(`${row(2)}\n${row(3)}\n${row(5)}\n`));
  for (const limits of [{}, { objects: 1, saveEvery: 0 }]) {
    const { run, prefix } = await prepare(store, { url: 's3://images/', list: url });
    let continuation: string | null = null, calls = 0;
    const all = async (): Promise<void> => { do { calls++; ({ continuation } = await shardDataset({ run, continuation }, context, limits)); } while (continuation !== null); };
    await expect(all()).rejects.toMatchObject({ code: 'ListInvalid', message: expect.stringMatching(/^s3:\/\/store-replaced\/i\/data\/1\.csv\.gz is not the file that its list names: its MD5 is [0-9a-f]{32}, the manifest's MD5checksum [0-9a-f]{32}; copy it again, or take another inventory$/) as string });
    expect(calls > 1).toBe('objects' in limits);
    for await (const { key } of store.list(`${prefix}listing/`)) throw new Error(`${key} is left over`);
  }
});

describe('a dataset given as JSON lines', () => {
  let folders = 0;
  async function folderOf(paths: readonly string[]): Promise<ObjectStore> {
    const store = openStore(path.join(base, String(folders++)));
    for (const key of paths) await store.put(`images/${key}`, `content of ${key}`);
    return store;
  }
  const list = (lines: readonly unknown[]): string => lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  const paths = ['train/a/1.jpg', 'train/a/2 ü#.jpg', 'train/b/z～.jpg', 'train/b/z🙂.jpg', 'val/a/1.jpg', 'val/b/2.png'];
  const failure = async (store: ObjectStore, text: string): Promise<string> => {
    await store.put('list.jsonl', text);
    const { run } = await prepare(store, { url: store.url('images/'), list: store.url('list.jsonl') });
    return shardDataset({ run }, context).then(() => 'no error', (error: Error) => `${error.name}: ${error.message}`);
  };

  it('of bare paths has the address of the listed folder; sizes and etags are looked up', async () => {
    const store = await folderOf(paths), listed = await make(store, { url: store.url('images/') });
    await store.put('list.jsonl', list([...paths].reverse().map((key, i) => i % 2 ? key : store.url('images/') + key.split('/').map(encodeURIComponent).join('/'))));
    for (const limits of [{}, { objects: 1 }]) {
      const made = await make(await folderOf([]), { url: store.url('images/'), list: store.url('list.jsonl') }, limits);
      expect(made.plan.dataset).toBe(listed.plan.dataset);
      expect(Object.values(made.objects)).toEqual(Object.values(listed.objects));
    }
  });

  it('gives labels and splits that the folders do not', async () => {
    const store = await folderOf(['x/1.jpg', 'x/2.jpg', 'y/3.jpg', '4.jpg']);
    await store.put('list.jsonl.gz', gzipSync(list([
      { path: 'y/3.jpg', split: 'train', label: 'dog' }, { path: '4.jpg', split: 'val', label: 12 }, { path: 'x/1.jpg', split: 'train', label: 12 }, { path: 'x/2.jpg', split: 'train', label: 'dog', bytes: 14, etag: 'as given' },
    ])));
    const { summary, listed } = await make(store, { url: store.url('images/'), list: store.url('list.jsonl.gz') });
    expect(summary).toEqual({ classes: ['12', 'dog'], images: { train: 3, val: 1 }, shards: 2, ignored: 0 });
    expect(listed.map(({ path: name, split, label, etag }) => [name, split, label, etag.length])).toEqual([['4.jpg', 'val', 0, 32], ['x/1.jpg', 'train', 0, 32], ['x/2.jpg', 'train', 1, 8], ['y/3.jpg', 'train', 1, 32]]);
  });

  it('without splits, validates on a share chosen by path; without labels, takes the folders', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `${i % 2 ? 'a' : 'b'}/${i}.jpg`), store = await folderOf(names);
    const known = { bytes: 1, etag: 'e' };
    await store.put('labels.jsonl', list(names.map((key, i) => ({ path: key, label: `l${i % 3}`, ...known }))));
    await store.put('splits.jsonl', list(names.map((key, i) => ({ path: key, split: i < 6 ? 'val' : 'train', ...known }))));
    const labels = await make(store, { url: store.url('images/'), list: store.url('labels.jsonl'), validationFraction: 0.3 });
    expect(labels.summary.classes).toEqual(['l0', 'l1', 'l2']);
    const byPath = await make(store, { url: store.url('images/'), validationFraction: 0.3 });
    expect(labels.listed.map(({ split }) => split)).toEqual(byPath.listed.map(({ split }) => split));
    const splits = await make(store, { url: store.url('images/'), list: store.url('splits.jsonl') });
    expect(splits.summary).toMatchObject({ classes: ['a', 'b'], images: { train: 34, val: 6 } });
  });

  it('names the line that cannot be used', async () => {
    const store = await folderOf(paths), file = store.url('list.jsonl');
    expect(await failure(store, `${list(paths.slice(0, 2))}{"path":\n`)).toBe(`ListInvalid: ${file} line 3: is not valid JSON: Unexpected end of JSON input`);
    expect(await failure(store, list([paths[0], paths[1], paths[0]]))).toBe(`ListInvalid: ${file} line 3: names train/a/1.jpg a second time; it stands in line 1 already`);
    expect(await failure(store, list([paths[0], 'train/a/gone.jpg']))).toBe(`ListInvalid: ${file} line 2: ${store.url('images/train/a/gone.jpg')} does not exist`);
    expect(await failure(store, list([{ path: paths[0], label: 'x' }, { path: paths[1] }]))).toBe(`ListInvalid: ${file} line 2: has no label, as the lines before it have`);
    expect(await failure(store, list([{ path: paths[0] }, { path: paths[1], split: 'val' }]))).toMatch(/line 2: has a split, which the lines before it have not; give it in every line or in none$/);
    for await (const { key } of store.list('runs/')) expect(key).toMatch(/recipe\.json$/);
    expect(await failure(store, '')).toMatch(/^DatasetEmpty: dataset\.list: .*list\.jsonl names no images under file:/);
  });

  it('is not to change while it is read', async () => {
    const store = await folderOf(paths);
    await store.put('list.jsonl', list(paths));
    const { run } = await prepare(store, { url: store.url('images/'), list: store.url('list.jsonl') });
    const { continuation } = await shardDataset({ run }, context, { objects: 2 });
    await store.put('list.jsonl', list(paths.slice(1)));
    await expect(shardDataset({ run, continuation }, context, { objects: 2 })).rejects.toMatchObject({ code: 'DatasetChanged' });
  });
});
