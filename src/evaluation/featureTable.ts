import { tmpdir } from 'node:os';
import { openFeatureFile } from './featureFile.ts';

/** Feature vectors, one a row, that were appended once and are then read as often as needed. */
export interface FeatureTable {
  /** Width d of a row. */
  readonly size: number;
  /** Rows appended so far. */
  readonly rows: number;
  /** Adds rows, [n, d] row-major. A `RangeError` when they are more than the table was opened for. */
  append(values: Float32Array): Promise<void>;
  /** Up to `count` rows from row `start` on, [n, d]; not to be written to. */
  block(start: number, count: number): Promise<Float32Array>;
  /** Copies rows into `into`, one after the other in the order of `indices`. */
  gather(indices: ArrayLike<number>, into: Float32Array): Promise<void>;
  /** Gives memory and disk back, after what is being read. */
  close(): Promise<void>;
}

export interface FeatureTableOptions {
  /** Bytes up to which the rows lie in memory. @default 1 GiB */
  readonly memory?: number;
  /** Where the temporary file of a larger table lies. @default the system's (TMPDIR, else /tmp) */
  readonly folder?: string;
}

/**
 * A table for `capacity` rows of `size` values: in memory, or in a temporary file when they need more than `memory` bytes. The rows are the same,
 * bit for bit. The file has no name while it is used (Windows keeps it until `close`), so that it goes with the process, however that ends.
 *
 * @throws GenViewError `DiskFull` when the folder has too little room, before anything is written or when others fill it;
 * `TemporaryFolderUnusable` when the file cannot be made there
 */
export async function openFeatureTable(capacity: number, size: number, { memory = 2 ** 30, folder = tmpdir() }: FeatureTableOptions = {}): Promise<FeatureTable> {
  return capacity * size * 4 <= memory ? memoryTable(size, new Float32Array(capacity * size), 0) : openFeatureFile(capacity, size, folder);
}

/** A table over `values`, [n, d] row-major (not copied), whose first `rows` rows are there already. @default rows all */
export function memoryTable(size: number, values: Float32Array, rows = values.length / size): FeatureTable {
  let length = rows * size;
  return {
    size,
    get rows() { return length / size; },
    async append(added) {
      if (length + added.length > values.length) throw new RangeError(`the table holds ${values.length / size} rows, and ${added.length / size} more came after ${length / size}`);
      values.set(added, length);
      length += added.length;
    },
    async block(start, count) { return values.subarray(start * size, Math.min(length, (start + count) * size)); },
    async gather(indices, into) {
      for (let row = 0; row < indices.length; row++) into.set(values.subarray(indices[row]! * size, (indices[row]! + 1) * size), row * size);
    },
    async close() {},
  };
}

/** `values`, filled up with zeros to `length`. */
export function padded(values: Float32Array, length: number): Float32Array {
  if (values.length === length) return values;
  const all = new Float32Array(length);
  all.set(values);
  return all;
}
