import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { csvValues } from '../../../src/dataset/list/inventory.ts';
import { openListFile, readListLines } from '../../../src/dataset/list/listFile.ts';
import { openStore } from '../../../src/storage/index.ts';

const base = mkdtempSync(path.join(os.tmpdir(), 'genview-inventory-'));
afterAll(() => rmSync(base, { recursive: true }));
let count = 0;

const manifest = {
  sourceBucket: 'pictures', destinationBucket: 'arn:aws:s3:::inventories', version: '2016-11-30', creationTimestamp: '1790000000000', fileFormat: 'CSV',
  fileSchema: 'Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass',
  files: [{ key: 'reports/pictures/all/data/one.csv.gz', size: 1, MD5checksum: 'f11166069f1990abeb9c97ace9cdfabc' }],
};

async function open(changes: object | string, root = 's3://pictures/set/') {
  const store = openStore(path.join(base, String(count++)));
  await store.put('2026-11-25T01-00Z/manifest.json', typeof changes === 'string' ? changes : JSON.stringify({ ...manifest, ...changes }));
  return openListFile(store.url('2026-11-25T01-00Z/manifest.json'), root);
}
const message = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'no error', (error: Error) => `${error.name}: ${error.message}`);

describe('an S3 Inventory', () => {
  it('has its files beside the manifest when it is a copy in a folder', async () => {
    const { files } = await open({});
    expect(files.map(({ store, key, ...file }) => ({ url: store.url(key), ...file }))).toEqual([{ md5: 'f11166069f1990abeb9c97ace9cdfabc', url: expect.stringMatching(/\/\d+\/data\/one\.csv\.gz$/) as string, gzip: true }]);
  });

  it('names current images under the root, their keys decoded', async () => {
    const { parse } = await open({});
    const row = (key: string, more: Partial<Record<'latest' | 'marker' | 'size' | 'etag' | 'bucket', string>> = {}): string =>
      [more.bucket ?? 'pictures', key, '', more.latest ?? 'true', more.marker ?? 'false', more.size ?? '12', '2026-11-01T00:00:00.000Z', more.etag ?? 'abc', 'STANDARD'].map((value) => `"${value}"`).join(',');
    expect(parse(row('set/train/a%23+b%2Bc/%C3%BC%2C%22.jpg'))).toEqual({ path: 'train/a#+b+c/ü,".jpg'.replace('#+', '# '), bytes: 12, etag: 'abc' });
    expect(parse(row('other/train/a/1.jpg'))).toBeUndefined();
    expect(parse(row('set/train/a/1.jpg', { latest: 'false' }))).toBeUndefined();
    expect(parse(row('set/train/a/1.jpg', { marker: 'true' }))).toBeUndefined();
    expect(parse(row('set/train/a/'))).toBeUndefined();
    expect(parse(row('set/masks/a/1.png'))).toBeUndefined();
    expect(parse(row('set/train/a/notes.txt'))).toBe('other');
    expect(parse('')).toBeUndefined();
    expect(() => parse(row('set/a.jpg', { size: '' }))).toThrow('Size "" is not a whole number');
    expect(() => parse(row('set/a.jpg', { etag: '' }))).toThrow('has no ETag');
    expect(() => parse(row('set/%zz.jpg'))).toThrow('Key set/%zz.jpg is not percent-encoded');
    expect(() => parse(row('set/a.jpg', { bucket: 'else' }))).toThrow('is of bucket else, the manifest of pictures');
    expect(() => parse('"pictures","a.jpg"')).toThrow(/has 2 values, the manifest's fileSchema 9 \(Bucket, Key/);
    expect(() => parse('"pictures","a.jpg')).toThrow('a quoted value is not closed');
  });

  it('is read to its last byte, so that its MD5 says something', async () => {
    const store = openStore(path.join(base, String(count++))), bytes = gzipSync('a\nb\n');
    const read = async (content: Uint8Array, md5 = createHash('md5').update(bytes).digest('hex')): Promise<string[]> => {
      await store.put('f.csv.gz', content);
      const lines = [];
      for await (const some of readListLines({ files: [{ store, key: 'f.csv.gz', gzip: true, md5 }], version: '', parse: () => undefined }, 0)) lines.push(...some);
      return lines;
    };
    expect(await read(bytes)).toEqual(['a', 'b']);
    await expect(read(bytes, '0'.repeat(32))).rejects.toThrow(/^file:.*\/f\.csv\.gz is not the file that its list names: its MD5 is [0-9a-f]{32}, the manifest's MD5checksum 0{32}; copy it again/);
    // Zeros behind it, which gzip does not mind: a few, and more than are read at once.
    for (const zeros of [10, 2 ** 22]) await expect(read(Buffer.concat([bytes, Buffer.alloc(zeros)]))).rejects.toThrow(/\/f\.csv\.gz is not (the file that its list names: its MD5 is|a whole gzip file \(more bytes behind its end\)$)/);
  });

  it('is refused, with the reason and the file, when it cannot be read', async () => {
    for (const fileFormat of ['Parquet', 'ORC']) expect(await message(open({ fileFormat }))).toMatch(new RegExp(`^ListInvalid: file:.*/manifest\\.json: fileFormat ${fileFormat} cannot be read; configure the inventory with output format CSV$`));
    expect(await message(open({ fileSchema: 'Bucket, Key, Size' }))).toMatch(/^ListInvalid: .*fileSchema has no ETag; add Size and ETag/);
    expect(await message(open({ fileSchema: 'Bucket, Key' }))).toMatch(/fileSchema has no Size and no ETag/);
    expect(await message(open({ files: [{ size: 1 }] }))).toMatch(/^ListInvalid: .*is no manifest of an S3 Inventory: files\.0\.key: /);
    expect(await message(open({ files: [{ key: 'a.csv.gz', MD5checksum: 'none' }] }))).toMatch(/files\.0\.MD5checksum: must be 32 hexadecimal digits$/);
    expect(await message(open({}, 's3://elsewhere/set/'))).toMatch(/^ListInvalid: .*is of bucket pictures, but dataset\.url is s3:\/\/elsewhere\/set\/$/);
    expect(await message(open('{'))).toMatch(/^JsonInvalid: .*manifest\.json is not valid JSON/);
  });
});

it('a line of CSV has quoted and bare values', () => {
  expect(csvValues('"a","b,c","d""e",f,,""')).toEqual(['a', 'b,c', 'd"e', 'f', '', '']);
  expect(csvValues('x')).toEqual(['x']);
});
