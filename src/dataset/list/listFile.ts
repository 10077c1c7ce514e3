import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { GenViewError } from '../../errors.ts';
import { kindOfList } from '../../recipe/location.ts';
import type { Split } from '../../stages/contract.ts';
import { splitUrl } from '../../storage/index.ts';
import { checkMd5 } from '../../storage/md5.ts';
import type { ObjectStore } from '../../storage/objectStore.ts';
import { openInventory } from './inventory.ts';
import { jsonLinesList } from './jsonLines.ts';

/** An image that a list names. */
export interface ListedEntry {
  /** Relative to `dataset.url`. */
  readonly path: string;
  readonly bytes?: number;
  readonly etag?: string;
  readonly split?: Split;
  readonly label?: string;
}

/** A dataset given as a list: files of lines, each of which names an image or nothing. */
export interface ListFile {
  readonly files: readonly {
    readonly store: ObjectStore;
    readonly key: string;
    readonly gzip: boolean;
    /** Of the file as it is stored, in hexadecimal, where the list tells. */
    readonly md5?: string;
  }[];
  /** Etag of the file that `dataset.list` names. */
  readonly version: string;
  /** Image of a line; `other` for a file that is none, undefined for a line that does not count. Throws an Error that says what is wrong with the line. */
  readonly parse: (line: string) => ListedEntry | 'other' | undefined;
}

/**
 * Opens the list of a dataset: the `manifest.json` of an S3 Inventory, or JSON lines. Throws `ListInvalid`, `ObjectNotFound`.
 * @param url of the list
 * @param root of the images, ends with a slash
 */
export async function openListFile(url: string, root: string): Promise<ListFile> {
  const { store, key } = splitUrl(url);
  const info = await store.head(key);
  if (!info) throw new GenViewError('DatasetMissing', `dataset.list: there is no file ${url}`);
  if (kindOfList(url) === 'inventory') return { ...await openInventory(store, key, root), version: info.etag };
  return { files: [{ store, key, gzip: /\.gz$/i.test(key) }], version: info.etag, parse: jsonLinesList(root) };
}

/** A line that cannot be used: which, and why. */
export function lineInvalid(list: ListFile, file: number, line: number, why: string): GenViewError {
  const { store, key } = list.files[file]!;
  return new GenViewError('ListInvalid', `${store.url(key)} line ${line}: ${why}`);
}

const newline = 10;

/**
 * Lines of a file, some at a time, without their ends. Throws `ListInvalid` when the file is not a whole gzip file, or no text; and, at its end, when
 * its MD5 is not the one that the list gives: whoever stops before has lines that nobody has checked.
 */
export async function* readListLines(list: ListFile, file: number): AsyncGenerator<string[]> {
  const { store, key, gzip, md5 } = list.files[file]!;
  const source = await store.getStream(key);
  const damaged = (found: string): GenViewError => new GenViewError('ListInvalid', `${store.url(key)} is not the file that its list names: its MD5 is ${found}, the manifest's MD5checksum ${md5}; copy it again, or take another inventory`);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const text = (bytes: Buffer): string[] => {
    try { return decoder.decode(bytes).split(/\r?\n/); } catch { throw new GenViewError('ListInvalid', `${store.url(key)} is not a text file in UTF-8`); }
  };
  let whole = md5 === undefined;
  const check = async function* (sum: string): AsyncGenerator<Uint8Array> {
    yield* checkMd5(source, sum, damaged);
    whole = true;
  };
  const checked = md5 === undefined ? source : Readable.from(check(md5), { objectMode: false });
  const bytes = gzip ? pipeline(checked, createGunzip(), () => {}) : checked;
  let rest: Buffer[] = [];
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) {
      const end = chunk.lastIndexOf(newline);
      if (end < 0) { rest.push(chunk); continue; }
      yield text(Buffer.concat([...rest, chunk.subarray(0, end)]));
      rest = end + 1 < chunk.length ? [chunk.subarray(end + 1)] : [];
    }
  } catch (cause) {
    if (/^Z_|^ERR_.*Z/.test((cause as NodeJS.ErrnoException).code ?? '')) throw new GenViewError('ListInvalid', `${store.url(key)} is not a whole gzip file (${(cause as Error).message})`, { cause });
    throw cause;
  } finally {
    source.destroy();
  }
  // Zeros behind the end of the gzip data, which it does not read.
  if (!whole) throw new GenViewError('ListInvalid', `${store.url(key)} is not a whole gzip file (more bytes behind its end)`);
  if (rest.length > 0) yield text(Buffer.concat(rest));
}
