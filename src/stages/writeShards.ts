import { mapAhead } from '../ahead.ts';
import type { Deadline } from '../dataset/listing/deadline.ts';
import { HashSample } from '../dataset/listing/hashSample.ts';
import { parseJsonLines } from '../dataset/listing/parseJsonLines.ts';
import type { Part } from '../dataset/listing/ranges.ts';
import type { Layout } from '../dataset/layout.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { readJson, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import type { DatasetSummary, ListedImage } from './contract.ts';
import { jsonLines, shardName } from './shards.ts';

/** Thrown when the deadline passed; what is written stays, and the next call goes on behind it. */
export class Unfinished extends Error {
  override readonly name = 'Unfinished';
}

/** A line of a listing: the last two stand only in a dataset that is given as a list, and only where the list has them. */
export type ListedLine = readonly [path: string, bytes: number, etag: string, split?: 'train' | 'val' | null, label?: string | null];

export interface WriteShardsInput {
  /** Parts of the listing, in order. */
  readonly parts: readonly Part[];
  readonly getPart: (part: Part) => Promise<Uint8Array>;
  readonly layout: Layout;
  readonly shards: number;
  readonly shardSize: number;
  /** Files left out already while listing. */
  readonly ignored: number;
  readonly recipe: Recipe;
  readonly deadline: Deadline;
  readonly signal: AbortSignal;
}

/** `datasets/<hash>/progress.json`, there only while the shards are written. In lines of the listing, not in parts: any session's will do. */
interface Progress {
  lines: number;
  shard: number;
  index: number;
  readonly images: { train: number; val: number };
  sample: HashSample;
}

/** Puts under way, and parts read ahead. */
const parallelPuts = 8, partsAhead = 4;
/** Milliseconds of work that a call which is killed may lose. */
const saveEvery = 20_000;

/**
 * Writes `shard-*.jsonl`, `sample.jsonl` and `dataset.json` from a listing: the same bytes, however often it is interrupted, begun again, or done
 * by two at once. Memory holds a few shards and the sample. Throws `Unfinished` at the deadline, after one shard at least.
 */
export async function writeShards(store: ObjectStore, prefix: string, input: WriteShardsInput): Promise<void> {
  const { layout, shards, shardSize, recipe, deadline, signal } = input;
  const labels = new Map(layout.classes.map((name, label) => [name, label]));
  const progress = await readProgress(store, prefix, recipe);
  const { images, sample } = progress;
  let puts: Promise<unknown>[] = [], saved = performance.now(), lines: ListedImage[] = [];
  let { index } = progress;

  const save = async (): Promise<void> => {
    await Promise.all(puts);
    puts = [];
    await store.put(`${prefix}progress.json`, JSON.stringify(progress), { flush: false, contentType: 'application/json' });
    saved = performance.now();
  };
  const writeShard = async (): Promise<void> => {
    signal.throwIfAborted();
    const put = store.put(`${prefix}shard-${shardName(progress.shard, input)}.jsonl`, jsonLines(lines), { contentType: 'application/jsonl' });
    put.catch(() => {});
    puts.push(put);
    if (puts.length >= parallelPuts) await puts.shift();
    lines = [];
    progress.shard += 1;
  };

  let seen = 0;
  const skip = progress.lines;
  const wanted = input.parts.filter((part) => { seen += part.lines; return seen > skip; });
  let position = input.parts.reduce((sum, part) => sum + part.lines, 0) - wanted.reduce((sum, part) => sum + part.lines, 0);
  for await (const part of mapAhead(wanted, partsAhead, input.getPart)) {
    for (const line of parseJsonLines<ListedLine>(part)) {
      position += 1;
      if (position <= skip) continue;
      const [path, bytes, etag] = line;
      const place = layout.place(path, line[3], line[4]);
      if (!place) continue;
      const image: ListedImage = { index: index++, path, bytes, etag, split: place.split, label: labels.get(place.className)! };
      images[place.split] += 1;
      if (place.split === 'train') sample.add(image);
      lines.push(image);
      if (lines.length < shardSize) continue;
      await writeShard();
      progress.lines = position;
      progress.index = index;
      if (deadline.passed() && progress.shard < shards) { await save(); throw new Unfinished(); }
      if (performance.now() - saved > saveEvery) await save();
    }
  }
  // Array jobs need two shards at least: a small dataset has an empty second one.
  while (progress.shard < shards) await writeShard();
  await Promise.all(puts);

  await store.put(`${prefix}sample.jsonl`, jsonLines(sample.images()), { contentType: 'application/jsonl' });
  const summary: DatasetSummary = { classes: layout.classes, images, shards, ignored: input.ignored + layout.leftAlone.images };
  await writeJson(store, `${prefix}dataset.json`, summary);
  await store.delete(`${prefix}progress.json`);
}

async function readProgress(store: ObjectStore, prefix: string, { foreground, seed }: Recipe): Promise<Progress> {
  const key = `${prefix}progress.json`;
  if (!await store.head(key)) return { lines: 0, shard: 0, index: 0, images: { train: 0, val: 0 }, sample: new HashSample(foreground.sampleImages, seed) };
  const stored = await readJson<Omit<Progress, 'sample'> & { sample: ReturnType<HashSample['toJSON']> }>(store, key);
  return { ...stored, sample: new HashSample(foreground.sampleImages, seed, stored.sample) };
}
