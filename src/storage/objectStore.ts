import type { Readable } from 'node:stream';

export interface ObjectInfo {
  readonly key: string;
  readonly size: number;
  /**
   * Opaque; changes when the content is replaced. Of plain puts to S3 and of files up to 16 MiB it is the MD5 of the content, but not in a bucket that
   * encrypts with a key of KMS: there every put has a new one, also of the same bytes.
   */
  readonly etag: string;
  /** MD5 of the content in hexadecimal, where the store knows it: given with the put, or of a file up to 16 MiB. From `head` alone: listings do not tell. */
  readonly md5?: string;
}

export interface PutOptions {
  /** Only create: resolves to false, without writing, when the object exists. */
  readonly ifNoneMatch?: '*';
  /**
   * Only replace this version: resolves to false, without writing, when the object is another version or gone. (Also,
   * over a network that loses answers, when it was written and replaced again at once: whoever counts on it looks at the content.)
   */
  readonly ifMatch?: string;
  readonly contentType?: string;
  /** MD5 of the body in hexadecimal, for `head` to tell. Taken at its word. */
  readonly md5?: string;
  /** Folders only: false spares the wait until the bytes are on the disk, for files that are easily made again. @default true */
  readonly flush?: boolean;
}

/**
 * Objects under one root URL, a folder (`file:`) or a bucket prefix (`s3:`). Keys are relative, separated by `/`, any
 * Unicode. A put is atomic: readers see the old object or the new one. Errors are GenViewErrors that name the URL.
 */
export interface ObjectStore {
  /** Ends with a slash. */
  readonly root: string;
  url(key: string): string;
  /** Throws `ObjectNotFound` when absent. `end` is inclusive. */
  get(key: string, range?: { start: number; end?: number }): Promise<Uint8Array>;
  getStream(key: string): Promise<Readable>;
  /** True when written. A body stream that fails writes nothing. */
  put(key: string, body: Uint8Array | string | Readable, options?: PutOptions): Promise<boolean>;
  head(key: string): Promise<ObjectInfo | undefined>;
  /** Keys in the order of their UTF-8 bytes, from after `startAfter`. */
  list(prefix: string, options?: { startAfter?: string }): AsyncIterable<ObjectInfo>;
  /**
   * Folders directly below `prefix`, each with the prefix and a slash at the end, in order; an array for each request, which may be
   * empty. Only where a request tells a thousand keys at most, so that a long listing gains by being cut up.
   */
  folders?(prefix: string): AsyncIterable<string[]>;
  /** No error when absent. */
  delete(key: string): Promise<void>;
}
