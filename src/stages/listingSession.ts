import { emptyHash, type ListingHash } from '../dataset/listing/hash.ts';
import type { Listing } from '../dataset/listing/listRanges.ts';
import type { Part } from '../dataset/listing/ranges.ts';
import { factsFromJson, type FolderFactsJson, factsToJson } from '../dataset/layout.ts';
import type { SortState } from '../dataset/listing/sortedList.ts';
import { readJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { uniqueToken } from '../storage/processIdentity.ts';

/** How far a listing has come. */
export interface ListingState {
  readonly listing: Listing;
  /** The whole dataset is listed. */
  listed: boolean;
  /** Of a dataset that is given as a list. */
  sort?: SortState;
  /** Of the parts up to `hashedParts`, in the order of the ranges. */
  readonly hash: ListingHash;
  hashedParts: number;
}

interface StoredState extends Omit<ListingState, 'listing'> {
  readonly listing: Omit<Listing, 'folders'> & { readonly folders: FolderFactsJson };
}

/**
 * What the calls of one listing leave for each other, in `runs/<run>/listing/<session>/`: parts, and states with rising numbers. The newest
 * state is what counts. Each is created only if absent, so that of two calls that do the same at the same time one goes on, and the other sees
 * that it does not.
 */
export class ListingSession {
  /** Absent in a new session until it has listed something. */
  state: ListingState | undefined;
  readonly #store: ObjectStore;
  readonly #name: string;
  readonly #prefix: string;
  #step: number;
  #parts = 0;
  /** Parts that no state names yet. */
  #unsaved: string[] = [];
  readonly #token = uniqueToken().slice(0, 8);

  private constructor(store: ObjectStore, listings: string, name: string, step: number, state?: ListingState) {
    this.#store = store;
    this.#name = name;
    this.#prefix = `${listings}${name}/`;
    this.#step = step;
    this.state = state;
  }

  /** A session that has nothing yet. Removes those that were begun a week ago and never ended; another process may be at a younger one. */
  static async begin(store: ObjectStore, runPrefix: string): Promise<ListingSession> {
    const listings = `${runPrefix}listing/`;
    const old = new Set<string>();
    for await (const { key } of store.list(listings)) {
      const name = key.slice(listings.length).split('/', 1)[0]!;
      if (Date.now() - parseInt(name, 36) > 7 * 86_400_000) old.add(name);
    }
    for (const name of old) await removeAll(store, `${listings}${name}/`);
    return new ListingSession(store, listings, `${Date.now().toString(36)}-${uniqueToken().slice(0, 8)}`, 0);
  }

  /** The session that a continuation names, at its newest state, which a call that was killed may have left; undefined when it has ended. */
  static async resume(store: ObjectStore, runPrefix: string, continuation: string): Promise<ListingSession | undefined> {
    const name = /^([0-9a-z]+-[0-9a-z]+)\/\d+$/i.exec(continuation)?.[1];
    if (name === undefined) return undefined;
    const listings = `${runPrefix}listing/`;
    let newest = 0;
    for await (const { key } of store.list(`${listings}${name}/state-`)) newest = Math.max(newest, Number(/state-(\d+)\.json$/.exec(key)?.[1] ?? 0));
    if (newest === 0) return undefined;
    const { listing, ...stored } = await readJson<StoredState>(store, `${listings}${name}/state-${newest}.json`);
    return new ListingSession(store, listings, name, newest, { ...stored, listing: { ...listing, folders: factsFromJson(listing.folders) } });
  }

  /** For the workflow: the session, and how far it is. */
  get continuation(): string {
    return `${this.#name}/${this.#step}`;
  }

  /** @returns false when another call has left this state: this one has nothing more to do */
  async save(): Promise<boolean> {
    const { listing, ...state } = this.state!;
    const stored: StoredState = { ...state, listing: { ...listing, folders: factsToJson(listing.folders) } };
    const own = this.#unsaved;
    this.#unsaved = [];
    this.#step += 1;
    const saved = await this.#store.put(`${this.#prefix}state-${this.#step}.json`, JSON.stringify(stored), { ifNoneMatch: '*', flush: false, contentType: 'application/json' });
    if (!saved) for (const id of own) await this.#store.delete(this.#partKey(id));
    return saved;
  }

  async putPart(lines: string): Promise<string> {
    const id = `${this.#token}-${++this.#parts}`;
    await this.#store.put(this.#partKey(id), lines, { flush: false, contentType: 'application/jsonl' });
    this.#unsaved.push(id);
    return id;
  }

  async getPart(part: Part): Promise<Uint8Array> {
    return this.#store.get(this.#partKey(part.id));
  }

  /** Parts of the whole listing, in order. */
  get parts(): Part[] {
    return this.state!.listing.ranges.flatMap(({ parts }) => parts);
  }

  async end(): Promise<void> {
    await removeAll(this.#store, this.#prefix);
  }

  #partKey(id: string): string {
    return `${this.#prefix}part-${id}.jsonl`;
  }
}

export function emptyState(listing: Listing): ListingState {
  return { listing, listed: false, hash: emptyHash(), hashedParts: 0 };
}

async function removeAll(store: ObjectStore, prefix: string): Promise<void> {
  const keys = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  // States first: without them nobody begins to read the parts.
  keys.sort((a, b) => Number(b.includes('/state-')) - Number(a.includes('/state-')));
  for (let i = 0; i < keys.length; i += 16) await Promise.all(keys.slice(i, i + 16).map((key) => store.delete(key)));
}

