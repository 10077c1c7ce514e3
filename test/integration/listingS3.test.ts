import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deadlineIn } from '../../src/dataset/listing/deadline.ts';
import { listRanges } from '../../src/dataset/listing/listRanges.ts';
import { discoverRanges } from '../../src/dataset/listing/ranges.ts';
import { openStore } from '../../src/storage/index.ts';
import { compareKeys } from '../../src/storage/key.ts';
import { keysOf, oddImages } from '../storage/objectStoreContract.ts';
import { installMoto, type Moto, startMoto } from './support/moto.ts';

const missing = installMoto();
if (missing) console.warn(`skipped: ${missing}`);

describe.skipIf(missing)('parallel listing on an independent server', () => {
  const bucket = 'genview-listing', images = openStore(`s3://${bucket}/a prefix/`), before = { ...process.env };
  let moto: Moto | undefined;
  /** More than two requests' worth; folders with odd names, keys around them, and one folder of a thousand and more files. */
  const keys = [
    ...['train/a', 'train/a-b', 'train/ü 🙂～', "train/#'%", 'val/a'].flatMap((folder) => oddImages.flatMap((key) => Array.from({ length: 12 }, (_, i) => `${folder}/${i}${key}`))),
    ...Array.from({ length: 1500 }, (_, i) => `train/b/${String(i).padStart(6, '0')}.jpg`), 'train/a0.jpg', 'train/b.jpg', 'zuletzt.jpg',
  ].sort(compareKeys);

  beforeAll(async () => {
    moto = await startMoto(bucket);
    Object.assign(process.env, moto.env);
    for (let i = 0; i < keys.length; i += 50) await Promise.all(keys.slice(i, i + 50).map((key) => images.put(key, key)));
  });
  afterAll(() => { moto?.stop(); process.env = before; });

  it('tells the folders of a prefix', async () => {
    const folders = async (prefix: string): Promise<string[]> => { const all = []; for await (const page of images.folders!(prefix)) all.push(...page); return all; };
    expect(await folders('')).toEqual(['train/', 'val/']);
    expect(await folders('train/')).toEqual(["train/#'%/", 'train/a-b/', 'train/a/', 'train/b/', 'train/ü 🙂～/']);
    expect(await folders('train/b/')).toEqual([]);
  });

  it('gives the keys that one listing in order gives', async () => {
    const ranges = await discoverRanges(images), parts = new Map<string, string[]>();
    expect(ranges.length).toBeGreaterThan(8);
    const complete = await listRanges(images, { ranges, ignored: 0, folders: { root: 0, tops: new Map() } }, {
      deadline: deadlineIn(600_000), signal: new AbortController().signal, parallel: 8, onProgress: async () => true,
      putPart: async (lines) => { parts.set(String(parts.size), lines.trimEnd().split('\n').map((line) => (JSON.parse(line) as [string])[0])); return String(parts.size - 1); },
    });
    expect(complete).toBe(true);
    const listed = ranges.flatMap((range) => range.parts.flatMap(({ id }) => parts.get(id)!));
    expect(listed).toEqual(keys);
    expect(listed).toEqual(await keysOf(images));
  });
});
