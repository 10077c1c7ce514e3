import { mapAhead } from '../../ahead.ts';
import { GenViewError } from '../../errors.ts';
import type { Split } from '../../stages/contract.ts';
import { compareKeys } from '../../storage/key.ts';
import type { ObjectStore } from '../../storage/objectStore.ts';
import { addToFacts } from '../layout.ts';
import { lineInvalid, readListLines, type ListedEntry, type ListFile } from '../list/listFile.ts';
import { contentTag } from './contentTag.ts';
import type { Deadline } from './deadline.ts';
import { checkFolders, type Listing } from './listRanges.ts';
import { parseJsonLines } from './parseJsonLines.ts';
import type { Part } from './ranges.ts';

/** A part of a sorted run. */
interface Block extends Part { /** Path of its first line. */ readonly first: string }

/** How far the sorting of a list has come. Plain JSON. */
export interface SortState {
  /** Etag of the list when the sorting began. */
  readonly version: string;
  /** Files of the list that are read, and lines of the next one. */
  file: number;
  line: number;
  read: boolean;
  /** Each sorted by itself. */
  readonly runs: Block[][];
  /** What the first image of the list has, and so all have. */
  given?: { readonly split: boolean; readonly label: boolean };
  labels: string[];
}

/** A line of a run: an image with the place in the list that names it. */
type RunLine = readonly [path: string, bytes: number, etag: string, split: Split | null, label: string | null, file: number, line: number];

export interface SortOptions {
  readonly deadline: Deadline;
  readonly signal: AbortSignal;
  /** Entries read in this call at most, merged at most. @default no limit */
  readonly objects?: number;
  readonly putPart: (lines: string) => Promise<string>;
  readonly getPart: (part: Part) => Promise<Uint8Array>;
  /** Called when something has been done that the state shows; false stops. */
  readonly onProgress: () => Promise<boolean>;
}

/** Lines sorted in memory at once, about 40 MB. */
const runLines = 100_000;
/** Lines of a block: as many of each run are in memory while the runs are merged. */
const blockLines = 2000;
/** Requests for sizes and etags under way, where the list has none. */
const parallelHeads = 32;
const partBytes = 2 ** 21;
const mostLabels = 200_000;

/**
 * Sorts the images that a list names by their paths, as a listing has them, into parts of `listing`'s only range: first sorted runs of 100,000
 * lines, then their merge, both of them such that memory is bounded and that the next call can go on. Stops at the deadline, after one
 * step at least. Throws `ListInvalid` for a line that cannot be used, names an image a second time, or one that does not exist.
 * @returns whether all is done
 */
export async function sortList(images: ObjectStore, list: ListFile, state: SortState, listing: Listing, options: SortOptions): Promise<boolean> {
  if (list.version !== state.version) throw new GenViewError('DatasetChanged', 'dataset.list was replaced while it was read; start the run again');
  if (!state.read && !await readRuns(images, list, state, listing, options)) return false;
  return mergeRuns(list, state, listing, options);
}

async function readRuns(images: ObjectStore, list: ListFile, state: SortState, listing: Listing, options: SortOptions): Promise<boolean> {
  const { deadline, signal } = options;
  const labels = new Set(state.labels);
  let entries: { entry: ListedEntry; file: number; line: number }[] = [], ignored = 0, objects = 0;

  const commit = async (file: number, line: number): Promise<boolean> => {
    if (entries.length > 0) state.runs.push(await writeRun(await complete(images, list, entries, signal), options));
    entries = [];
    listing.ignored += ignored;
    ignored = 0;
    state.labels = [...labels];
    Object.assign(state, { file, line });
    return options.onProgress();
  };

  for (let file = state.file; file < list.files.length; file++) {
    const skip = file === state.file ? state.line : 0;
    let line = 0;
    for await (const texts of readListLines(list, file)) {
      signal.throwIfAborted();
      for (const text of texts) {
        line += 1;
        if (line <= skip) continue;
        const entry = parse(list, file, line, text);
        if (entry === 'other') ignored += 1;
        if (!entry || entry === 'other') continue;
        checkGiven(list, state, entry, file, line);
        if (entry.label !== undefined) labels.add(entry.label);
        if (labels.size > mostLabels) throw lineInvalid(list, file, line, `more than ${mostLabels} different labels`);
        entries.push({ entry, file, line });
        objects += 1;
        if (entries.length < runLines && objects !== options.objects && !deadline.passed()) continue;
        const kept = await commit(file, line);
        if (!kept || deadline.passed() || objects === options.objects) return false;
      }
    }
    // The next file begins a line count of its own; what is read of this one stays in memory.
    if (entries.length === 0) Object.assign(state, { file: file + 1, line: 0 });
  }
  const kept = await commit(list.files.length, 0);
  state.read = true;
  return kept;
}

function parse(list: ListFile, file: number, line: number, text: string): ReturnType<ListFile['parse']> {
  try { return list.parse(text); } catch (error) { throw lineInvalid(list, file, line, (error as Error).message); }
}

/** A field that some lines have and others have not is a mistake. */
function checkGiven(list: ListFile, state: SortState, { split, label }: ListedEntry, file: number, line: number): void {
  const given = state.given ??= { split: split !== undefined, label: label !== undefined };
  for (const [field, value] of [['split', split], ['label', label]] as const) {
    if ((value !== undefined) === given[field]) continue;
    throw lineInvalid(list, file, line, given[field] ? `has no ${field}, as the lines before it have` : `has a ${field}, which the lines before it have not; give it in every line or in none`);
  }
}

/** Adds size and etag, by a request where the list has not both. */
async function complete(images: ObjectStore, list: ListFile, entries: readonly { entry: ListedEntry; file: number; line: number }[], signal: AbortSignal): Promise<RunLine[]> {
  const withTag = async ({ entry: { path, split, label, ...known }, file, line }: (typeof entries)[number]): Promise<RunLine> => {
    signal.throwIfAborted();
    let { bytes, etag } = known;
    if (bytes === undefined || etag === undefined) {
      const info = await images.head(path);
      if (!info) throw lineInvalid(list, file, line, `${images.url(path)} does not exist`);
      bytes ??= info.size;
      etag ??= await contentTag(images, info);
    }
    return [path, bytes, etag, split ?? null, label ?? null, file, line];
  };
  const lines: RunLine[] = [];
  for await (const line of mapAhead(entries, parallelHeads, withTag)) lines.push(line);
  return lines;
}

async function writeRun(lines: RunLine[], { putPart }: SortOptions): Promise<Block[]> {
  lines.sort(byPath);
  const blocks: RunLine[][] = [];
  for (let i = 0; i < lines.length; i += blockLines) blocks.push(lines.slice(i, i + blockLines));
  const run: Block[] = [];
  for await (const block of mapAhead(blocks, 8, async (own) => ({ id: await putPart(text(own)), lines: own.length, first: own[0]![0] }))) run.push(block);
  return run;
}

/** Lines of one path in the order of the list, so that the second is the one to blame. */
function byPath(a: RunLine, b: RunLine): number {
  return compareKeys(a[0], b[0]) || a[5] - b[5] || a[6] - b[6];
}

const text = (lines: readonly unknown[]): string => lines.map((line) => `${JSON.stringify(line)}\n`).join('');

async function mergeRuns(list: ListFile, state: SortState, listing: Listing, options: SortOptions): Promise<boolean> {
  const { deadline, signal } = options;
  const [range] = listing.ranges as [Listing['ranges'][number]];
  const { after } = range;
  const given = state.given?.split === true || state.given?.label === true;
  const cursors = state.runs.map((run) => new RunCursor(run, after, options));
  await Promise.all(cursors.map((cursor) => cursor.start()));
  const heap = cursors.filter(({ line }) => line !== undefined);
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(heap, i);

  let lines: string[] = [], paths: string[] = [], bytes = 0, objects = 0, before: RunLine | undefined;
  const commit = async (): Promise<boolean> => {
    signal.throwIfAborted();
    if (lines.length > 0) {
      range.parts.push({ id: await options.putPart(lines.join('')), lines: lines.length });
      range.after = before![0];
      for (const path of paths) addToFacts(listing.folders, path);
      checkFolders(listing.folders);
    }
    lines = []; paths = []; bytes = 0;
    return options.onProgress();
  };
  while (heap.length > 0) {
    const cursor = heap[0]!, line = cursor.line!;
    const [path, size, etag, split, label, file, number] = line;
    if (before?.[0] === path) throw lineInvalid(list, file, number, `names ${path} a second time; it stands in ${before[5] === file ? '' : `${list.files[before[5]]!.key} `}line ${before[6]} already`);
    before = line;
    const own = `${JSON.stringify(given ? [path, size, etag, split, label] : [path, size, etag])}\n`;
    lines.push(own);
    paths.push(path);
    bytes += own.length;
    objects += 1;
    // Most steps stay within a block: only those between two blocks wait.
    if (!cursor.next()) await cursor.nextBlock();
    if (cursor.line === undefined) { heap[0] = heap.at(-1)!; heap.pop(); }
    sink(heap, 0);
    // Never between two lines of one path: the next call goes on behind it, and would not see the second.
    if ((bytes < partBytes && objects < (options.objects ?? Infinity) && !deadline.passed()) || heap[0]?.line?.[0] === path) continue;
    if ((!await commit() || deadline.passed() || objects >= (options.objects ?? Infinity)) && heap.length > 0) return false;
  }
  const kept = await commit();
  range.done = true;
  state.runs.length = 0;
  return kept;
}

/** Goes through the lines of a run, behind a path, with one block in memory and the next one on its way. */
class RunCursor {
  line: RunLine | undefined;
  readonly #run: readonly Block[];
  readonly #after: string | null;
  readonly #getPart: SortOptions['getPart'];
  #block: number;
  #lines: readonly RunLine[] = [];
  #ahead: Promise<Uint8Array> | undefined;
  #position = 0;

  constructor(run: readonly Block[], after: string | null, { getPart }: SortOptions) {
    this.#run = run;
    this.#after = after;
    this.#getPart = getPart;
    const behind = after === null ? 0 : run.findIndex(({ first }) => compareKeys(first, after) > 0);
    this.#block = Math.max(0, (behind < 0 ? run.length : behind) - 1);
  }

  async start(): Promise<void> {
    await this.#load();
    while (this.line !== undefined && this.#after !== null && compareKeys(this.line[0], this.#after) <= 0) if (!this.next()) await this.nextBlock();
  }

  /** @returns false at the end of the block: `nextBlock` then goes on */
  next(): boolean {
    this.#position += 1;
    this.line = this.#lines[this.#position];
    return this.line !== undefined;
  }

  async nextBlock(): Promise<void> {
    this.#block += 1;
    await this.#load();
  }

  async #load(): Promise<void> {
    const block = this.#run[this.#block], following = this.#run[this.#block + 1];
    const bytes = block && await (this.#ahead ?? this.#getPart(block));
    this.#ahead = following && this.#getPart(following);
    // Awaited, and so noticed, when it is its turn.
    this.#ahead?.catch(() => {});
    this.#position = 0;
    this.#lines = bytes ? parseJsonLines<RunLine>(bytes) : [];
    this.line = this.#lines[0];
  }
}

/** Restores the order of a heap whose element at `start` may be too large. */
function sink(heap: RunCursor[], start: number): void {
  for (let i = start; ;) {
    let least = i;
    for (const child of [2 * i + 1, 2 * i + 2]) if (child < heap.length && byPath(heap[child]!.line!, heap[least]!.line!) < 0) least = child;
    if (least === i) return;
    [heap[i], heap[least]] = [heap[least]!, heap[i]!];
    i = least;
  }
}
