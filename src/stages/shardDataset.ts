import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { mapAhead } from '../ahead.ts';
import { datasetEmpty, decideLayout, decideListLayout, listEmpty, type Layout } from '../dataset/layout.ts';
import { openListFile, type ListFile } from '../dataset/list/listFile.ts';
import { deadlineIn, type Deadline } from '../dataset/listing/deadline.ts';
import { addToHash, finishHash } from '../dataset/listing/hash.ts';
import { listRanges } from '../dataset/listing/listRanges.ts';
import { discoverRanges, rangesBetween } from '../dataset/listing/ranges.ts';
import { sortList } from '../dataset/listing/sortedList.ts';
import { GenViewError } from '../errors.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { once, openStore, readJson, readLines, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { openResolved, planArtefacts, type ResolvedRunHandle } from './artefacts.ts';
import type { DatasetSummary, ListedImage, RunPlan, ShardDatasetInput, ShardDatasetOutput, StageContext } from './contract.ts';
import { emptyState, ListingSession, type ListingState } from './listingSession.ts';
import { mostShards, shardName } from './shards.ts';
import { Unfinished, writeShards } from './writeShards.ts';

export interface ListingLimits {
  /** Milliseconds after which a call returns a continuation. @default 240000, and a minute for the first call; less where the function ends sooner */
  readonly milliseconds?: number;
  /** Objects after which a call stops listing. @default no limit */
  readonly objects?: number;
  /** Parts of the dataset listed at once, where that is faster. @default 16 */
  readonly parallel?: number;
  /** Milliseconds between two states that a call leaves for the one after it, should it be killed. @default 20000 */
  readonly saveEvery?: number;
}

const defaultLimits = { milliseconds: 240_000, objects: Infinity, parallel: 16, saveEvery: 20_000 };
/** A first call that is killed has left nothing that its repetition could find. */
const firstMilliseconds = 60_000;
/** Kept from the time that a function has left: for what is under way, and the last state. */
const reserve = 30_000;
const hopeless = new Set(['ListInvalid', 'DatasetChanged', 'TooManyClasses']);
/** Parts read ahead, of 2 MB. */
const partsAhead = 4;

/**
 * ShardDataset: lists the images under `dataset.url` and writes `datasets/<hash>/` (shards, the sample for the principal component,
 * `dataset.json`) and the run's `plan.json`. A call that reaches its limits returns a continuation to call again with. Memory does not grow
 * with the dataset. What comes out does not depend on how calls were cut, repeated, killed, or doubled.
 *
 * The listing's hash covers path, size and etag of every image, in the order of their paths. For a folder the etag is a hash of the content, so
 * that copies of a dataset share all later work; it costs reading every byte of it once in each run. For S3 it is the object's own etag, which
 * costs nothing and is the same hash for plain uploads. Where KMS encrypts the bucket it is no hash: images that are put there again make another
 * dataset, also of the same bytes.
 *
 * Throws `DatasetMissing`, `DatasetEmpty`, `TooFewImages`, `OneClass`, `NoValidationImages`, `TooManyClasses`, and `ListInvalid` for a dataset that is given as a list.
 */
export async function shardDataset(input: ShardDatasetInput, context: StageContext, limits: ListingLimits = {}): Promise<ShardDatasetOutput> {
  const handle = await openResolved(input.run);
  const resumed = input.continuation ? await ListingSession.resume(handle.store, handle.runPrefix, input.continuation) : undefined;
  const ended = input.continuation && !resumed ? await endedBefore(handle) : undefined;
  if (ended) return ended;
  const session = resumed ?? await ListingSession.begin(handle.store, handle.runPrefix);
  try {
    return await advance(handle, session, context, { ...defaultLimits, ...!resumed && { milliseconds: firstMilliseconds }, ...limits });
  } catch (error) {
    // A call that was slowed down so much that it did not end by itself: what it had saved is there.
    if (context.signal.aborted && error instanceof GenViewError && error.code === 'FunctionTimedOut' && resumed) return { continuation: session.continuation, shards: 0 };
    // What is wrong with the dataset is so in every call.
    if (error instanceof GenViewError && hopeless.has(error.code)) await session.end();
    // Another call with the same event has ended the listing, and removed it.
    const last = resumed && error instanceof GenViewError && error.code === 'ObjectNotFound' ? await endedBefore(handle) : undefined;
    if (!last) throw error;
    await session.end();
    return last;
  }
}

/** The answer to a call whose listing has ended: the call that ended it may have lost its own. */
async function endedBefore({ store, runPrefix }: ResolvedRunHandle): Promise<ShardDatasetOutput | undefined> {
  if (!await store.head(`${runPrefix}plan.json`)) return undefined;
  const { dataset, shards } = await readJson<RunPlan>(store, `${runPrefix}plan.json`);
  return await store.head(`${dataset}dataset.done`) ? { continuation: null, shards } : undefined;
}

async function advance({ store, run, runPrefix }: ResolvedRunHandle, session: ListingSession, context: StageContext, limits: Required<ListingLimits>): Promise<ShardDatasetOutput> {
  const { recipe } = run;
  const { log, signal } = context;
  const deadline = deadlineIn(Math.min(limits.milliseconds, (context.remaining?.() ?? Infinity) - reserve));
  const unfinished = (): ShardDatasetOutput => ({ continuation: session.continuation, shards: 0 });

  const images = openStore(recipe.dataset.url);
  const list = recipe.dataset.list === undefined || session.state?.listed ? undefined : await openListFile(recipe.dataset.list, images.root);
  session.state ??= await begin(images, list);
  const { state } = session;
  if (!state.listed) {
    const saves = saveNowAndThen(session, limits.saveEvery);
    const common = { deadline, signal, objects: limits.objects, putPart: (lines: string) => session.putPart(lines), onProgress: saves.maybe };
    state.listed = list
      ? await sortList(images, list, state.sort!, state.listing, { ...common, getPart: (part) => session.getPart(part) })
      : await listRanges(images, state.listing, { ...common, parallel: images.folders ? limits.parallel : 1 });
    if (await saves.lost() || !state.listed) {
      if (!await saves.lost()) await session.save();
      log.info(`${session.parts.reduce((sum, { lines }) => sum + lines, 0)} images listed so far`, { continuation: session.continuation });
      return unfinished();
    }
  }
  if (state.hashedParts < session.parts.length) {
    await hashParts(session, deadline, signal);
    if (!await session.save() || state.hashedParts < session.parts.length) return unfinished();
  }

  const { folders } = state.listing, { sort } = state, { validationFraction } = recipe.dataset;
  const layout = sort
    ? decideListLayout(folders, validationFraction, { split: sort.given?.split ?? false, ...(sort.given?.label && { labels: sort.labels }) })
    : decideLayout(folders, validationFraction);
  if (layout.images === 0) {
    await session.end();
    throw await noImages(recipe.dataset, layout, state.listing.ignored);
  }
  const shardSize = Math.max(recipe.dataset.shardSize, Math.ceil(layout.images / mostShards));
  const shards = Math.max(2, Math.ceil(layout.images / shardSize));
  const plan = planArtefacts(run, finishHash(state.hash), shards);
  if (!await writeOnce(store, plan, session, { layout, shards, shardSize, recipe, deadline }, context)) {
    if (session.continuation.endsWith('/0')) await session.save();
    log.info('shards written so far are kept', { continuation: session.continuation });
    return unfinished();
  }

  const summary = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
  try {
    checkUsable(recipe, summary, await countTrainClasses(store, plan.dataset, summary));
    // Before the session goes: a repetition of this call finds one or the other.
    await writeJson(store, `${runPrefix}plan.json`, plan);
  } finally {
    await session.end();
  }
  const { train, val } = summary.images;
  log.info(`${train + val} images (${train} training, ${val} validation), ${summary.classes.length} classes, ${shards} shards`);
  if (layout.leftAlone.images > 0) log.warn(`${layout.leftAlone.images} images are left alone: ${layout.leftAlone.why}`);
  return { continuation: null, shards };
}

async function begin(images: ObjectStore, list: ListFile | undefined): Promise<ListingState> {
  const nothing = { ignored: 0, folders: { root: 0, tops: new Map() } };
  if (!list) return emptyState({ ...nothing, ranges: await discoverRanges(images) });
  return { ...emptyState({ ...nothing, ranges: rangesBetween(null, [], null) }), sort: { version: list.version, file: 0, line: 0, read: false, runs: [], labels: [] } };
}

/** The state is left in the store at most once in `every` milliseconds, by whichever range has got further. */
function saveNowAndThen(session: ListingSession, every: number): { maybe: () => Promise<boolean>; lost: () => Promise<boolean> } {
  let last = performance.now(), saving = Promise.resolve(true);
  return {
    async maybe() {
      if (performance.now() - last >= every) {
        last = performance.now();
        saving = saving.then((kept) => kept && session.save());
      }
      return saving;
    },
    async lost() { return !await saving; },
  };
}

/** Hashes what is listed, to the deadline, after one part at least. */
async function hashParts(session: ListingSession, deadline: Deadline, signal: AbortSignal): Promise<void> {
  const state = session.state!;
  for await (const part of mapAhead(session.parts.slice(state.hashedParts), partsAhead, (wanted) => session.getPart(wanted))) {
    signal.throwIfAborted();
    addToHash(state.hash, part);
    state.hashedParts += 1;
    if (deadline.passed()) return;
  }
}

interface WriteOnceInput { readonly layout: Layout; readonly shards: number; readonly shardSize: number; readonly recipe: Recipe; readonly deadline: Deadline }

/** Writes the dataset unless it is there. @returns false at the deadline, also of the wait for another process that writes it */
async function writeOnce(store: ObjectStore, plan: RunPlan, session: ListingSession, input: WriteOnceInput, context: StageContext): Promise<boolean> {
  const { deadline } = input;
  const { parts, state } = session;
  // The work ends by itself at the deadline; a wait is ended a little later.
  const limit = AbortSignal.timeout(Math.min(2 ** 31 - 1, Math.ceil(Math.max(0, deadline.left())) + 10_000));
  try {
    await once(store, `${plan.dataset}dataset.done`, (signal) => writeShards(store, plan.dataset, {
      ...input, parts, getPart: (part) => session.getPart(part), ignored: state!.listing.ignored, signal,
    }), { signal: AbortSignal.any([context.signal, limit]), log: context.log });
    return true;
  } catch (error) {
    if (error instanceof Unfinished || (limit.aborted && error === limit.reason)) return false;
    throw error;
  }
}

async function noImages({ url, list }: Recipe['dataset'], layout: Layout, ignored: number): Promise<GenViewError> {
  if (list !== undefined) return listEmpty(list, url, ignored);
  if (url.startsWith('file:') && !await stat(fileURLToPath(url)).then((found) => found.isDirectory(), () => false)) {
    return new GenViewError('DatasetMissing', `dataset.url: there is no folder ${fileURLToPath(url)}; paths in a recipe are relative to the recipe's own folder`);
  }
  const others = ignored + layout.leftAlone.images;
  return datasetEmpty(url, others);
}

/** As far as two. */
async function countTrainClasses(store: ObjectStore, prefix: string, summary: DatasetSummary): Promise<number> {
  if (summary.classes.length < 2 || summary.images.train === 0) return Math.min(summary.classes.length, summary.images.train);
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
