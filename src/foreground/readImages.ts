import { GenViewError } from '../errors.ts';
import type { ObjectStore } from '../storage/index.ts';

/** One listed image, either prepared, or with the reason why it cannot be. */
export type ReadImage<T, R> =
  | { readonly item: T; readonly value: R; readonly reason?: undefined }
  | { readonly item: T; readonly value?: undefined; readonly reason: string };

/**
 * Reads and prepares images (decodes, crops), some ahead and at the same time, in the order of `items`, so that an engine
 * that works on one batch finds the next one ready. Memory holds `ahead` prepared images at most. An image that is gone or
 * cannot be decoded gives its reason; any other failure, for example of the network, is thrown.
 * @param options.ahead images in flight. @default 8
 */
export async function* readImages<T extends { readonly path: string }, R>(
  store: ObjectStore, items: Iterable<T> | AsyncIterable<T>, prepare: (bytes: Uint8Array, item: T) => Promise<R>,
  options: { readonly ahead?: number; readonly signal?: AbortSignal } = {},
): AsyncGenerator<ReadImage<T, R>> {
  const { ahead = 8, signal } = options;
  const inFlight: Promise<ReadImage<T, R>>[] = [];
  const read = async (item: T): Promise<ReadImage<T, R>> => {
    try {
      return { item, value: await prepare(await store.get(item.path), item) };
    } catch (error) {
      if (error instanceof GenViewError && error.code === 'ImageUnreadable') return { item, reason: error.message };
      if (error instanceof GenViewError && error.code === 'ObjectNotFound') return { item, reason: 'the file is gone since the dataset was listed' };
      throw error;
    }
  };
  for await (const item of items) {
    signal?.throwIfAborted();
    const reading = read(item);
    // Whoever stops early leaves reads in flight: their failures concern nobody.
    reading.catch(() => {});
    inFlight.push(reading);
    if (inFlight.length >= ahead) yield await inFlight.shift()!;
  }
  while (inFlight.length > 0) {
    signal?.throwIfAborted();
    yield await inFlight.shift()!;
  }
}

/** Arrays of `size` items, the last one shorter. */
export async function* batches<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length === size) { yield batch; batch = []; }
  }
  if (batch.length > 0) yield batch;
}
