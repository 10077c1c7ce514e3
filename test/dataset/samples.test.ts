import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { encodePng, type Image } from '../../src/dataset/image.ts';
import { openSampleSource, type DecodedSample, type SampleSource } from '../../src/dataset/sampleSource.ts';
import { readSamples, type Sample, writeSamples } from '../../src/dataset/samples.ts';
import { openStore, writeJson } from '../../src/storage/index.ts';
import { codeOf } from '../storage/objectStoreContract.ts';

const base = mkdtempSync(path.join(os.tmpdir(), 'genview-samples-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const newFolder = (): string => path.join(base, String(count++));

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all = [];
  for await (const item of items) all.push(item);
  return all;
}

describe('tar shards', () => {
  const samples: Sample[] = Array.from({ length: 40 }, (_, i) => ({
    key: String(i).padStart(9, '0'),
    files: { 'orig.jpg': bytes('x'.repeat(i * 700)), 'view0.png': new Uint8Array(512 * (i % 3)), json: bytes(JSON.stringify({ i, path: 'ü#%.jpg' })) },
  }));

  it('come back as written', async () => {
    const store = openStore(newFolder());
    await store.put('a.tar', writeSamples(samples));
    const read = await collect(readSamples(store, 'a.tar'));
    expect(read.map(({ key }) => key)).toEqual(samples.map(({ key }) => key));
    read.forEach(({ files }, i) => expect(Object.entries(files).map(([name, data]) => [name, Buffer.from(data).toString()]))
      .toEqual(Object.entries(samples[i]!.files).map(([name, data]) => [name, Buffer.from(data).toString()])));
  });

  it('are the same bytes each time', async () => {
    const digest = async (): Promise<string> => createHash('sha256').update(Buffer.concat(await collect(writeSamples(samples) as AsyncIterable<Buffer>))).digest('hex');
    expect(await digest()).toBe(await digest());
  });

  it('are read by tar', async (context) => {
    try { execFileSync('tar', ['--version'], { stdio: 'ignore' }); } catch { return context.skip('no tar program here'); }
    const folder = newFolder();
    await openStore(folder).put('a.tar', writeSamples(samples));
    const names = execFileSync('tar', ['-tf', path.join(folder, 'a.tar')]).toString().trim().split('\n');
    expect(names.slice(0, 4)).toEqual(['000000000.orig.jpg', '000000000.view0.png', '000000000.json', '000000001.orig.jpg']);
    expect(names).toHaveLength(120);
    expect(execFileSync('tar', ['-xOf', path.join(folder, 'a.tar'), '000000007.json']).toString()).toBe('{"i":7,"path":"ü#%.jpg"}');
  });

  it('of other tools are read too', async (context) => {
    const folder = newFolder();
    const store = openStore(folder);
    await store.put('in/cls/a.b.jpg', 'image');
    await store.put('in/cls/a.json', '{}');
    await store.put('in/cls/c.json', '[]');
    try { execFileSync('tar', ['-C', path.join(folder, 'in'), '-cf', path.join(folder, 'b.tar'), 'cls/a.b.jpg', 'cls/a.json', 'cls/c.json'], { stdio: 'ignore' }); } catch { return context.skip('no tar program here'); }
    const read = await collect(readSamples(store, 'b.tar'));
    expect(read.map(({ key }) => key).toSorted()).toEqual(['cls/a', 'cls/c']);
    expect(Object.keys(read.find(({ key }) => key === 'cls/a')!.files).toSorted()).toEqual(['b.jpg', 'json']);
  });

  it('are not written when a sample fails, and damaged ones are refused', async () => {
    const store = openStore(newFolder());
    const failing = function* (): Generator<Sample> { yield samples[5]!; throw new Error('generation failed'); };
    await expect(store.put('a.tar', writeSamples(failing()))).rejects.toThrow('generation failed');
    expect(await store.head('a.tar')).toBeUndefined();
    await store.put('b.tar', writeSamples(samples));
    await store.put('c.tar', (await store.get('b.tar')).subarray(0, 20_000));
    expect(await codeOf(collect(readSamples(store, 'c.tar')))).toBe('ShardUnreadable');
    await store.put('d.tar', Buffer.alloc(5000, 'text'));
    expect(await codeOf(collect(readSamples(store, 'd.tar')))).toBe('ShardUnreadable');
    expect(await codeOf(collect(readSamples(store, 'e.tar')))).toBe('ObjectNotFound');
  });

  it('can be left half-read', async () => {
    const store = openStore(newFolder());
    await store.put('a.tar', writeSamples(samples));
    for await (const { key } of readSamples(store, 'a.tar')) if (key.endsWith('3')) break;
    for await (const chunk of writeSamples(samples) as AsyncIterable<Buffer>) { expect(chunk.length).toBeGreaterThan(0); break; }
  });
});

describe('a sample source', () => {
  const size = 6, perShard = 10, shards = 4;
  const image = (index: number, offset: number): Image => ({ width: size, height: size, data: new Uint8Array(size * size * 3).fill(index * 5 + offset) });

  /** 40 samples, every fifth for validation. */
  async function write(folder: string, planned = 32, withViews = true): Promise<ReturnType<typeof openStore>> {
    const store = openStore(folder);
    for (let shard = 0; shard < shards; shard++) {
      const samples: Sample[] = [];
      for (let i = 0; i < perShard; i++) {
        const index = shard * perShard + i;
        const split = index % 5 === 4 ? 'val' : 'train';
        samples.push({
          key: String(index).padStart(9, '0'),
          files: {
            'orig.png': await encodePng(image(index, 0)),
            ...(split === 'train' && withViews && { 'view0.png': await encodePng(image(index, 1)), 'view1.png': await encodePng(image(index, 2)) }),
            json: bytes(JSON.stringify({ index, path: `train/a/${index}.png`, split, label: index % 3, seed: 7 })),
          },
        });
      }
      await store.put(`v/shard-${String(shard).padStart(5, '0')}.tar`, writeSamples(samples));
    }
    await writeJson(store, 'v/plan.json', { images: { train: planned, val: 8, quarantined: 0 } });
    return store;
  }
  const indices = (samples: readonly DecodedSample[]): number[] => samples.map(({ metadata }) => metadata.index);
  const train = Array.from({ length: 40 }, (_, i) => i).filter((i) => i % 5 !== 4);

  it('gives the samples of a split in order, decoded', async () => {
    const store = await write(newFolder());
    const source = await openSampleSource(store, 'v/', { split: 'train', shards, threads: 2 });
    expect(source.count).toBe(32);
    const all = await collect(source.all());
    expect(indices(all)).toEqual(train);
    for (const { metadata, original, views } of all) {
      expect(original).toMatchObject({ width: size, height: size });
      expect(original.data[0]).toBe(metadata.index * 5);
      expect(views.map(({ data }) => data[7])).toEqual([metadata.index * 5 + 1, metadata.index * 5 + 2]);
    }
    const validation = await openSampleSource(store, 'v/', { split: 'val', shards });
    expect(validation.count).toBe(8);
    expect((await collect(validation.all())).every(({ metadata, views }) => metadata.split === 'val' && views.length === 0)).toBe(true);
  });

  for (const [name, memory] of [['in memory', undefined], ['streamed', 2000], ['streamed through a buffer of nothing', 1]] as const) {
    it(`orders epochs by seed and epoch only, ${name}`, async () => {
      const store = await write(newFolder());
      const open = (): Promise<SampleSource> => openSampleSource(store, 'v/', { split: 'train', shards, threads: 2, ...(memory && { memory }) });
      const [one, other] = [await open(), await open()];
      const first = indices(await collect(one.epoch(3, 0)));
      const second = indices(await collect(one.epoch(3, 1)));
      expect(first.toSorted((a, b) => a - b)).toEqual(train);
      expect(second.toSorted((a, b) => a - b)).toEqual(train);
      expect(second).not.toEqual(first);
      // Another process, which resumes at the second epoch.
      expect(indices(await collect(other.epoch(3, 1)))).toEqual(second);
      expect(indices(await collect(other.epoch(4, 1)))).not.toEqual(second);
      expect(indices(await collect(one.all()))).toEqual(train);
      // Shards are mixed: the first quarter of an epoch is not one shard.
      expect(new Set(first.slice(0, 8).map((index) => Math.floor(index / perShard))).size).toBeGreaterThan(1);
      const even = one.epoch(3, 1, { only: (index) => index % 2 === 0 });
      expect(indices(await collect(even))).toEqual(second.filter((index) => index % 2 === 0));
      for await (const { metadata } of one.epoch(3, 2)) if (metadata.index >= 0) break;
    });
  }

  // 5000 bytes hold the originals, but not the originals and their views.
  it.each([['in memory', 5000], ['streamed', 2000]])('orders originals alike with views, without, and where there are none, %s', async (_, memory) => {
    const [full, bare] = [await write(newFolder()), await write(newFolder(), 32, false)];
    const order = async (store: typeof full, views: boolean): Promise<DecodedSample[]> =>
      collect((await openSampleSource(store, 'v/', { split: 'train', shards, views, memory })).epoch(3, 1));
    const withViews = await order(full, true), without = await order(full, false);
    expect(withViews.every(({ views }) => views.length === 2)).toBe(true);
    expect(without.every(({ views }) => views.length === 0)).toBe(true);
    expect(indices(without)).toEqual(indices(withViews));
    expect(indices(await order(bare, true))).toEqual(indices(withViews));
  });

  it('does not decode what is left out when streaming', async () => {
    const store = await write(newFolder(), 33);
    const broken: Sample = { key: '000000040', files: { 'orig.png': bytes('text'), json: bytes('{"index":40,"path":"train/a/40.png","split":"train","label":0,"seed":7}') } };
    await store.put('v/shard-00004.tar', writeSamples([broken]));
    const source = await openSampleSource(store, 'v/', { split: 'train', shards: shards + 1, memory: 1 });
    expect(indices(await collect(source.epoch(3, 0, { only: (index) => index !== 40 }))).toSorted((a, b) => a - b)).toEqual(train);
    expect(await codeOf(collect(source.epoch(3, 0)))).toBe('ImageUnreadable');
  });

  it('notices missing samples', async () => {
    const source = await openSampleSource(await write(newFolder(), 33), 'v/', { split: 'train', shards });
    expect(await codeOf(collect(source.all()))).toBe('SamplesMissing');
    expect(await codeOf(collect(source.epoch(0, 0)))).toBe('SamplesMissing');
  });

  it('gives no more samples than planned', async () => {
    const source = await openSampleSource(await write(newFolder(), 31), 'v/', { split: 'train', shards }), given: DecodedSample[] = [];
    const reading = (async () => { for await (const sample of source.all()) given.push(sample); })();
    await expect(reading).rejects.toMatchObject({ code: 'SamplesMissing', message: expect.stringContaining('holds more than 31 train samples where plan.json says 31') });
    expect(given.length).toBeLessThanOrEqual(31);
  });

  it('names the image that cannot be decoded', async () => {
    const store = openStore(newFolder());
    await store.put('v/shard-00000.tar', writeSamples([{ key: '000000000', files: { 'orig.jpg': bytes('text'), json: bytes('{"index":0,"path":"train/a/b.jpg","split":"train"}') } }]));
    await writeJson(store, 'v/plan.json', { images: { train: 1, val: 0, quarantined: 0 } });
    const source = await openSampleSource(store, 'v/', { split: 'train', shards: 1 });
    await expect(collect(source.all())).rejects.toThrow(/sample 0 \(train\/a\/b\.jpg\): not an image/);
  });
});
