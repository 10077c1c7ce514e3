import { mapAhead } from '../../ahead.ts';
import type { ObjectStore } from '../../storage/objectStore.ts';
import { compareKeys } from '../../storage/key.ts';

/** An object of JSON lines that a listing left: `part-<id>.jsonl`. */
export interface Part { readonly id: string; readonly lines: number }

/** The keys behind `after`, up to and including `end`; null is the first or the last key there is. Ranges of a listing lie end to end. */
export interface KeyRange {
  /** Rises while the range is listed: what lies up to here is in `parts`. */
  after: string | null;
  end: string | null;
  done: boolean;
  readonly parts: Part[];
}

/** Ranges that a listing begins with, at most. */
const mostRanges = 128;
/** Folders are looked into until there are so many, */
const wantedFolders = 64;
/** as many levels deep, */
const levels = 3;
/** and in a folder no further than so many requests: a folder of nothing but files has no end. */
const requestsPerFolder = 10;

/** Up to so many keys, one range after the other is faster: each costs a request of a thousand keys, however few it has. */
const fewKeys = 2000;

/** Cuts the keys of a store at its upper folders, as evenly as their number tells; one range where they are few, or the store cannot tell its folders. */
export async function discoverRanges(images: ObjectStore): Promise<KeyRange[]> {
  if (!images.folders || !await hasMoreThan(images, fewKeys)) return rangesBetween(null, [], null);
  const folders = (await upperFolders(images)).sort(compareKeys);
  const step = Math.ceil(folders.length / (mostRanges - 1)) || 1;
  return rangesBetween(null, folders.filter((_, i) => i % step === 0), null);
}

export function rangesBetween(after: string | null, cuts: readonly string[], end: string | null): KeyRange[] {
  return [...cuts, end].map((cut, i) => ({ after: i === 0 ? after : cuts[i - 1]!, end: cut, done: false, parts: [] }));
}

async function hasMoreThan(images: ObjectStore, count: number): Promise<boolean> {
  let seen = 0;
  for await (const _key of images.list('')) if (++seen > count) return true;
  return false;
}

async function upperFolders(images: ObjectStore): Promise<string[]> {
  const found: string[] = [];
  let above = [''];
  for (let level = 0; level < levels && above.length > 0 && found.length < wantedFolders; level++) {
    const below: string[] = [];
    for await (const folders of mapAhead(above, 8, (folder) => foldersIn(images, folder))) below.push(...folders);
    found.push(...below);
    above = below;
  }
  return found;
}

async function foldersIn(images: ObjectStore, folder: string): Promise<string[]> {
  const found: string[] = [];
  let requests = 0;
  for await (const page of images.folders?.(folder) ?? []) {
    found.push(...page);
    if (++requests === requestsPerFolder) break;
  }
  return found;
}

/** Characters that names are numbered or hashed with. */
const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const mostCuts = 48;

/**
 * Where to cut the keys behind `last`, from the keys of a stretch that ends with it: names that are numbers, hashes or both go on with the
 * characters that vary within the stretch, and next those before them change. Each cut is behind `last`, in order. A guess: a cut in the wrong
 * place costs a request.
 */
export function guessCuts(stretch: readonly string[], last: string): string[] {
  const first = stretch[0] ?? last;
  let common = 0;
  while (common < last.length && first[common] === last[common]) common++;
  const varying = new Set<string>();
  for (const key of stretch) {
    const dot = key.lastIndexOf('.');
    for (let i = common; i < (dot < common ? key.length : dot); i++) if (alphabet.includes(key[i]!)) varying.add(key[i]!);
  }
  const characters = [...varying].sort();
  const cuts: string[] = [];
  for (let i = common; i >= 0 && i < last.length && varying.has(last[i]!); i--) {
    // From the right to the left: the last added are the widest apart.
    cuts.push(...characters.filter((character) => character > last[i]!).map((character) => last.slice(0, i) + character));
  }
  return cuts.slice(-mostCuts).sort(compareKeys);
}
