import { z } from 'zod';
import { GenViewError } from '../../errors.ts';
import { openStore, readJson } from '../../storage/index.ts';
import type { ObjectStore } from '../../storage/objectStore.ts';
import { kindOf } from '../layout.ts';
import type { ListedEntry, ListFile } from './listFile.ts';

/** What S3 Inventory writes, as far as it is read. */
const manifestSchema = z.object({
  sourceBucket: z.string().min(1),
  destinationBucket: z.string().min(1),
  fileFormat: z.string(),
  fileSchema: z.string(),
  files: z.array(z.object({ key: z.string().min(1), MD5checksum: z.string().regex(/^[0-9a-f]{32}$/i, 'must be 32 hexadecimal digits').optional() })),
});

/**
 * The `manifest.json` of an S3 Inventory with its gzipped CSV files: in the destination bucket, or, for a copy of the inventory in a folder, in
 * `../data/`. Each is checked by the MD5 that the manifest gives of it, when it is read to its end. Only current versions of objects under the root count. Throws `ListInvalid`.
 */
export async function openInventory(store: ObjectStore, key: string, root: string): Promise<Pick<ListFile, 'files' | 'parse'>> {
  const url = store.url(key);
  const invalid = (why: string): GenViewError => new GenViewError('ListInvalid', `${url}: ${why}`);
  const parsed = manifestSchema.safeParse(await readJson(store, key));
  if (!parsed.success) throw invalid(`is no manifest of an S3 Inventory: ${parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`).join('; ')}`);
  const { sourceBucket, destinationBucket, fileFormat, fileSchema, files } = parsed.data;
  if (fileFormat.toUpperCase() !== 'CSV') throw invalid(`fileFormat ${fileFormat} cannot be read; configure the inventory with output format CSV`);
  const columns = fileSchema.split(',').map((name) => name.trim());
  const lacking = ['Key', 'Size', 'ETag'].filter((name) => !columns.includes(name));
  if (lacking.length > 0) throw invalid(`fileSchema has no ${lacking.join(' and no ')}; add Size and ETag to the fields of the inventory`);
  const bucketRoot = `s3://${sourceBucket}/`;
  if (!root.startsWith(bucketRoot)) throw invalid(`is of bucket ${sourceBucket}, but dataset.url is ${root}`);

  const local = store.root.startsWith('file:');
  const data = local ? openStore(new URL('../data/', store.root).href) : openStore(`s3://${destinationBucket.replace(/^arn:[^:]*:s3:::/, '')}/`);
  return {
    files: files.map(({ key: file, MD5checksum: md5 }) => ({ store: data, key: local ? file.slice(file.lastIndexOf('/') + 1) : file, gzip: /\.gz$/i.test(file), ...(md5 !== undefined && { md5 }) })),
    parse: inventoryLine(columns, root.slice(bucketRoot.length), sourceBucket),
  };
}

function inventoryLine(columns: readonly string[], prefix: string, sourceBucket: string): ListFile['parse'] {
  const at = (name: string): number => columns.indexOf(name);
  const [bucketAt, keyAt, sizeAt, etagAt, latestAt, markerAt] = ['Bucket', 'Key', 'Size', 'ETag', 'IsLatest', 'IsDeleteMarker'].map(at) as [number, number, number, number, number, number];
  return (line): ListedEntry | 'other' | undefined => {
    if (line === '') return undefined;
    const values = csvValues(line);
    if (values.length !== columns.length) throw new Error(`has ${values.length} values, the manifest's fileSchema ${columns.length} (${columns.join(', ')})`);
    if (bucketAt >= 0 && values[bucketAt] !== sourceBucket) throw new Error(`is of bucket ${values[bucketAt]}, the manifest of ${sourceBucket}`);
    if (values[latestAt] === 'false' || values[markerAt] === 'true') return undefined;
    let key: string;
    try { key = decodeURIComponent(values[keyAt]!.replaceAll('+', ' ')); } catch (cause) { throw new Error(`Key ${values[keyAt]} is not percent-encoded`, { cause }); }
    if (!key.startsWith(prefix) || key.endsWith('/')) return undefined;
    const path = key.slice(prefix.length), kind = kindOf(path);
    if (kind !== 'image') return kind === 'other' ? 'other' : undefined;
    const size = values[sizeAt]!, etag = values[etagAt]!.replace(/^"|"$/g, '');
    if (!/^\d+$/.test(size)) throw new Error(`Size ${JSON.stringify(size)} is not a whole number`);
    if (etag === '') throw new Error('has no ETag');
    return { path, bytes: Number(size), etag };
  };
}

/** Values of a line of CSV: quoted, quotes within doubled, or bare. Throws an Error when a quote is not closed. */
export function csvValues(line: string): string[] {
  const values: string[] = [];
  for (let start = 0; start <= line.length;) {
    if (line[start] === '"') {
      let end = line.indexOf('"', start + 1);
      while (end >= 0 && line[end + 1] === '"') end = line.indexOf('"', end + 2);
      if (end < 0 || (end + 1 < line.length && line[end + 1] !== ',')) throw new Error('a quoted value is not closed');
      values.push(line.slice(start + 1, end).replaceAll('""', '"'));
      start = end + 2;
    } else {
      const comma = line.indexOf(',', start), end = comma < 0 ? line.length : comma;
      values.push(line.slice(start, end));
      start = end + 1;
    }
  }
  return values;
}
