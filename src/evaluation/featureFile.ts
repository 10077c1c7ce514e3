import { randomUUID } from 'node:crypto';
import { read } from 'node:fs';
import { open, rm, statfs, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { GenViewError } from '../errors.ts';
import type { FeatureTable } from './featureTable.ts';

/** A table in a temporary file of `folder`. Errors as of `openFeatureTable`. */
export async function openFeatureFile(capacity: number, size: number, folder: string): Promise<FeatureTable> {
  const rowBytes = size * Float32Array.BYTES_PER_ELEMENT, needed = capacity * rowBytes;
  const what = `${capacity.toLocaleString('en')} rows of features need ${gigabytes(needed)}`;
  const { handle, name } = await create(folder, what, needed);
  let length = 0;
  const reading = new Set<Promise<void>>();
  /** A raw descriptor must not be closed, and perhaps given to another file, while it is read. */
  const whileOpen = async (work: Promise<void>): Promise<void> => {
    reading.add(work);
    try { await work; } finally { reading.delete(work); }
  };
  return {
    size,
    get rows() { return length / rowBytes; },
    async append(values) {
      if (length + values.byteLength > needed) throw new RangeError(`the table holds ${capacity} rows, and ${values.length / size} more came after ${length / rowBytes}`);
      try { await handle.writeFile(bytesOf(values)); } catch (error) { throw writeError(error, folder, what); }
      length += values.byteLength;
    },
    async block(start, count) {
      const rows = new Float32Array(Math.max(0, Math.min(count, length / rowBytes - start)) * size);
      await whileOpen(readPieces(handle, [start * rowBytes], bytesOf(rows)));
      return rows;
    },
    gather(indices, into) {
      return whileOpen(readPieces(handle, Array.from(indices, (row) => row * rowBytes), bytesOf(into).subarray(0, indices.length * rowBytes)));
    },
    async close() {
      await Promise.allSettled(reading);
      await handle.close();
      await rm(name, { force: true });
    },
  };
}

async function create(folder: string, what: string, needed: number): Promise<{ handle: FileHandle; name: string }> {
  const name = path.join(folder, `genview-features-${process.pid}-${randomUUID()}`);
  try {
    const { bavail, bsize, blocks } = await statfs(folder);
    // Better now than after hours of features. Some network file systems do not know their size.
    if (blocks > 0 && bavail * bsize < needed) throw new GenViewError('DiskFull', `${what}, and ${folder} has ${gigabytes(bavail * bsize)} free; free some space, or set TMPDIR to a folder that has more`);
    const handle = await open(name, 'wx+', 0o600);
    // Without a name it is gone with the process. Where a system refuses, the name goes when the table is closed.
    await rm(name).catch(() => {});
    return { handle, name };
  } catch (error) {
    if (error instanceof GenViewError) throw error;
    throw new GenViewError('TemporaryFolderUnusable', `${what}, and ${folder} takes no temporary file (${(error as Error).message}); set TMPDIR to a folder that can be written to`, { cause: error });
  }
}

/** What a failed write means. */
function writeError(error: unknown, folder: string, what: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new GenViewError('DiskFull', `${what}, and ${folder} became full while they were written; free some space, or set TMPDIR to a folder that has more`, { cause: error });
}

/**
 * Reads equally long pieces of the file, one behind the other into `into`. By callbacks: a promise for each costs three times as much as the
 * read itself. Settles when nothing is under way any more.
 */
function readPieces({ fd }: FileHandle, positions: readonly number[], into: Uint8Array): Promise<void> {
  const bytes = into.length / positions.length;
  return new Promise((resolve, reject) => {
    let left = positions.length, failure: Error | undefined;
    if (left === 0 || bytes === 0) { resolve(); return; }
    const piece = (offset: number, length: number, position: number): void => {
      read(fd, into, offset, length, position, (error, count) => {
        if (!error && count > 0 && count < length) { piece(offset + count, length - count, position + count); return; }
        if (error ?? count === 0) failure ??= error ?? new Error(`the temporary file of features ends at byte ${position}`);
        if (--left > 0) return;
        if (failure) reject(failure); else resolve();
      });
    };
    for (const [i, position] of positions.entries()) piece(i * bytes, bytes, position);
  });
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array => new Uint8Array(buffer, byteOffset, byteLength);
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toLocaleString('en', { maximumFractionDigits: 1 })} GB`;
