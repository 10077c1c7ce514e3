import { createHash } from 'node:crypto';

/**
 * SHA-256 of the listing that can stop and go on: each block of 1,000 lines `[path, bytes, etag]` is hashed together with the digest before
 * it, wherever parts and calls end. Plain JSON.
 */
export interface ListingHash {
  digest: string;
  /** Lines of a block that is not full. */
  pending: string;
  pendingLines: number;
}

const blockLines = 1000;
const newline = 10;

export const emptyHash = (): ListingHash => ({ digest: '', pending: '', pendingLines: 0 });

/** Adds whole lines, each ended by a newline. */
export function addToHash(hash: ListingHash, lines: Uint8Array): void {
  const bytes = Buffer.from(lines.buffer, lines.byteOffset, lines.length);
  let start = 0;
  for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, end + 1)) {
    hash.pendingLines += 1;
    if (hash.pendingLines < blockLines) continue;
    hash.digest = createHash('sha256').update(hash.digest).update(hash.pending).update(bytes.subarray(start, end + 1)).digest('hex');
    hash.pending = '';
    hash.pendingLines = 0;
    start = end + 1;
  }
  hash.pending += bytes.toString('utf8', start);
}

export function finishHash({ digest, pending }: ListingHash): string {
  return createHash('sha256').update(digest).update(pending).digest('hex');
}
