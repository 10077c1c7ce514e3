import { availableParallelism } from 'node:os';
import { GenViewError } from '../errors.ts';
import { Random } from '../random.ts';
import type { SampleMetadata, Split, ViewsPlan } from '../stages/contract.ts';
import { readJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { decodeImage, type Image } from './image.ts';
import { readSamples, type Sample } from './samples.ts';

export interface DecodedSample {
  readonly metadata: SampleMetadata;
  readonly original: Image;
  /** The generated views, in their numbers' order; none for validation images, or when the source was opened without views. */
  readonly views: readonly Image[];
}

export interface SampleSource {
  /** Samples of the split, from `plan.json`. */
  readonly count: number;
  /** Every sample once, in the order of the dataset's listing. */
  all(): AsyncIterable<DecodedSample>;
  /** Every sample once, in an order that depends on `seed` and `epoch` (and the shards) only: the same in every process. */
  epoch(seed: number, epoch: number, options?: EpochOptions): AsyncIterable<DecodedSample>;
}

export interface EpochOptions {
  /** Leaves out the samples (by the `index` of their metadata) for which it is false, without decoding them where the split does not fit in memory; the others come in the same order. */
  readonly only?: (index: number) => boolean;
}

export interface SampleSourceOptions {
  readonly split: Split;
  /** Number of tar shards. */
  readonly shards: number;
  /** Images decoded at once. @default the machine's cores */
  readonly threads?: number;
  /** Whether generated views are decoded; the order is the same either way. @default true */
  readonly views?: boolean;
  /**
   * Bytes of decoded originals kept in memory over epochs; splits that need more are streamed in every epoch. Part of
   * what fixes the order, so equal in all processes. Generated views come on top and do not count: a baseline sees its
   * images in the same order on shards with and without views. @default 1 GiB
   */
  readonly memory?: number;
}

/** Shards open at once when streaming: listings are sorted by class, and a batch should not be of one class. */
const openShards = 32;

/**
 * The samples that GenerateViews wrote under `viewsPrefix` (`views/<hash>/`), decoded.
 *
 * When the split fits in memory, the first epoch reads it and later ones are permutations of it. Otherwise each epoch
 * reads the shards in random order, 32 side by side, through a shuffle buffer that holds encoded originals of a
 * quarter of `memory` (and the views beside them). Iteration throws `SamplesMissing` when shards hold fewer or more samples than were planned.
 */
export async function openSampleSource(store: ObjectStore, viewsPrefix: string, options: SampleSourceOptions): Promise<SampleSource> {
  const { split, shards, threads = availableParallelism(), views = true, memory = 2 ** 30 } = options;
  const plan = await readJson<ViewsPlan>(store, `${viewsPrefix}plan.json`);
  const count = plan.images[split];
  const shardKey = (shard: number): string => `${viewsPrefix}shard-${String(shard).padStart(5, '0')}.tar`;
  const decode = (samples: AsyncIterable<EncodedSample>): AsyncGenerator<DecodedSample> => mapInOrder(samples, decodeSample, 2 * threads);
  let loading: Promise<readonly DecodedSample[] | undefined> | undefined;

  async function* shard(number: number): AsyncGenerator<EncodedSample> {
    for await (const { key, files } of readSamples(store, shardKey(number))) {
      const { json } = files;
      if (!json) throw new GenViewError('ShardUnreadable', `${store.url(shardKey(number))}: sample ${key} has no .json`);
      const metadata = JSON.parse(new TextDecoder().decode(json)) as SampleMetadata;
      if (metadata.split !== split) continue;
      yield {
        metadata,
        original: Object.entries(files).find(([extension]) => extension.startsWith('orig.'))?.[1],
        views: views ? viewsOf(files) : [],
      };
    }
  }

  async function* inOrder(): AsyncGenerator<EncodedSample> {
    for (let number = 0; number < shards; number++) yield* shard(number);
  }

  async function* shuffled(random: Random): AsyncGenerator<EncodedSample> {
    const waiting = random.shuffle(Array.from({ length: shards }, (_, number) => number));
    const readers = waiting.splice(0, openShards).map(shard);
    const buffer: EncodedSample[] = [];
    let bytes = 0;
    try {
      while (readers.length > 0) {
        const i = random.integer(readers.length);
        const next = await readers[i]!.next();
        if (next.done) {
          const number = waiting.shift();
          if (number === undefined) readers.splice(i, 1); else readers[i] = shard(number);
          continue;
        }
        buffer.push(next.value);
        bytes += next.value.original?.length ?? 0;
        while (bytes > memory / 4) yield take();
      }
      while (buffer.length > 0) yield take();
    } finally {
      await Promise.all(readers.map((reader) => reader.return(undefined)));
    }
    function take(): EncodedSample {
      const i = random.integer(buffer.length);
      const sample = buffer[i]!;
      buffer[i] = buffer.at(-1)!;
      buffer.pop();
      bytes -= sample.original?.length ?? 0;
      return sample;
    }
  }

  async function* counted(samples: AsyncIterable<EncodedSample>): AsyncGenerator<EncodedSample> {
    let seen = 0;
    const wrong = (held: string): GenViewError => new GenViewError('SamplesMissing', `${store.url(viewsPrefix)} holds ${held} ${split} samples where plan.json says ${count}; delete this prefix and run again`);
    for await (const sample of samples) {
      // Whoever reads may have room for the planned ones only.
      if (++seen > count) throw wrong(`more than ${count}`);
      yield sample;
    }
    if (seen !== count) throw wrong(`${seen}`);
  }

  /** undefined: too large for the memory. */
  async function load(): Promise<readonly DecodedSample[] | undefined> {
    const samples: DecodedSample[] = [];
    let bytes = 0;
    for await (const sample of decode(counted(inOrder()))) {
      samples.push(sample);
      bytes += sample.original.data.length;
      if (bytes > memory) return undefined;
    }
    return samples;
  }

  return {
    count,
    async *all() {
      const loaded = await loading;
      if (loaded) yield* loaded; else yield* decode(counted(inOrder()));
    },
    async *epoch(seed, epoch, { only = () => true } = {}) {
      loading ??= load().catch((error: unknown) => { loading = undefined; throw error; });
      const loaded = await loading;
      const wanted = ({ metadata }: { readonly metadata: SampleMetadata }): boolean => only(metadata.index);
      if (loaded) yield* new Random(seed, 'epoch', epoch).shuffle(loaded).filter(wanted);
      else yield* decode(filtered(counted(shuffled(new Random(seed, 'stream', epoch))), wanted));
    },
  };
}

interface EncodedSample {
  readonly metadata: SampleMetadata;
  /** Absent only in a damaged shard. */
  readonly original: Uint8Array | undefined;
  readonly views: readonly Uint8Array[];
}

function viewsOf(files: Sample['files']): Uint8Array[] {
  const views: Uint8Array[] = [];
  for (let file; (file = files[`view${views.length}.png`]);) views.push(file);
  return views;
}

async function decodeSample({ metadata, original, views }: EncodedSample): Promise<DecodedSample> {
  try {
    if (!original) throw new GenViewError('ShardUnreadable', 'the sample has no original image');
    const [first, ...rest] = await Promise.all([original, ...views].map(decodeImage));
    return { metadata, original: first!, views: rest };
  } catch (error) {
    if (!(error instanceof GenViewError)) throw error;
    throw new GenViewError(error.code, `sample ${metadata.index} (${metadata.path}): ${error.message}`, { cause: error });
  }
}

async function* filtered<T>(items: AsyncIterable<T>, wanted: (item: T) => boolean): AsyncGenerator<T> {
  for await (const item of items) if (wanted(item)) yield item;
}

/** Maps with up to `window` calls under way; results come in the order of the items. */
async function* mapInOrder<T, R>(items: AsyncIterable<T>, map: (item: T) => Promise<R>, window: number): AsyncGenerator<R> {
  const pending: Promise<R>[] = [];
  for await (const item of items) {
    const result = map(item);
    // Seen when its turn comes; until then it must not count as unhandled.
    result.catch(() => {});
    pending.push(result);
    if (pending.length >= window) yield await pending.shift()!;
  }
  for (const result of pending) yield await result;
}
