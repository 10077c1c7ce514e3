import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, gunzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { cifar10Classes, unpackCifar10 } from '../../src/dataset/cifar10.ts';
import { decodeImage } from '../../src/dataset/image.ts';
import { writeSamples } from '../../src/dataset/samples.ts';
import { unpackTinyImagenet } from '../../src/dataset/tinyImagenet.ts';
import { silentLog } from '../../src/log.ts';
import { codeOf } from '../storage/objectStoreContract.ts';

const base = mkdtempSync(path.join(os.tmpdir(), 'genview-unpack-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const newFolder = (): string => path.join(base, String(count++));
const shared = path.resolve('../shared/data');
const skipped = !existsSync(shared) && 'the shared data are not here';
if (skipped) console.warn(`skipped: real CIFAR-10 and Tiny ImageNet: ${skipped}`);

/** A mosaic whose tile i is of one colour, [i % 251, i >> 4, seed]. */
async function mosaic(seed: number): Promise<Buffer> {
  const data = Buffer.alloc(1280 * 800 * 3, seed);
  for (let p = 0; p < 1280 * 800; p++) {
    const i = Math.floor(p / 1280 / 32) * 40 + Math.floor(p % 1280 / 32);
    data[3 * p] = i % 251;
    data[3 * p + 1] = i >> 4;
  }
  return sharp(data, { raw: { width: 1280, height: 800, channels: 3 } }).png({ compressionLevel: 1 }).toBuffer();
}

describe('unpacking CIFAR-10', () => {
  it('cuts the mosaics into classes, and goes on where it was stopped', async () => {
    const [folder, out] = [newFolder(), newFolder()];
    mkdirSync(folder);
    for (const [i, name] of ['train-00.png', 'train-01.png', 'test-00.png'].entries()) writeFileSync(path.join(folder, name), await mosaic(i));
    // Most of the first mosaic was unpacked before.
    for (let i = 0; i < 970; i++) {
      const target = path.join(out, 'train', cifar10Classes[i % 10]!);
      if (i < 10) mkdirSync(target, { recursive: true });
      writeFileSync(path.join(target, `train-00-${String(i).padStart(3, '0')}.png`), 'before');
    }
    expect(await unpackCifar10(folder, out, { train: 1030, test: 20 }, silentLog)).toEqual({ train: 1030, val: 20 });
    expect(readFileSync(path.join(out, 'train/cat/train-00-743.png'), 'utf8')).toBe('before');
    expect(readdirSync(path.join(out, 'train')).toSorted()).toEqual([...cifar10Classes]);
    for (const name of cifar10Classes) {
      expect(readdirSync(path.join(out, 'train', name))).toHaveLength(103);
      expect(readdirSync(path.join(out, 'val', name))).toHaveLength(2);
    }
    const image = await decodeImage(readFileSync(path.join(out, 'train/cat/train-00-983.png')));
    expect(image).toMatchObject({ width: 32, height: 32 });
    expect(new Set(Array.from({ length: 32 * 32 }, (_, i) => image.data.subarray(3 * i, 3 * i + 3).join()))).toEqual(new Set([[983 % 251, 983 >> 4, 0].join()]));

    const kept = path.join(out, 'train/cat/train-00-983.png'), lost = path.join(out, 'train/dog/train-01-005.png');
    const before = statSync(kept).mtimeMs;
    const content = readFileSync(lost);
    rmSync(lost);
    await unpackCifar10(folder, out, { train: 1030, test: 20 }, silentLog);
    expect(readFileSync(lost).equals(content)).toBe(true);
    expect(statSync(kept).mtimeMs).toBe(before);
  });

  it('says what is wrong', async () => {
    const folder = newFolder();
    expect(await codeOf(unpackCifar10(folder, newFolder(), {}, silentLog))).toBe('DatasetMissing');
    mkdirSync(folder);
    expect(await codeOf(unpackCifar10(folder, newFolder(), {}, silentLog))).toBe('DatasetMissing');
    for (const name of ['train-00.png', 'test-00.png']) writeFileSync(path.join(folder, name), await sharp({ create: { width: 10, height: 10, channels: 3, background: '#123' } }).png().toBuffer());
    expect(await codeOf(unpackCifar10(folder, newFolder(), { train: 1001 }, silentLog))).toBe('TooFewImages');
    await expect(unpackCifar10(folder, newFolder(), {}, silentLog)).rejects.toThrow(/train-00\.png is 10 x 10 pixels/);
  });

  it.skipIf(skipped)('gives the labels that the index of the real mosaics lists', async () => {
    const out = newFolder();
    await unpackCifar10(path.join(shared, 'cifar10'), out, { train: 40, test: 10 }, silentLog);
    const rows = gunzipSync(readFileSync(path.join(shared, 'cifar10/index.tsv.gz'))).toString().split('\n').slice(1, 41).map((line) => line.split('\t'));
    for (const [name, tile, label] of rows) {
      expect(existsSync(path.join(out, 'train', cifar10Classes[Number(label)]!, `${name}-${tile!.padStart(3, '0')}.png`))).toBe(true);
    }
  });
});

describe('unpacking Tiny ImageNet', () => {
  async function archives(): Promise<string> {
    const folder = newFolder();
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'classes.tsv'), 'label\twnid\tname\tsmallest_subset\ttrain\tval\n0\tn00000001\tking penguin, A. p.\t2\t3\t1\n1\tn00000002\tlion\t2\t3\t1\n2\tn00000003\tcrane\t3\t3\t1\n');
    for (const wnid of ['n00000001', 'n00000002', 'n00000003']) {
      const files = (names: string[]): { key: string; files: Record<string, Uint8Array> }[] => names.map((name) => ({ key: name, files: { JPEG: Buffer.from(`${wnid} ${name}`) } }));
      await pipeline(writeSamples([{ key: 'boxes', files: { tsv: Buffer.from('x') } }, ...files(['train/0', 'train/1', 'train/2', 'val/0'])]) as Readable, createGzip(), (await import('node:fs')).createWriteStream(path.join(folder, `${wnid}.tgz`)));
    }
    return folder;
  }

  it('makes class folders of the chosen subset, and goes on where it was stopped', async () => {
    const [folder, out] = [await archives(), newFolder()];
    const expected = { train: 6, val: 2, classes: ['n00000001_king_penguin', 'n00000002_lion'] };
    expect(await unpackTinyImagenet(folder, out, { classes: 2 }, silentLog)).toEqual(expected);
    expect(readdirSync(path.join(out, 'train')).toSorted()).toEqual(expected.classes);
    expect(readFileSync(path.join(out, 'val/n00000002_lion/0.JPEG'), 'utf8')).toBe('n00000002 val/0');
    rmSync(path.join(out, 'train/n00000001_king_penguin/2.JPEG'));
    expect(await unpackTinyImagenet(folder, out, { classes: 2 }, silentLog)).toEqual(expected);
    expect(readdirSync(path.join(out, 'train/n00000001_king_penguin')).toSorted()).toEqual(['0.JPEG', '1.JPEG', '2.JPEG']);
  });

  it('says what is wrong', async () => {
    const folder = await archives();
    expect(await codeOf(unpackTinyImagenet(newFolder(), newFolder(), {}, silentLog))).toBe('DatasetMissing');
    await expect(unpackTinyImagenet(folder, newFolder(), { classes: 7 }, silentLog)).rejects.toThrow(/no subset of 7 classes; its subsets have 2, 3/);
    truncateSync(path.join(folder, 'n00000002.tgz'), 100);
    expect(await codeOf(unpackTinyImagenet(folder, newFolder(), { classes: 2 }, silentLog))).toBe('ArchiveUnreadable');
    rmSync(path.join(folder, 'n00000001.tgz'));
    await expect(unpackTinyImagenet(folder, newFolder(), { classes: 2 }, silentLog)).rejects.toThrow(/n00000001\.tgz is missing or damaged/);
  });

  it.skipIf(skipped)('unpacks a real class', async () => {
    const [folder, out] = [newFolder(), newFolder()];
    mkdirSync(folder);
    const source = path.join(shared, 'tiny-imagenet-60');
    copyFileSync(path.join(source, 'n01443537.tgz'), path.join(folder, 'n01443537.tgz'));
    const [head, line] = readFileSync(path.join(source, 'classes.tsv'), 'utf8').split('\n');
    writeFileSync(path.join(folder, 'classes.tsv'), `${head}\n${line!.replace('\t10\t', '\t1\t')}\n`);
    expect(await unpackTinyImagenet(folder, out, { classes: 1 }, silentLog)).toEqual({ train: 500, val: 50, classes: ['n01443537_goldfish'] });
    const first = readFileSync(path.join(out, 'train/n01443537_goldfish/n01443537_0.JPEG'));
    expect(await decodeImage(first)).toMatchObject({ width: 64, height: 64 });
  });
});
