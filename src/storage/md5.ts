import { createHash } from 'node:crypto';

/**
 * The chunks of a stream as they are. At its end, before whoever reads them sees it, throws what `mismatch` makes unless their MD5 is the one given.
 * @param md5 in hexadecimal
 */
export async function* checkMd5(chunks: AsyncIterable<Uint8Array>, md5: string, mismatch: (found: string) => Error): AsyncGenerator<Uint8Array> {
  const hash = createHash('md5');
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  const found = hash.digest('hex');
  if (found !== md5.toLowerCase()) throw mismatch(found);
}
