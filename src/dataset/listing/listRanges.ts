import { GenViewError } from '../../errors.ts';
import { compareKeys } from '../../storage/key.ts';
import type { ObjectStore } from '../../storage/objectStore.ts';
import { addToFacts, kindOf, type FolderFacts } from '../layout.ts';
import { contentTag } from './contentTag.ts';
import type { Deadline } from './deadline.ts';
import { guessCuts, rangesBetween, type KeyRange } from './ranges.ts';

/** What is known so far. It is whole at any time: a range's `after`, its parts and the counts change together. */
export interface Listing {
  /** In the order of their keys. */
  readonly ranges: KeyRange[];
  /** Files that are no images by their name. */
  ignored: number;
  readonly folders: FolderFacts;
}

export interface ListOptions {
  readonly deadline: Deadline;
  readonly signal: AbortSignal;
  /** Ranges listed at once. */
  readonly parallel: number;
  /** Objects after which to stop. @default no limit */
  readonly objects?: number;
  /** Leaves a part in the store, and returns its id. */
  readonly putPart: (lines: string) => Promise<string>;
  /** Called when the listing has grown; false stops it. */
  readonly onProgress: () => Promise<boolean>;
}

/** Bytes of a part, about. Each range under way holds one in memory. */
const partBytes = 2 ** 21;
/** Keys of a request: after so many it is known whether a range goes on. */
const pageKeys = 1000;
/** More classes than this are a mistake: the folders of a dataset are kept in memory. */
const mostFolders = 200_000;

/**
 * Lists the images of every range that is not done, several at a time, into parts: lines `[path, bytes, etag]`. The parts of all ranges one
 * after the other are what one listing in order gives, whatever was listed when. A range that turns out to be long is cut up while others
 * would have nothing to do. Stops at the deadline, after one object at least; go on by calling again.
 * @returns whether every range is done
 */
export async function listRanges(images: ObjectStore, listing: Listing, options: ListOptions): Promise<boolean> {
  const { ranges } = listing;
  const { deadline, signal, parallel } = options;
  const pending = ranges.filter(({ done }) => !done);
  let objects = 0, stopped = false;

  async function list(range: KeyRange): Promise<void> {
    let part = emptyPart(), after = range.after;
    let stretch: string[] = [];
    const commit = async (done: boolean): Promise<void> => {
      const { lines, images: keys, ignored } = part;
      part = emptyPart();
      const id = keys.length > 0 ? await options.putPart(lines.join('')) : undefined;
      range.after = after;
      range.done = done;
      if (id !== undefined) range.parts.push({ id, lines: keys.length });
      for (const key of keys) addToFacts(listing.folders, key);
      listing.ignored += ignored;
      checkFolders(listing.folders);
      if (!await options.onProgress()) stopped = true;
    };

    for await (const info of images.list('', after === null ? {} : { startAfter: after })) {
      if (range.end !== null && compareKeys(info.key, range.end) > 0) break;
      signal.throwIfAborted();
      if (objects > 0 && (stopped || objects === options.objects || deadline.passed())) { stopped = true; return commit(false); }
      objects += 1;
      after = info.key;
      const kind = kindOf(info.key);
      if (kind === 'other') part.ignored += 1;
      if (kind === 'image') {
        const line = `${JSON.stringify([info.key, info.size, await contentTag(images, info)])}\n`;
        part.lines.push(line);
        part.images.push(info.key);
        part.bytes += line.length;
        if (part.bytes >= partBytes) await commit(false);
      }
      stretch.push(info.key);
      if (stretch.length === pageKeys) {
        if (parallel > 1 && pending.length === 0) cut(range, guessCuts(stretch, info.key));
        stretch = [];
      }
    }
    await commit(true);
  }

  /** What lies behind the first cut becomes ranges of their own. */
  function cut(range: KeyRange, cuts: readonly string[]): void {
    const inside = range.end === null ? cuts : cuts.filter((key) => compareKeys(key, range.end!) < 0);
    if (inside.length === 0) return;
    const [own, ...others] = rangesBetween(range.after, inside, range.end);
    range.end = own!.end;
    ranges.splice(ranges.indexOf(range) + 1, 0, ...others);
    pending.push(...others);
    start();
  }

  let running = 0;
  const failures: unknown[] = [];
  let ended = (): void => {};
  const end = new Promise<void>((resolve) => { ended = resolve; });
  function start(): void {
    while (!stopped && running < parallel && pending.length > 0) {
      running += 1;
      list(pending.shift()!).catch((error: unknown) => { stopped = true; failures.push(error); }).finally(() => {
        running -= 1;
        start();
        if (running === 0) ended();
      });
    }
    if (running === 0) ended();
  }
  start();
  await end;
  if (failures.length > 0) throw failures[0];
  compact(ranges);
  return ranges.every(({ done }) => done);
}

function emptyPart(): { lines: string[]; images: string[]; bytes: number; ignored: number } {
  return { lines: [], images: [], bytes: 0, ignored: 0 };
}

/** Neighbours that are done become one, so that what is kept between calls stays small. */
function compact(ranges: KeyRange[]): void {
  for (let i = ranges.length - 1; i > 0; i--) {
    const [range, before] = [ranges[i]!, ranges[i - 1]!];
    if (!range.done || !before.done) continue;
    before.parts.push(...range.parts);
    before.after = range.after;
    before.end = range.end;
    ranges.splice(i, 1);
  }
}

/** Throws `TooManyClasses`. */
export function checkFolders({ tops }: FolderFacts): void {
  let folders = tops.size;
  for (const { classes } of tops.values()) folders += classes.size;
  if (folders > mostFolders) {
    throw new GenViewError('TooManyClasses', `dataset.url: more than ${mostFolders} folders (${[...tops.keys()].slice(-2).join(', ')}, …) would each be a class; is it the folder above train/ or above the classes?`);
  }
}
