import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { GenViewError } from '../errors.ts';
import { toUrl } from '../recipe/location.ts';
import { FolderStore } from './folderStore.ts';
import type { ObjectStore, PutOptions } from './objectStore.ts';
import { S3Store } from './s3Store.ts';

export type { ObjectInfo, ObjectStore, PutOptions } from './objectStore.ts';
export { once, type OnceOptions } from './lease.ts';

/**
 * The store of a root URL: `file:///folder`, `s3://bucket/prefix` or the path of a folder, with or without a slash at
 * the end. Nothing is read or created yet. Throws `StoreUrlInvalid`.
 *
 * Bucket keys stand in `s3:` URLs as they are, as the AWS tools print them; `file:` URLs are percent-encoded.
 */
export function openStore(url: string): ObjectStore {
  if (url.startsWith('s3://')) return new S3Store(url);
  if (url.startsWith('file:')) {
    try { return new FolderStore(fileURLToPath(url)); } catch (cause) {
      throw new GenViewError('StoreUrlInvalid', `${url} is not a usable file URL; write file:///absolute/path`, { cause });
    }
  }
  if (url === '' || /^[a-z][a-z0-9+.-]*:\/\//i.test(url)) {
    throw new GenViewError('StoreUrlInvalid', `${JSON.stringify(url)} is not a folder, a file: URL or an s3: URL`);
  }
  return new FolderStore(path.resolve(url));
}

/** An object's URL (or path) as the store of its parent folder and the last part as key. */
export function splitUrl(url: string): { store: ObjectStore; key: string } {
  const whole = toUrl(url);
  const slash = whole.lastIndexOf('/');
  const last = whole.slice(slash + 1);
  if (last === '' || url.endsWith('/')) throw new GenViewError('StoreUrlInvalid', `${url} is not the URL of an object`);
  const store = openStore(whole.slice(0, slash + 1));
  if (whole.startsWith('s3://')) return { store, key: last };
  try { return { store, key: decodeURIComponent(last) }; } catch (cause) {
    throw new GenViewError('StoreUrlInvalid', `${url} is not a usable file URL`, { cause });
  }
}

/** Throws `ObjectNotFound`, or `JsonInvalid` when the object is no JSON. The content is trusted to be a `T`. */
export async function readJson<T>(store: ObjectStore, key: string): Promise<T> {
  const text = new TextDecoder().decode(await store.get(key));
  try { return JSON.parse(text) as T; } catch (cause) {
    throw new GenViewError('JsonInvalid', `${store.url(key)} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
}

/** Indented, with a newline at the end. False when a condition of `options` forbade it. */
export async function writeJson(store: ObjectStore, key: string, value: unknown, options?: PutOptions): Promise<boolean> {
  return store.put(key, `${JSON.stringify(value, undefined, 2)}\n`, { contentType: 'application/json', ...options });
}

/** The lines of a JSON lines object, one at a time. Throws `JsonInvalid` with the line's number. */
export async function* readLines<T>(store: ObjectStore, key: string): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let number = 0;
  const parse = (line: Uint8Array): T => {
    number += 1;
    try { return JSON.parse(decoder.decode(line)) as T; } catch (cause) {
      throw new GenViewError('JsonInvalid', `${store.url(key)} line ${number} is not valid JSON: ${(cause as Error).message}`, { cause });
    }
  };
  // By bytes and not by `readline`, which also ends lines at U+2028 and U+2029: JSON strings hold them unescaped.
  let rest: Uint8Array[] = [];
  for await (const chunk of await store.getStream(key) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; start = end + 1, end = chunk.indexOf(10, start)) {
      const line = chunk.subarray(start, end);
      const whole = rest.length > 0 ? Buffer.concat([...rest, line]) : line;
      rest = [];
      if (whole.length > 0) yield parse(whole);
    }
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
  if (rest.length > 0) yield parse(Buffer.concat(rest));
}
