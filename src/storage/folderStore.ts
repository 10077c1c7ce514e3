import { hash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readFileSync } from 'node:fs';
import { link, lstat, mkdir, open, readdir, readFile, realpath, rename, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { GenViewError } from '../errors.ts';
import { checkKey, checkPrefix, compareKeys, decodeName, encodeName, isWellFormed, privatePrefix } from './key.ts';
import type { ObjectInfo, ObjectStore, PutOptions } from './objectStore.ts';
import { isAlive, type ProcessIdentity, thisProcess, uniqueToken } from './processIdentity.ts';

/**
 * Files up to this size have the MD5 of their content as etag: what S3 gives a plain upload of the same bytes, and the
 * same for every copy of a folder. Larger ones have one of inode and time of change, which is new with every put.
 */
const hashedBytes = 16 * 2 ** 20;

/** Etag of a file that is listed but cannot be read, such as a link to nowhere. */
const unreadableEtag = 'unreadable';

/**
 * Objects as plain files under a folder.
 *
 * A put writes a temporary file beside the object, flushes it to disk and renames it (or links it, to create only): a
 * reader, a `kill -9` or a loss of power leaves the old object or the new one. What a killed process leaves behind has
 * a private name, is not listed, and is removed by a later listing of its folder.
 */
export class FolderStore implements ObjectStore {
  readonly root: string;
  readonly #folder: string;

  /** @param folder absolute path or `file:` URL */
  constructor(folder: string | URL) {
    const absolute = path.resolve(folder instanceof URL ? fileURLToPath(folder) : folder);
    this.#folder = absolute.endsWith('/') ? absolute : `${absolute}/`;
    this.root = pathToFileURL(this.#folder).href;
  }

  url(key: string): string {
    return this.root + [...encodeName(key)].map((byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9/._~!$&'()*+,;=:@-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    }).join('');
  }

  #path(key: string): string | Buffer {
    return isWellFormed(key) ? this.#folder + key : Buffer.concat([Buffer.from(this.#folder), encodeName(key)]);
  }

  async get(key: string, range?: { start: number; end?: number }): Promise<Uint8Array> {
    checkKey(this.root, key);
    try {
      if (!range) return await readFile(this.#path(key));
      const file = await open(this.#path(key));
      try {
        const { size } = await file.stat();
        const length = Math.max(0, Math.min(size, (range.end ?? size) + 1) - range.start);
        const bytes = Buffer.alloc(length);
        let filled = 0;
        while (filled < length) {
          const { bytesRead } = await file.read(bytes, filled, length - filled, range.start + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        return bytes.subarray(0, filled);
      } finally { await file.close(); }
    } catch (error) { throw this.#readError(error, key); }
  }

  async getStream(key: string): Promise<Readable> {
    checkKey(this.root, key);
    try {
      // Opened here, so that an absent object is this call's error and not the stream's.
      const file = await open(this.#path(key));
      if ((await file.stat()).isDirectory()) { await file.close(); throw Object.assign(new Error(), { code: 'EISDIR' }); }
      return createReadStream('', { fd: file, highWaterMark: 256 * 1024 });
    } catch (error) { throw this.#readError(error, key); }
  }

  async put(key: string, body: Uint8Array | string | Readable, options: PutOptions = {}): Promise<boolean> {
    checkKey(this.root, key);
    if (!isWellFormed(key)) throw new GenViewError('KeyInvalid', `object key ${JSON.stringify(key)} under ${this.root} is not Unicode`);
    const target = this.#folder + key;
    const folder = path.dirname(target);
    let temporary: string | undefined;
    try {
      if (options.ifNoneMatch && await exists(target)) { discard(body); return false; }
      if (options.ifMatch !== undefined && (await this.head(key))?.etag !== options.ifMatch) { discard(body); return false; }
      temporary = await writeTemporary(folder, body, options.flush ?? true);
      if (options.ifMatch !== undefined) {
        return await withLock(folder, key, async () => {
          if ((await this.head(key))?.etag !== options.ifMatch) return false;
          await rename(temporary!, target);
          temporary = undefined;
          return true;
        });
      }
      if (options.ifNoneMatch) return await create(temporary, target, key);
      await rename(temporary, target);
      temporary = undefined;
      return true;
    } catch (error) {
      discard(body);
      throw this.#writeError(error, key);
    } finally {
      if (temporary !== undefined) await unlink(temporary).catch(() => {});
    }
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    checkKey(this.root, key);
    try {
      const info = describe(this.#path(key), key);
      return info.size > hashedBytes ? info : { ...info, md5: info.etag };
    } catch (error) {
      const mapped = this.#readError(error, key);
      if (mapped instanceof GenViewError && mapped.code === 'ObjectNotFound') return undefined;
      throw mapped;
    }
  }

  async *list(prefix: string, options: { startAfter?: string } = {}): AsyncIterable<ObjectInfo> {
    checkPrefix(this.root, prefix);
    yield* this.#walk(prefix.slice(0, prefix.lastIndexOf('/') + 1), prefix, options.startAfter, new Set());
  }

  /** @param above real paths of the folders above, to see a link that leads back into one of them */
  async *#walk(folderKey: string, prefix: string, startAfter: string | undefined, above: ReadonlySet<string>): AsyncGenerator<ObjectInfo> {
    const here = this.#path(folderKey);
    const files: { key: string; folder: boolean; order: Buffer }[] = [];
    const inside = new Set(above);
    try {
      const real = await realpath(here);
      if (above.has(real)) return;
      inside.add(real);
      for (const entry of await readdir(here, { withFileTypes: true, encoding: 'buffer' })) {
        const name = decodeName(entry.name);
        const key = folderKey + name;
        if (name.startsWith(privatePrefix)) { await removeStale(this.#path(key), name); continue; }
        let { folder, file } = { folder: entry.isDirectory(), file: entry.isFile() };
        if (!folder && !file) {
          // A link, or a file system that does not tell. A link to nowhere is listed, so that someone notices it.
          const found = await stat(this.#path(key)).catch(() => undefined);
          folder = found?.isDirectory() ?? false;
          file = found?.isFile() ?? entry.isSymbolicLink();
        }
        if (folder || file) files.push({ key, folder, order: encodeName(folder ? `${name}/` : name) });
      }
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT' || code === 'ENOTDIR') return;
      throw this.#readError(error, folderKey);
    }
    files.sort((a, b) => Buffer.compare(a.order, b.order));

    let batch: string[] = [];
    for (const { key, folder } of files) {
      if (folder) {
        const inner = `${key}/`;
        if (!inner.startsWith(prefix) && !prefix.startsWith(inner)) continue;
        if (startAfter !== undefined && !startAfter.startsWith(inner) && compareKeys(startAfter, inner) > 0) continue;
        yield* await this.#describeAll(batch); batch = [];
        yield* this.#walk(inner, prefix, startAfter, inside);
        continue;
      }
      if (!key.startsWith(prefix) || (startAfter !== undefined && compareKeys(key, startAfter) <= 0)) continue;
      batch.push(key);
      if (batch.length === 32) { yield* await this.#describeAll(batch); batch = []; }
    }
    yield* await this.#describeAll(batch);
  }

  async #describeAll(keys: readonly string[]): Promise<ObjectInfo[]> {
    if (keys.length > 0) await nextTurn();
    const found: ObjectInfo[] = [];
    for (const key of keys) {
      try {
        found.push(describe(this.#path(key), key));
      } catch (error) {
        // Removed since the folder was read: as if listed a moment later. A file that is there but cannot be read stays listed.
        const gone = (error as NodeJS.ErrnoException).code === 'ENOENT' && !await isLink(this.#path(key));
        if (!gone) found.push({ key, size: 0, etag: unreadableEtag });
      }
    }
    return found;
  }

  async delete(key: string): Promise<void> {
    checkKey(this.root, key);
    try {
      await unlink(this.#path(key));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return;
      throw this.#writeError(error, key);
    }
    // Folders are no objects: one that holds none is not kept.
    if (!isWellFormed(key)) return;
    for (let parts = key.split('/').slice(0, -1); parts.length > 0; parts = parts.slice(0, -1)) {
      try { await rmdir(this.#folder + parts.join('/')); } catch { break; }
    }
  }

  #readError(error: unknown, key: string): unknown {
    const { code } = error as NodeJS.ErrnoException;
    const url = this.url(key);
    switch (code) {
      case 'ENOENT': case 'ENOTDIR': case 'EISDIR': case 'ELOOP':
        return new GenViewError('ObjectNotFound', `${url} does not exist`, { cause: error });
      case 'ENAMETOOLONG': return nameTooLong(url, error);
      case 'EACCES': case 'EPERM':
        return new GenViewError('StoreUnreadable', `${url} cannot be read: permission denied; give this user the right to read it`, { cause: error });
      case undefined: return error;
      default: return new GenViewError('StoreUnreadable', `${url} cannot be read (${code})`, { cause: error });
    }
  }

  #writeError(error: unknown, key: string): unknown {
    if (error instanceof BodyError) return error.cause;
    const { code } = error as NodeJS.ErrnoException;
    const url = this.url(key);
    if (error instanceof GenViewError) return error;
    switch (code) {
      case 'ENOSPC': case 'EDQUOT':
        return new GenViewError('DiskFull', `${url} was not written: ${code === 'ENOSPC' ? 'no space left on the disk' : 'disk quota exceeded'}; free some space and run the same command again`, { cause: error });
      case 'EACCES': case 'EPERM': case 'EROFS':
        return new GenViewError('StoreUnwritable', `${url} cannot be written: ${code === 'EROFS' ? 'the file system is read-only' : 'permission denied'}; choose a folder that this user may write to`, { cause: error });
      case 'ENAMETOOLONG': return nameTooLong(url, error);
      case 'ENOTDIR': case 'EEXIST': case 'EISDIR': case 'ENOTEMPTY':
        return new GenViewError('KeyInvalid', `${url} cannot be written: a file and a folder would have the same name; choose another place, or move the file away`, { cause: error });
      case undefined: return error;
      default: return new GenViewError('StoreUnwritable', `${url} cannot be written (${code})`, { cause: error });
    }
  }
}

/** The error of a body stream, which is not the store's. */
class BodyError extends Error {}

function nameTooLong(url: string, cause: unknown): GenViewError {
  return new GenViewError('KeyInvalid', `${url.length > 300 ? `${url.slice(0, 300)}…` : url}: a name is longer than this file system allows (255 bytes on most)`, { cause });
}

function discard(body: Uint8Array | string | Readable): void {
  if (body instanceof Readable && !body.destroyed) { body.on('error', () => {}); body.destroy(); }
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

async function isLink(file: string | Buffer): Promise<boolean> {
  return lstat(file).then((found) => found.isSymbolicLink(), () => false);
}

/**
 * Without waiting in between: a thread's turn for each of open, stat, read and close makes a listing of small files
 * ten times slower.
 */
function describe(file: string | Buffer, key: string): ObjectInfo {
  const opened = openSync(file, 'r');
  try {
    const found = fstatSync(opened, { bigint: true });
    if (found.isDirectory()) throw Object.assign(new Error('is a folder'), { code: 'EISDIR' });
    if (found.size > hashedBytes) return { key, size: Number(found.size), etag: `${found.mtimeNs.toString(36)}-${found.ino.toString(36)}` };
    // Size and etag of the same bytes, whatever happens to the name meanwhile.
    const bytes = readFileSync(opened);
    return { key, size: bytes.length, etag: hash('md5', bytes, 'hex') };
  } finally { closeSync(opened); }
}

/** `mkdir -p`. Node's own answers ENOENT on a read-only file system, which says nothing to the user. */
async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    const parent = path.dirname(folder);
    // Some systems complain of the right to write before they see that the folder is there.
    if (code !== 'ENOENT' || parent === folder) {
      if (await stat(folder).then((found) => found.isDirectory(), () => false)) return;
      throw error;
    }
    await makeFolder(parent);
    await mkdir(folder).catch((second: NodeJS.ErrnoException) => { if (second.code !== 'EEXIST') throw second; });
  }
}

async function writeTemporary(folder: string, body: Uint8Array | string | Readable, flush: boolean): Promise<string> {
  const temporary = path.join(folder, `${privatePrefix}${thisProcess.machine}-${thisProcess.pid}-${uniqueToken()}.tmp`);
  let file;
  for (let attempt = 0; ; attempt++) {
    await makeFolder(folder);
    try { file = await open(temporary, 'wx'); break; } catch (error) {
      // Another process may remove the folder while it is empty.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 10) throw error;
    }
  }
  try {
    if (body instanceof Readable) {
      const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array | string>;
      for (;;) {
        let next;
        try { next = await chunks.next(); } catch (error) { throw new BodyError('body', { cause: error }); }
        if (next.done) break;
        await file.writeFile(next.value);
      }
    } else {
      await file.writeFile(body);
    }
    // Without this a loss of power can keep the new name and lose the content.
    if (flush) await file.datasync();
    await file.close();
    return temporary;
  } catch (error) {
    await file.close().catch(() => {});
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/** Gives a finished file its name unless the name is taken. */
async function create(temporary: string, target: string, key: string): Promise<boolean> {
  try {
    await link(temporary, target);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS' && code !== 'EMLINK') throw error;
  }
  // No hard links here (exFAT, some network folders).
  return withLock(path.dirname(target), key, async () => {
    if (await exists(target)) return false;
    await rename(temporary, target);
    return true;
  });
}

/** Milliseconds after which a lock of another machine is taken for abandoned; it is held for a few file operations. */
const lockLimit = 60_000;

/** Runs `work` while no other process that uses `withLock` for this key does. */
async function withLock<T>(folder: string, key: string, work: () => Promise<T>): Promise<T> {
  const lock = path.join(folder, `${privatePrefix}${hash('sha256', key, 'hex').slice(0, 32)}.lock`);
  const token = uniqueToken();
  const own = path.join(folder, `${privatePrefix}${thisProcess.machine}-${thisProcess.pid}-${token}.tmp`);
  await writeFile(own, JSON.stringify({ ...thisProcess, token }), { flag: 'wx' });
  try {
    for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
      // Renaming cannot fail on a taken name, linking does; where links fail, opening exclusively is next best.
      if (await link(own, lock).then(() => true, async (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false;
        return writeFile(lock, JSON.stringify({ ...thisProcess, token }), { flag: 'wx' }).then(() => true, (second: NodeJS.ErrnoException) => {
          if (second.code === 'EEXIST') return false;
          throw second;
        });
      })) break;
      await breakStaleLock(lock);
      await sleep(wait * (0.5 + Math.random()));
    }
    try { return await work(); } finally { await unlink(lock).catch(() => {}); }
  } finally { await unlink(own).catch(() => {}); }
}

async function breakStaleLock(lock: string): Promise<void> {
  const holder = await readLock(lock);
  if (!holder || !holder.stale) return;
  // One breaker for each holder: a second one that comes late finds another token in the lock and leaves it alone.
  const breaker = `${lock}-${holder.token}.tmp`;
  try { await writeFile(breaker, '', { flag: 'wx' }); } catch {
    const age = await stat(breaker).then((found) => Date.now() - found.mtimeMs, () => 0);
    if (age > lockLimit) await unlink(breaker).catch(() => {});
    return;
  }
  try {
    if ((await readLock(lock))?.token === holder.token) await unlink(lock).catch(() => {});
  } finally { await unlink(breaker).catch(() => {}); }
}

async function readLock(lock: string): Promise<{ token: string; stale: boolean } | undefined> {
  try {
    const age = Date.now() - (await stat(lock)).mtimeMs;
    const text = await readFile(lock, 'utf8');
    let holder: ProcessIdentity & { token: string };
    // A half-written lock: only where there are no links.
    try { holder = JSON.parse(text) as typeof holder; } catch { return { token: 'unknown', stale: age > lockLimit }; }
    const alive = isAlive(holder);
    return { token: holder.token, stale: alive === undefined ? age > lockLimit : !alive };
  } catch { return undefined; }
}

/** Removes what a dead process left: at once when its pid is gone from this machine, else after a day. */
async function removeStale(file: string | Buffer, name: string): Promise<void> {
  const found = await stat(file).catch(() => undefined);
  if (!found) return;
  const [, machine, pid] = /^\.genview-([0-9a-f]{16})-(\d+)-/.exec(name) ?? [];
  const gone = machine !== undefined && isAlive({ machine, pid: Number(pid), started: '' }) === false;
  if (gone || Date.now() - found.mtimeMs > 86_400_000) await unlink(file).catch(() => {});
}
