import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { addToFacts, decideLayout, factsFromJson, type FolderFactsJson, factsToJson, kindOf, type Layout } from '../dataset/layout.ts';
import { GenViewError } from '../errors.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { once, openStore, readJson, readLines, writeJson } from '../storage/index.ts';
import type { ObjectInfo, ObjectStore } from '../storage/objectStore.ts';
import { uniqueToken } from '../storage/processIdentity.ts';
import { openResolved, planArtefacts } from './artefacts.ts';
import type { DatasetSummary, ListedImage, ShardDatasetInput, ShardDatasetOutput, StageContext } from './contract.ts';
import { jsonLines, shardName } from './shards.ts';

export interface ListingLimits {
  /** Milliseconds after which a call returns a continuation; a Lambda function lives for 15 minutes. @default 300000 */
  readonly milliseconds?: number;
  /** Objects after which a call returns a continuation. @default no limit */
  readonly objects?: number;
}

/** What one call leaves for the next, in `runs/<run>/listing/<session>/`. */
interface ListingState {
  /** Last key seen; the listing goes on behind it. */
  readonly after: string | null;
  readonly complete: boolean;
  /** `part-<n>.jsonl` written so far: image files as listed. */
  readonly parts: number;
  readonly ignored: number;
  readonly folders: FolderFactsJson;
  readonly hash: ListingHash;
}

/**
 * SHA-256 of the listing that can stop and go on: each block of 1,000 lines `[path, bytes, etag]` is hashed together
 * with the digest before it, wherever calls end.
 */
interface ListingHash { digest: string; block: string[] }
const blockLines = 1000;

/** Puts under way while shards are written. */
const parallelPuts = 8;

/**
 * ShardDataset: lists the images under `dataset.url` in one pass and in constant memory, in the order of their paths,
 * and writes `datasets/<hash>/` (shards, the sample for the principal component, `dataset.json`) and the run's
 * `plan.json`. A call that reaches its limits returns a continuation to call again with.
 *
 * The listing's hash covers path, size and etag of every image. For a folder the etag is a hash of the content, so that
 * copies of a dataset share all later work; it costs reading every byte of it once in each run. For S3 it is the object's
 * own etag, which costs nothing and is the same hash for plain uploads.
 *
 * Throws `DatasetMissing`, `DatasetEmpty`, `TooFewImages`, `OneClass`, `NoValidationImages`.
 */
export async function shardDataset(input: ShardDatasetInput, context: StageContext, limits: ListingLimits = {}): Promise<ShardDatasetOutput> {
  const { store, run, runPrefix } = await openResolved(input.run);
  const { recipe } = run;
  const images = openStore(recipe.dataset.url);
  const listings = `${runPrefix}listing/`;

  let [, session = '', step = '0'] = /^(.+)\/(\d+)$/.exec(input.continuation ?? '') ?? [];
  let state: ListingState;
  if (session !== '' && await store.head(`${listings}${session}/state-${step}.json`)) {
    state = await readJson(store, `${listings}${session}/state-${step}.json`);
  } else {
    // Also when the call before this one ended the listing and its answer was lost.
    await removeOldSessions(store, listings);
    session = `${Date.now().toString(36)}-${uniqueToken().slice(0, 8)}`;
    state = { after: null, complete: false, parts: 0, ignored: 0, folders: { root: 0, tops: [] }, hash: { digest: '', block: [] } };
  }
  const sessionPrefix = `${listings}${session}/`;

  if (!state.complete) {
    state = await listPart(images, store, sessionPrefix, state, context, limits);
    // Writing the shards starts with a full time limit too, unless listing took next to none of this one.
    if (!state.complete || input.continuation) {
      const next = Number(step) + 1;
      await writeJson(store, `${sessionPrefix}state-${next}.json`, state, { flush: false });
      return { continuation: `${session}/${next}`, shards: 0 };
    }
  }

  const layout = decideLayout(factsFromJson(state.folders), recipe.dataset.validationFraction);
  if (layout.images === 0) {
    await removeSession(store, sessionPrefix);
    throw await noImages(recipe.dataset.url, layout, state.ignored);
  }
  const shards = Math.max(2, Math.ceil(layout.images / recipe.dataset.shardSize));
  const plan = planArtefacts(run, finishHash(state.hash), shards);
  await once(store, `${plan.dataset}dataset.done`, async (signal) => {
    await writeShards(store, plan.dataset, { sessionPrefix, state, layout, shards, recipe }, { ...context, signal });
  }, { signal: context.signal, log: context.log });

  const summary = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
  await removeSession(store, sessionPrefix);
  checkUsable(recipe, summary, await countTrainClasses(store, plan.dataset, summary));

  await writeJson(store, `${runPrefix}plan.json`, plan);
  const { train, val } = summary.images;
  context.log.info(`${train + val} images (${train} training, ${val} validation), ${summary.classes.length} classes, ${shards} shards`);
  if (layout.leftAlone.images > 0) context.log.warn(`${layout.leftAlone.images} images are left alone: ${layout.leftAlone.why}`);
  return { continuation: null, shards };
}

/** Lists on from where `state` ends, into one part file, until the end or the limits. */
async function listPart(
  images: ObjectStore, store: ObjectStore, sessionPrefix: string, before: ListingState, context: StageContext, limits: ListingLimits,
): Promise<ListingState> {
  const end = performance.now() + (limits.milliseconds ?? 300_000);
  const folders = factsFromJson(before.folders);
  const hash = structuredClone(before.hash);
  let { after, ignored } = before;
  let complete = true, objects = 0;

  async function* lines(): AsyncGenerator<string> {
    for await (const info of images.list('', after === null ? {} : { startAfter: after })) {
      context.signal.throwIfAborted();
      if (objects > 0 && (objects === limits.objects || performance.now() > end)) { complete = false; return; }
      objects += 1;
      after = info.key;
      const kind = kindOf(info.key);
      if (kind === 'other') ignored += 1;
      if (kind !== 'image') continue;
      addToFacts(folders, info.key);
      const line = `${JSON.stringify([info.key, info.size, await contentTag(images, info)])}\n`;
      addToHash(hash, line);
      yield line;
    }
  }
  await store.put(`${sessionPrefix}part-${before.parts}.jsonl`, Readable.from(lines(), { objectMode: false }), { flush: false });
  return { after, complete, parts: before.parts + 1, ignored, folders: factsToJson(folders), hash };
}

/** An etag that a copy of the file has too. Large files of a folder have one of their own making only. */
async function contentTag(images: ObjectStore, info: ObjectInfo): Promise<string> {
  if (!images.root.startsWith('file:') || !info.etag.includes('-')) return info.etag;
  const hash = createHash('md5');
  for await (const chunk of await images.getStream(info.key) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex');
}

function addToHash(hash: ListingHash, line: string): void {
  hash.block.push(line);
  if (hash.block.length < blockLines) return;
  hash.digest = finishHash(hash);
  hash.block = [];
}

function finishHash({ digest, block }: ListingHash): string {
  return createHash('sha256').update(digest).update(block.join('')).digest('hex');
}

interface WriteInput {
  readonly sessionPrefix: string;
  readonly state: ListingState;
  readonly layout: Layout;
  readonly shards: number;
  readonly recipe: Recipe;
}

async function writeShards(store: ObjectStore, prefix: string, input: WriteInput, context: StageContext): Promise<void> {
  const { sessionPrefix, state, layout, shards, recipe } = input;
  const labels = new Map(layout.classes.map((name, label) => [name, label]));
  const sample = new HashSample(recipe.foreground.sampleImages);
  const images = { train: 0, val: 0 };
  const puts: Promise<unknown>[] = [];
  const writeShard = async (shard: number, lines: readonly ListedImage[]): Promise<void> => {
    context.signal.throwIfAborted();
    const put = store.put(`${prefix}shard-${shardName(shard, input)}.jsonl`, jsonLines(lines), { contentType: 'application/jsonl' });
    put.catch(() => {});
    puts.push(put);
    if (puts.length >= parallelPuts) await puts.shift();
  };

  let index = 0, shard = 0;
  let lines: ListedImage[] = [];
  for (let part = 0; part < state.parts; part++) {
    for await (const [path, bytes, etag] of readLines<[string, number, string]>(store, `${sessionPrefix}part-${part}.jsonl`)) {
      const place = layout.place(path);
      if (!place) continue;
      const image: ListedImage = { index: index++, path, bytes, etag, split: place.split, label: labels.get(place.className)! };
      images[place.split] += 1;
      if (place.split === 'train') sample.add(recipe.seed, image);
      lines.push(image);
      if (lines.length === recipe.dataset.shardSize) { await writeShard(shard++, lines); lines = []; }
    }
  }
  // Array jobs need two shards at least: a small dataset has an empty second one.
  while (shard < shards) { await writeShard(shard++, lines); lines = []; }
  await Promise.all(puts);

  await store.put(`${prefix}sample.jsonl`, jsonLines(sample.images()), { contentType: 'application/jsonl' });
  const summary: DatasetSummary = {
    classes: layout.classes, images, shards, ignored: state.ignored + layout.leftAlone.images,
  };
  await writeJson(store, `${prefix}dataset.json`, summary);
}

/**
 * A uniform sample without replacement of a stream of unknown length: the `size` images with the smallest hash of
 * (seed, path). It does not depend on how the listing was cut, and changes little when the dataset does.
 */
class HashSample {
  readonly #size: number;
  #kept: { hash: string; image: ListedImage }[] = [];
  /** Hash of the last one that is in, once there are enough. */
  #limit = '~';

  constructor(size: number) { this.#size = size; }

  add(seed: number, image: ListedImage): void {
    const hash = createHash('sha256').update(JSON.stringify([seed, 'sample', image.path])).digest('hex');
    if (hash > this.#limit) return;
    this.#kept.push({ hash, image });
    if (this.#kept.length >= 2 * this.#size) this.#trim();
  }

  #trim(): void {
    this.#kept.sort((a, b) => a.hash < b.hash ? -1 : 1);
    this.#kept.length = Math.min(this.#kept.length, this.#size);
    if (this.#kept.length === this.#size) this.#limit = this.#kept.at(-1)!.hash;
  }

  /** In the order of the listing. */
  images(): ListedImage[] {
    this.#trim();
    return this.#kept.map(({ image }) => image).sort((a, b) => a.index - b.index);
  }
}

async function noImages(url: string, layout: Layout, ignored: number): Promise<GenViewError> {
  if (url.startsWith('file:') && !await stat(fileURLToPath(url)).then((found) => found.isDirectory(), () => false)) {
    return new GenViewError('DatasetMissing', `dataset.url: there is no folder ${fileURLToPath(url)}; paths in a recipe are relative to the recipe's own folder`);
  }
  const others = ignored + layout.leftAlone.images;
  return new GenViewError('DatasetEmpty', `dataset.url: no images in ${url}${others > 0 ? ` (only ${others} other files)` : ''}; expected train/<class>/ and val/<class>/, or <class>/, with .jpg, .png, .webp, .gif, .avif or .tiff files`);
}

async function countTrainClasses(store: ObjectStore, prefix: string, summary: DatasetSummary): Promise<number> {
  const seen = new Set<number>();
  for (let shard = 0; shard < summary.shards; shard++) {
    for await (const { split, label } of readLines<ListedImage>(store, `${prefix}shard-${shardName(shard, summary)}.jsonl`)) {
      if (split === 'train') seen.add(label);
      if (seen.size > 1) return seen.size;
    }
  }
  return seen.size;
}

/** Of this recipe, not of the dataset: recipes that share a dataset may differ in what they need. */
function checkUsable(recipe: Recipe, { classes, images }: DatasetSummary, trainClasses: number): void {
  const { url } = recipe.dataset;
  for (const { name, pretraining } of recipe.variants) {
    if (pretraining.epochs > 0 && images.train < pretraining.batch) {
      throw new GenViewError('TooFewImages', `dataset.url: ${images.train} training images in ${url} do not fill one batch of ${pretraining.batch} of variant ${name}; lower its pretraining.batch or add images`);
    }
  }
  if (trainClasses < 2) {
    throw new GenViewError('OneClass', `dataset.url: the training images of ${url} are all of one class (${classes[0]}); the evaluation compares classes: put images into train/<class>/ or <class>/ with two classes or more`);
  }
  if (images.val === 0) {
    throw new GenViewError('NoValidationImages', `dataset.url: no validation images in ${url}; add val/<class>/ or raise dataset.validationFraction (${recipe.dataset.validationFraction})`);
  }
}

async function removeSession(store: ObjectStore, prefix: string): Promise<void> {
  const keys = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  for (const key of keys) await store.delete(key);
}

/** Listings that were begun more than a week ago and never ended. Another process may be at a younger one. */
async function removeOldSessions(store: ObjectStore, listings: string): Promise<void> {
  const old = new Set<string>();
  for await (const { key } of store.list(listings)) {
    const session = key.slice(listings.length).split('/', 1)[0]!;
    if (Date.now() - parseInt(session, 36) > 7 * 86_400_000) old.add(session);
  }
  for (const session of old) await removeSession(store, `${listings}${session}/`);
}
