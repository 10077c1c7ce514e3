import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { writeJson } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';
import type { SimulatedObjects } from './simulated.ts';

/** Compressed below 8 MiB, above which a put has several parts, which the server does not take. */
const rowsPerFile = 200_000;
/** Prime, and so coprime to any number of images that it does not divide: every image once, far from its neighbours. */
const stride = 7_368_787;

/** Writes an S3 Inventory of the bucket `images` whose rows are in no order. @returns URL of its manifest */
export async function writeInventory(store: ObjectStore, images: SimulatedObjects): Promise<string> {
  const files: { readonly key: string; readonly size: number; readonly MD5checksum: string }[] = [];
  for (let start = 0; start < images.count; start += rowsPerFile) {
    const rows: string[] = [];
    for (let i = start; i < Math.min(start + rowsPerFile, images.count); i++) {
      const index = i * stride % images.count;
      rows.push(`"images","${encodeURIComponent(images.key(index)).replaceAll('%2F', '/')}","${images.size(index)}","${images.etag(index)}"\n`);
    }
    const key = `inventory/data/${files.length}.csv.gz`;
    const bytes = await promisify(gzip)(rows.join(''), { level: 1 });
    await store.put(key, bytes);
    files.push({ key, size: bytes.length, MD5checksum: hash('md5', bytes, 'hex') });
  }
  await writeJson(store, 'inventory/2026-11-25T01-00Z/manifest.json', {
    sourceBucket: 'images', destinationBucket: 'arn:aws:s3:::store', fileFormat: 'CSV', fileSchema: 'Bucket, Key, Size, ETag', files,
  });
  return store.url('inventory/2026-11-25T01-00Z/manifest.json');
}
