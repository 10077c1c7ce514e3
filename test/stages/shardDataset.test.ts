import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { DatasetSummary, ListedImage, ResolvedRun, RunPlan } from '../../src/stages/contract.ts';
import { type ListingLimits, shardDataset } from '../../src/stages/shardDataset.ts';
import { openStore, readJson, readLines, writeJson } from '../../src/storage/index.ts';
import { codeOf, keysOf, oddImages } from '../storage/objectStoreContract.ts';
import { recordedDatasets } from './listedDatasets.ts';

/** Made by version 0.1.0 from `recordedDatasets`: address of everything, and SHA-256 of each object of the dataset. */
const golden = JSON.parse(readFileSync(new URL('golden/listings.json', import.meta.url), 'utf8')) as Record<string, { plan: RunPlan; objects: Record<string, string> }>;

const base = mkdtempSync(path.join(os.tmpdir(), 'genview-shards-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const newFolder = (): string => path.join(base, String(count++));
const context = { signal: new AbortController().signal, log: silentLog, threads: 1 };

/** A folder of files that only look like images: nothing here decodes them. */
function dataset(paths: readonly string[], folder = newFolder()): string {
  mkdirSync(folder, { recursive: true });
  for (const name of paths) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), `content of ${name}`);
  }
  return folder;
}

interface Changes { shardSize?: number; validationFraction?: number; sampleImages?: number; seed?: number; batch?: number; epochs?: number; url?: string }

async function prepare(folder: string, changes: Changes = {}, storeFolder = newFolder()): Promise<{ run: string; storeFolder: string }> {
  const parsed = parseRecipe('name: test\ndataset:\n  url: x\n', 'test.yaml');
  const recipe: Recipe = {
    ...parsed,
    seed: changes.seed ?? 0,
    dataset: { ...parsed.dataset, url: changes.url ?? pathToFileURL(folder).href, shardSize: changes.shardSize ?? 4, validationFraction: changes.validationFraction ?? 0.25 },
    foreground: { ...parsed.foreground, sampleImages: changes.sampleImages ?? 5 },
    variants: parsed.variants.map((variant) => ({ ...variant, pretraining: { ...variant.pretraining, batch: changes.batch ?? 2, epochs: changes.epochs ?? 1 } })),
  };
  const store = openStore(storeFolder);
  const run: ResolvedRun = { runId: 'test-1', store: store.root, recipe, models: { encoder: 'e', generator: 'g' } };
  await writeJson(store, 'runs/test-1/recipe.json', run);
  return { run: store.url('runs/test-1/'), storeFolder };
}

interface Result { plan: RunPlan; summary: DatasetSummary; shards: ListedImage[][]; sample: ListedImage[]; storeFolder: string; calls: number }

async function list(folder: string, changes: Changes = {}, limits?: ListingLimits, storeFolder?: string): Promise<Result> {
  const prepared = await prepare(folder, changes, storeFolder);
  let continuation: string | null = null, calls = 0, shardCount = 0;
  do {
    ({ continuation, shards: shardCount } = await shardDataset({ run: prepared.run, continuation }, context, limits));
    calls++;
  } while (continuation !== null);
  const store = openStore(prepared.storeFolder);
  const plan = await readJson<RunPlan>(store, 'runs/test-1/plan.json');
  expect(plan.shards).toBe(shardCount);
  const lines = async (key: string): Promise<ListedImage[]> => {
    const all = [];
    for await (const line of readLines<ListedImage>(store, plan.dataset + key)) all.push(line);
    return all;
  };
  const shards = [];
  for (let i = 0; i < plan.shards; i++) shards.push(await lines(`shard-${String(i).padStart(5, '0')}.jsonl`));
  return { plan, summary: await readJson(store, `${plan.dataset}dataset.json`), shards, sample: await lines('sample.jsonl'), storeFolder: prepared.storeFolder, calls };
}

const numbered = (folder: string, n: number): string[] => Array.from({ length: n }, (_, i) => `${folder}/${String(i).padStart(3, '0')}.jpg`);

describe('ShardDataset', () => {
  it('reads train/<class> and val/<class>, in the order of the paths', async () => {
    const folder = dataset([...numbered('train/cat', 5), ...numbered('train/dog', 4), ...numbered('val/dog', 2), 'val/emu/deep/er/1.PNG', 'train/notes.txt', 'train/cat/.hidden.jpg', 'masks/train/cat/000.png', 'train/loose.jpg', 'other/cat/1.jpg']);
    const { summary, shards, plan } = await list(folder);
    expect(summary).toEqual({ classes: ['cat', 'dog', 'emu'], images: { train: 9, val: 3 }, shards: 3, ignored: 4 });
    expect(shards.map((shard) => shard.length)).toEqual([4, 4, 4]);
    const images = shards.flat();
    expect(images.map(({ index }) => index)).toEqual(images.map((_, i) => i));
    expect(images.map(({ path: name }) => name)).toEqual([...numbered('train/cat', 5), ...numbered('train/dog', 4), ...numbered('val/dog', 2), 'val/emu/deep/er/1.PNG']);
    expect(images.map(({ label }) => label)).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2]);
    expect(images.map(({ split }) => split)).toEqual([...Array(9).fill('train'), ...Array(3).fill('val')]);
    expect(images[0]).toMatchObject({ bytes: 28, etag: createHash('md5').update('content of train/cat/000.jpg').digest('hex') });
    expect(plan.dataset).toMatch(/^datasets\/[0-9a-f]{16}\/$/);
  });

  it('takes validation/ or test/ for val/, but leaves test/ alone beside val/', async () => {
    for (const name of ['validation', 'test']) {
      const { summary } = await list(dataset([...numbered('train/a', 3), ...numbered('train/b', 3), ...numbered(`${name}/b`, 2)]));
      expect(summary.images).toEqual({ train: 6, val: 2 });
    }
    const { summary, shards } = await list(dataset([...numbered('train/a', 3), ...numbered('train/b', 3), ...numbered('val/b', 2), ...numbered('test/b', 4)]));
    expect(summary).toMatchObject({ images: { train: 6, val: 2 }, ignored: 4 });
    expect(shards.flat().some(({ path: name }) => name.startsWith('test/'))).toBe(false);
  });

  it('reads <class> folders, and validates on a share chosen by path', async () => {
    const paths = [...numbered('ant', 150), ...numbered('bee/deep', 150)];
    const first = await list(dataset(paths), { validationFraction: 0.2, shardSize: 64 });
    expect(first.summary.classes).toEqual(['ant', 'bee']);
    // 300 draws of 0.2: 60 ± 6.9 (one standard deviation).
    expect(first.summary.images.val).toBeGreaterThan(39);
    expect(first.summary.images.val).toBeLessThan(81);
    const splits = new Map(first.shards.flat().map((image) => [image.path, image.split]));
    const more = await list(dataset([...paths, 'ant/new.jpg', 'cow/new.jpg', 'loose.jpg']), { validationFraction: 0.2, shardSize: 64 });
    expect(more.summary).toMatchObject({ classes: ['ant', 'bee', 'cow'], ignored: 1 });
    for (const image of more.shards.flat()) if (splits.has(image.path)) expect(image.split).toBe(splits.get(image.path));
  });

  it('makes at least two shards, the second may be empty', async () => {
    const { shards, plan } = await list(dataset(['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg']), { shardSize: 512 });
    expect(plan.shards).toBe(2);
    expect(shards.map((shard) => shard.length)).toEqual([3, 0]);
  });

  it('accounts for every image with an odd name, and for equal names in different folders', async () => {
    const names = oddImages.map((key) => key.replaceAll('/', '_'));
    const paths = ['one', 'two', "class #3 'ü'%", 'constructor', '__proto__'].flatMap((folder) => names.map((name) => `train/${folder}/${name}`));
    const { shards, summary, storeFolder } = await list(dataset([...paths, 'val/one/1.jpg']), { shardSize: 7 });
    expect(shards.flat().map(({ path: name }) => name).toSorted()).toEqual([...paths, 'val/one/1.jpg'].toSorted());
    expect(summary.classes).toEqual(['__proto__', "class #3 'ü'%", 'constructor', 'one', 'two']);
    for (const image of shards.flat()) expect(summary.classes[image.label]).toBe(image.path.split('/')[1]);
    expect(readdirSync(path.join(storeFolder, 'runs/test-1')).toSorted()).toEqual(['plan.json', 'recipe.json']);
  });

  it('draws the sample from the training images, all equally likely, by seed', async () => {
    const folder = dataset([...numbered('train/a', 60), ...numbered('train/b', 60), ...numbered('val/a', 60)]);
    const drawn = new Map<string, number>();
    for (let seed = 0; seed < 12; seed++) {
      const { sample, shards } = await list(folder, { seed, sampleImages: 30, shardSize: 512 });
      expect(sample).toHaveLength(30);
      expect(sample).toEqual(shards.flat().filter((image) => sample.some(({ index }) => index === image.index)));
      for (const image of sample) { expect(image.split).toBe('train'); drawn.set(image.path, (drawn.get(image.path) ?? 0) + 1); }
    }
    // 12 draws of 1 in 4 for each of 120 images: mean 3, standard deviation 1.5; none drawn with probability 0.03.
    expect(drawn.size).toBeGreaterThan(108);
    expect(Math.max(...drawn.values())).toBeLessThan(11);
    const share = [...drawn].filter(([name]) => name.startsWith('train/a')).reduce((sum, [, n]) => sum + n, 0) / (12 * 30);
    expect(Math.abs(share - 0.5)).toBeLessThan(0.1);
    const all = await list(folder, { sampleImages: 1000 });
    expect(all.sample).toHaveLength(120);
  });

  it('gives a copy elsewhere the same address and bytes, and another content another', async () => {
    const folder = dataset([...numbered('train/a', 5), ...numbered('train/b', 5), ...numbered('val/a', 2)]);
    const first = await list(folder);
    const copy = newFolder();
    cpSync(folder, copy, { recursive: true });
    const second = await list(copy);
    expect(second.plan).toEqual(first.plan);
    for (const name of ['shard-00000.jsonl', 'shard-00002.jsonl', 'sample.jsonl', 'dataset.json']) {
      expect(readFileSync(path.join(second.storeFolder, second.plan.dataset, name), 'utf8')).toBe(readFileSync(path.join(first.storeFolder, first.plan.dataset, name), 'utf8'));
    }
    writeFileSync(path.join(copy, 'train/a/000.jpg'), 'content of train/a/00X.jpg');
    expect((await list(copy)).plan.dataset).not.toBe(first.plan.dataset);
  });

  it('continues a listing over many calls to the same result', async () => {
    const folder = dataset([...numbered('train/a', 1100), ...numbered('train/b', 60), ...numbered('val/a', 7), 'x.txt']);
    const whole = await list(folder, { shardSize: 100 });
    expect(whole.calls).toBe(1);
    const cut = await list(folder, { shardSize: 100 }, { objects: 97 });
    expect(cut.calls).toBeGreaterThan(12);
    expect(cut.plan).toEqual(whole.plan);
    expect(cut.shards).toEqual(whole.shards);
    expect(cut.sample).toEqual(whole.sample);
    expect(cut.summary).toEqual(whole.summary);
    // A call always gets further, however short its time.
    expect((await list(dataset([...numbered('train/a', 3), ...numbered('train/b', 3), 'val/a/1.jpg']), {}, { milliseconds: 0 })).summary.images).toEqual({ train: 6, val: 1 });
  });

  it('repeats a call, and a call whose answer was lost', async () => {
    const folder = dataset([...numbered('train/a', 5), ...numbered('train/b', 5), ...numbered('val/a', 2)]);
    const { run, storeFolder } = await prepare(folder);
    const limits = { objects: 5 };
    const first = await shardDataset({ run }, context, limits);
    expect(first.continuation).toMatch(/^[0-9a-z]+-[0-9a-z]+\/1$/);
    const second = await shardDataset({ run, continuation: first.continuation }, context, limits);
    // The newest state counts: a repeated call does not list again what is listed.
    expect(await shardDataset({ run, continuation: first.continuation }, context, limits)).toEqual({ continuation: null, shards: 3 });
    const plan = readFileSync(path.join(storeFolder, 'runs/test-1/plan.json'), 'utf8');
    for (const { continuation } of [first, second]) expect(await shardDataset({ run, continuation }, context, limits)).toEqual({ continuation: null, shards: 3 });
    expect(readdirSync(path.join(storeFolder, 'runs/test-1')).toSorted()).toEqual(['plan.json', 'recipe.json']);
    await list(folder, {}, limits, storeFolder);
    expect(readFileSync(path.join(storeFolder, 'runs/test-1/plan.json'), 'utf8')).toBe(plan);
  });

  it.each(Object.keys(recordedDatasets))('gives the recorded dataset "%s" the address and the bytes that version 0.1.0 gave it', async (name) => {
    const { plan, objects } = golden[name]!;
    const folder = dataset(recordedDatasets[name]!);
    for (const limits of [undefined, { objects: 300 }]) {
      const made = await list(folder, { shardSize: 500, sampleImages: 100, validationFraction: 0.1, batch: 256, epochs: 200 }, limits);
      expect(made.plan.dataset).toBe(plan.dataset);
      const store = openStore(made.storeFolder), digests: Record<string, string> = {};
      for await (const { key } of store.list(plan.dataset)) digests[key.slice(plan.dataset.length)] = createHash('sha256').update(await store.get(key)).digest('hex');
      expect(digests).toEqual(objects);
    }
  });

  it('lets two runs list at once', async () => {
    const folder = dataset([...numbered('train/a', 40), ...numbered('train/b', 40), ...numbered('val/a', 20)]);
    const { run, storeFolder } = await prepare(folder);
    const outputs = await Promise.all([shardDataset({ run }, context), shardDataset({ run }, context)]);
    expect(outputs).toEqual([{ continuation: null, shards: 25 }, { continuation: null, shards: 25 }]);
    const store = openStore(storeFolder);
    const { dataset: prefix } = await readJson<RunPlan>(store, 'runs/test-1/plan.json');
    expect((await keysOf(store)).filter((key) => !key.startsWith(prefix))).toEqual(['runs/test-1/plan.json', 'runs/test-1/recipe.json']);
    expect((await keysOf(store, prefix)).length).toBe(25 + 3);
  });

  it('says what is wrong with a dataset', async () => {
    const failure = async (paths: readonly string[], changes: Changes = {}): Promise<string> => {
      const { run, storeFolder } = await prepare(dataset(paths), changes);
      const message = await shardDataset({ run }, context).then(() => 'no error', (error: Error) => `${error.name}: ${error.message}`);
      expect(await keysOf(openStore(storeFolder), 'runs/')).toEqual(['runs/test-1/recipe.json']);
      return message;
    };
    expect(await failure([])).toMatch(/^DatasetEmpty: dataset\.url: no images in file:.*; expected train\/<class>\//);
    expect(await failure(['a.txt', 'b/c.csv'])).toMatch(/^DatasetEmpty: .*\(only 2 other files\)/);
    expect(await failure(['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg'], { batch: 3 })).toMatch(/^TooFewImages: dataset\.url: 2 training images .* one batch of 3 of variant/);
    expect(await failure(['train/a/1.jpg', 'train/a/2.jpg', 'val/a/1.jpg'])).toMatch(/^OneClass: .*all of one class \(a\)/);
    expect(await failure(['1.jpg', '2.jpg', '3.jpg', '4.jpg'], { validationFraction: 0.5 })).toMatch(/^OneClass: .*\(unlabelled\)/);
    expect(await failure(['a/1.jpg', 'a/2.jpg', 'b/1.jpg'], { validationFraction: 0 })).toMatch(/^NoValidationImages: /);
    const { run } = await prepare('', { url: pathToFileURL(path.join(base, 'not there')).href });
    expect(await codeOf(shardDataset({ run }, context))).toBe('DatasetMissing');
    await expect(shardDataset({ run }, context)).rejects.toThrow(/there is no folder .*\/not there/);
  });

  it('does not need a full batch for a variant that is not trained', async () => {
    const { summary } = await list(dataset(['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg']), { batch: 256, epochs: 0 });
    expect(summary.images.train).toBe(2);
  });
});
