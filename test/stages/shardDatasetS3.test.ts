import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startServer, type RequestKind, type Server } from '../../bench/sharding/server.ts';
import { imagenetLike, type SimulatedObjects } from '../../bench/sharding/simulated.ts';
import { silentLog } from '../../src/log.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import type { ListedImage, ResolvedRun, RunPlan, StageContext } from '../../src/stages/contract.ts';
import { type ListingLimits, shardDataset } from '../../src/stages/shardDataset.ts';
import { openStore, readJson, readLines, writeJson } from '../../src/storage/index.ts';
import { compareKeys } from '../../src/storage/key.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';
import { oddKeys } from '../storage/objectStoreContract.ts';

const odd: readonly string[] = ['train/z～', 'train/z🙂', "train/class #3 'ü'%", 'train/a', 'train/a-b', 'train/a.b', 'val/a', 'masks/train/a']
  .flatMap((folder) => oddKeys.map((key) => Array.from({ length: 28 }, (_, i) => `${folder}/${i % 7 > 0 ? `${i} ` : i > 0 ? `${i}` : ''}${key}`)).flat()).concat('train/loose.jpg', 'train/a/notes.txt', 'train/a/', '.hidden/x.jpg').sort(compareKeys);
const byName = (keys: readonly string[]): SimulatedObjects => ({ count: keys.length, key: (i) => keys[i]!, size: (i) => 10 * i, etag: (i) => createHash('md5').update(keys[i]!).digest('hex') });
/** Half of the images in a folder, which has no folders to cut it at; numbers, then hashes, then numbers behind a name. */
const flat = byName([
  ...Array.from({ length: 2100 }, (_, i) => `train/cat/${String(i).padStart(7, '0')}.jpg`),
  ...Array.from({ length: 2100 }, (_, i) => `train/dog/${createHash('sha1').update(String(i)).digest('hex')}.jpg`),
  ...Array.from({ length: 1200 }, (_, i) => `val/dog/ILSVRC2012_val_${String(i + 1).padStart(8, '0')}.JPEG`),
].sort(compareKeys));
const simulated = { many: imagenetLike(2600, 8), few: imagenetLike(30, 3), odd: byName(odd), flat, empty: byName([]), others: byName(['a.txt', 'b/c.csv']), single: byName(['train/a/1.jpg', 'train/a/2.jpg', 'train/a/3.jpg', 'val/a/1.jpg']) };

let server: Server;
let onRequest: ((kind: RequestKind, key: string) => boolean) | undefined;
const before = { ...process.env };
beforeAll(async () => {
  server = await startServer({ simulated, onRequest: (kind, key) => onRequest?.(kind, key) ?? true });
  Object.assign(process.env, { AWS_ENDPOINT_URL_S3: server.endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' });
});
afterAll(async () => { await server.close(); process.env = before; });
beforeEach(() => { onRequest = undefined; });

let stores = 0;
const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };
type Bucket = keyof typeof simulated;

async function prepare(bucket: Bucket, batch = 2): Promise<{ run: string; store: ObjectStore }> {
  const store = openStore(`s3://store-${++stores}/`);
  const parsed = parseRecipe('name: test\ndataset: { url: x, shardSize: 300 }\nforeground: { sampleImages: 40 }\n', 'test.yaml');
  const recipe = { ...parsed, dataset: { ...parsed.dataset, url: `s3://${bucket}/` }, variants: parsed.variants.map((variant) => ({ ...variant, pretraining: { ...variant.pretraining, batch } })) };
  const run: ResolvedRun = { runId: 'r', store: store.root, recipe, models: { encoder: 'e', generator: 'g' } };
  await writeJson(store, 'runs/r/recipe.json', run);
  return { run: store.url('runs/r/'), store };
}

async function toEnd(run: string, limits: ListingLimits = {}, continuation: string | null = null): Promise<number> {
  let calls = 0;
  do { ({ continuation } = await shardDataset({ run, continuation }, context, limits)); calls++; } while (continuation !== null);
  return calls;
}

/** SHA-256 of every object that a run has left, by key. */
async function objectsOf(store: ObjectStore): Promise<Record<string, string>> {
  const objects: Record<string, string> = {};
  for await (const { key } of store.list('')) if (!key.endsWith('recipe.json')) objects[key] = createHash('sha256').update(await store.get(key)).digest('hex');
  return objects;
}

const quietly = new Map<Bucket, Promise<Record<string, string>>>();
/** Objects of a run in one call that lists in order. */
function quiet(bucket: Bucket): Promise<Record<string, string>> {
  let made = quietly.get(bucket);
  if (!made) quietly.set(bucket, made = (async () => {
    const { run, store } = await prepare(bucket);
    expect(await toEnd(run, { parallel: 1 })).toBe(1);
    return objectsOf(store);
  })());
  return made;
}

async function pathsOf(store: ObjectStore): Promise<string[]> {
  const plan = await readJson<RunPlan>(store, 'runs/r/plan.json'), paths: string[] = [];
  for (let shard = 0; shard < plan.shards; shard++) for await (const { path } of readLines<ListedImage>(store, `${plan.dataset}shard-${String(shard).padStart(5, '0')}.jsonl`)) paths.push(path);
  return paths;
}

describe('ShardDataset on S3', () => {
  it.each<Bucket>(['many', 'odd', 'flat'])('lists "%s" in parallel to the same objects as one listing in order', async (bucket) => {
    const expected = await quiet(bucket), { run, store } = await prepare(bucket);
    expect(await toEnd(run, { parallel: 16 })).toBe(1);
    expect(await objectsOf(store)).toEqual(expected);
    const images = Array.from({ length: simulated[bucket].count }, (_, i) => simulated[bucket].key(i)).filter((key) => /^(train|val)\/[^/]+\/.+\.(jpe?g|png)$/i.test(key));
    expect(await pathsOf(store)).toEqual(images);
  });

  it('cuts up folders that hold nothing but files', async () => {
    const { run } = await prepare('flat');
    let listing = 0, most = 0;
    onRequest = (kind) => { if (kind === 'LIST') most = Math.max(most, ++listing); else listing = 0; return true; };
    await toEnd(run, { parallel: 8 });
    // train/cat, train/dog and val/dog would be three.
    expect(most).toBeGreaterThan(6);
  });

  it.each<[Bucket, ListingLimits]>([['many', { objects: 500 }], ['many', { objects: 300, saveEvery: 0 }], ['few', { milliseconds: 0 }]])('gives the same objects of "%s" in many calls, %o each', async (bucket, limits) => {
    const expected = await quiet(bucket), { run, store } = await prepare(bucket);
    expect(await toEnd(run, limits)).toBeGreaterThan(3);
    expect(await objectsOf(store)).toEqual(expected);
  });

  it('goes on after a call that ended in the middle of its listing, from what it had saved', async () => {
    const expected = await quiet('many'), { run, store } = await prepare('many');
    const { continuation } = await shardDataset({ run }, context, { objects: 300 });
    const timeout = new AbortController();
    let lists = 0;
    onRequest = (kind) => { if (kind === 'LIST' && ++lists === 9) timeout.abort(new Error('timed out')); return true; };
    await expect(shardDataset({ run, continuation }, { ...context, signal: timeout.signal }, { saveEvery: 0, parallel: 4 })).rejects.toThrow('timed out');
    lists = 0;
    await toEnd(run, {}, continuation);
    // 8 classes in two splits, a listing of states, one of the parts to remove: what the call that failed had listed is not listed again.
    expect(lists).toBeLessThan(16);
    expect(await objectsOf(store)).toEqual(expected);
  });

  it('goes on after a call that ended while it wrote shards', async () => {
    const expected = await quiet('many'), { run, store } = await prepare('many');
    const { continuation } = await shardDataset({ run }, context, { objects: 300 });
    let shards = 0;
    const timeout = new AbortController();
    onRequest = (kind, key) => { if (kind === 'PUT' && key.includes('/shard-') && ++shards === 3) timeout.abort(new Error('timed out')); return true; };
    await expect(shardDataset({ run, continuation }, { ...context, signal: timeout.signal })).rejects.toThrow('timed out');
    await toEnd(run, {}, continuation);
    expect(await objectsOf(store)).toEqual(expected);
  });

  it('gives the same objects when each event comes twice at once', async () => {
    const expected = await quiet('many'), { run, store } = await prepare('many');
    let events: (string | null)[] = [null, null];
    for (let round = 0; events.length > 0; round++) {
      expect(round).toBeLessThan(60);
      // Both of each event; what either answers goes on.
      const answers = await Promise.all([...new Set(events)].flatMap((continuation) => [0, 1].map(() => shardDataset({ run, continuation }, context, { objects: 700, saveEvery: 0 }))));
      for (const { continuation, shards } of answers) if (continuation === null) expect(shards).toBe(9);
      events = answers.flatMap(({ continuation }) => continuation ?? []);
    }
    expect(await objectsOf(store)).toEqual(expected);
  });

  it('shares the writing of one dataset among runs', async () => {
    const { run, store } = await prepare('few');
    const resolved = await readJson<ResolvedRun>(store, 'runs/r/recipe.json');
    await writeJson(store, 'runs/other/recipe.json', { ...resolved, runId: 'other' });
    await Promise.all([toEnd(run, { milliseconds: 0 }), toEnd(store.url('runs/other/'), { milliseconds: 0 })]);
    expect(await readJson(store, 'runs/other/plan.json')).toEqual(await readJson(store, 'runs/r/plan.json'));
    const { 'runs/other/plan.json': _other, ...objects } = await objectsOf(store);
    expect(objects).toEqual(await quiet('few'));
  });

  it.each<[Bucket, RegExp]>([
    ['empty', /^DatasetEmpty: dataset\.url: no images in s3:\/\/empty\//], ['others', /^DatasetEmpty: .*only 2 other files/], ['single', /^OneClass: .*all of one class \(a\)/],
  ])('refuses "%s", and leaves nothing', async (bucket, message) => {
    const { run, store } = await prepare(bucket);
    expect(await shardDataset({ run }, context).then(() => 'no error', (error: Error) => `${error.name}: ${error.message}`)).toMatch(message);
    expect(Object.keys(await objectsOf(store)).filter((key) => key.startsWith('runs/'))).toEqual([]);
  });
});
