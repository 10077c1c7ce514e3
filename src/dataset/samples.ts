import { Readable } from 'node:stream';
import tar from 'tar-stream';
import { GenViewError } from '../errors.ts';
import type { ObjectStore } from '../storage/objectStore.ts';

/** One sample of a WebDataset shard: the files `<key>.<extension>` of a tar, one after the other. */
export interface Sample {
  /** Unique in its shard; holds no dot. */
  readonly key: string;
  /** By extension, which may hold dots: `orig.jpg`, `view0.png`, `json`. */
  readonly files: Readonly<Record<string, Uint8Array>>;
}

/**
 * The samples of a tar shard, in order, one in memory at a time. Files belong together as in WebDataset: same folder,
 * and same name up to the first dot. Throws `ShardUnreadable` when the tar is damaged.
 */
export async function* readSamples(store: ObjectStore, key: string): AsyncGenerator<Sample> {
  const source = await store.getStream(key);
  const extract = tar.extract();
  // Errors of the source come out of the loop below.
  source.on('error', (error) => extract.destroy(error)).pipe(extract);
  let current: { key: string; files: Record<string, Uint8Array> } | undefined;
  try {
    for await (const entry of extract) {
      const { name, type } = entry.header;
      if (type !== 'file' && type !== 'contiguous-file') { entry.resume(); continue; }
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry as AsyncIterable<Uint8Array>) chunks.push(chunk);
      const dot = name.indexOf('.', name.lastIndexOf('/') + 1);
      if (dot < 0) continue;
      const sample = name.slice(0, dot);
      if (current?.key !== sample) {
        if (current) yield current;
        current = { key: sample, files: {} };
      }
      current.files[name.slice(dot + 1)] = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    }
  } catch (error) {
    if (error instanceof GenViewError) throw error;
    throw new GenViewError('ShardUnreadable', `${store.url(key)} is not a whole tar file (${(error as Error).message}); delete it and its .done marker, and run the stage again`, { cause: error });
  } finally {
    source.destroy();
    extract.destroy();
  }
  if (current) yield current;
}

/**
 * A tar stream of the samples: files in the order of the samples' records, no times, no owners, so that equal samples
 * give equal bytes. Pulled through as the reader reads.
 */
export function writeSamples(samples: AsyncIterable<Sample> | Iterable<Sample>): Readable {
  const pack = tar.pack();
  // Errors come out of the iteration below, and out of the entries' callbacks.
  const ignore = (): void => {};
  pack.on('error', ignore);
  const fill = async (): Promise<void> => {
    for await (const { key, files } of samples) {
      for (const [extension, bytes] of Object.entries(files)) {
        const header = { name: `${key}.${extension}`, size: bytes.length, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0, type: 'file' as const };
        await new Promise<void>((resolve, reject) => {
          pack.entry(header, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), (error) => { if (error) reject(error); else resolve(); })
            .on('error', ignore);
        });
      }
    }
    pack.finalize();
  };
  return Readable.from((async function* () {
    // Starts when someone reads. A failure of the samples fails the stream.
    const filled = fill().catch((error: unknown) => { pack.destroy(error as Error); });
    try { yield* pack; } finally { pack.destroy(); await filled; }
  })(), { objectMode: false });
}
