import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodePng } from '../../src/dataset/image.ts';
import { silentLog } from '../../src/log.ts';
import { Random } from '../../src/random.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { contentHash, planArtefacts } from '../../src/stages/artefacts.ts';
import type { ListedImage, ResolvedRun, RunPlan, StageContext } from '../../src/stages/contract.ts';
import { openStore } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/index.ts';

export const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };

export interface SmallRun {
  readonly folder: string;
  readonly images: string;
  readonly store: ObjectStore;
  readonly run: string;
  readonly plan: RunPlan;
  readonly listed: readonly ListedImage[];
  remove(): Promise<void>;
}

/** A recipe with the small encoder of test/fixtures, a baseline and a variant with views. */
export function smallRecipe(changes: { foreground?: object; generation?: object; quarantineLimit?: number; batch?: number; probability?: number; similarityImages?: number; seed?: number } = {}): Recipe {
  const { foreground, generation, quarantineLimit = 0.05, batch = 4, probability = 1, similarityImages = 50_000, seed = 0 } = changes;
  const recipe = {
    name: 'small', seed,
    dataset: { url: 'images', quarantineLimit },
    foreground: {
      encoder: { model: fileURLToPath(new URL('../fixtures/foreground/encoder.onnx', import.meta.url)), imageSize: 16 },
      batch: 3, ...foreground,
    },
    generation: { steps: 3, guidance: 2, batch: 4, ...generation },
    pretraining: { batch, queue: 16 * batch, qualityLoss: { enabled: false } },
    variants: [{ name: 'baseline', pretraining: { views: { probability: 0 } } }, { name: 'genview', pretraining: { views: { probability } } }],
    evaluation: { similarityImages },
  };
  // JSON is YAML.
  return parseRecipe(JSON.stringify(recipe), 'small.yaml');
}

/** A bright disc of the given radius (share of the half side) on a dark, noisy ground. */
export async function discImage(seed: number, radius: number, side = 16): Promise<Uint8Array> {
  const random = new Random('disc', seed);
  const data = Uint8Array.from({ length: 3 * side * side }, (_, k) => {
    const pixel = Math.floor(k / 3), x = pixel % side - (side - 1) / 2, y = Math.floor(pixel / side) - (side - 1) / 2;
    return Math.hypot(x, y) < radius * side / 2 ? 200 + random.integer(40) : random.integer(60);
  });
  return encodePng({ width: side, height: side, data });
}

/** A folder of images and a store as ShardDataset leaves it. `files`: bytes by path; in the folder `val/` they validate. */
export async function createRun(recipe: Recipe, files: Readonly<Record<string, Uint8Array | string>>, shardSizes: readonly number[]): Promise<SmallRun> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'genview-stage-'));
  const images = path.join(folder, 'images'), store = openStore(path.join(folder, 'store'));
  const listed: ListedImage[] = [];
  for (const [index, [file, bytes]] of Object.entries(files).entries()) {
    await mkdir(path.join(images, path.dirname(file)), { recursive: true });
    await writeFile(path.join(images, file), bytes);
    listed.push({ index, path: file, bytes: bytes.length, etag: `${index}`, split: file.startsWith('val/') ? 'val' : 'train', label: 0 });
  }
  const { run, plan } = await addRun(store, images, listed, recipe, shardSizes);
  return { folder, images, store, run, plan, listed, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Another run of the same images in the same store. */
export async function addRun(store: ObjectStore, images: string, listed: readonly ListedImage[], base: Recipe, shardSizes: readonly number[]): Promise<{ run: string; plan: RunPlan }> {
  const recipe: Recipe = { ...base, dataset: { ...base.dataset, url: openStore(images).root, shardSize: shardSizes[0]! } };
  const resolved: ResolvedRun = { runId: `small-${contentHash([recipe, shardSizes])}`, store: store.root, recipe, models: { encoder: 'e', generator: 'g' } };
  const plan = planArtefacts(resolved, 'listing', shardSizes.length);
  await store.put(`runs/${resolved.runId}/recipe.json`, JSON.stringify(resolved));
  await store.put(`runs/${resolved.runId}/plan.json`, JSON.stringify(plan));
  await store.put(`${plan.dataset}dataset.json`, JSON.stringify({ classes: ['one'], images: {}, shards: shardSizes.length, ignored: 0 }));
  const lines = (items: readonly unknown[]): string => items.map((item) => `${JSON.stringify(item)}\n`).join('');
  await store.put(`${plan.dataset}sample.jsonl`, lines(listed.filter(({ split }) => split === 'train')));
  let start = 0;
  for (const [shard, size] of shardSizes.entries()) {
    await store.put(`${plan.dataset}shard-${String(shard).padStart(5, '0')}.jsonl`, lines(listed.slice(start, start + size)));
    start += size;
  }
  return { run: store.url(`runs/${resolved.runId}/`), plan };
}

/** Values of a JSON lines object. */
export async function lines<T>(store: ObjectStore, key: string): Promise<T[]> {
  return new TextDecoder().decode(await store.get(key)).split('\n').filter(Boolean).map((line) => JSON.parse(line) as T);
}
