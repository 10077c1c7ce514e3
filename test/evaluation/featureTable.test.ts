import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Backbone } from '../../src/evaluation/features.ts';
import { openFeatureTable, type FeatureTable } from '../../src/evaluation/featureTable.ts';
import { featuresOf, type LabelledSample } from '../../src/evaluation/labelled.ts';
import { silentLog } from '../../src/log.ts';
import { Random } from '../../src/random.ts';
import { description } from './reference.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'genview-table-'));
afterAll(() => { rmSync(folder, { recursive: true }); });

const size = 5, rows = 83;
const values = new Random('table').normals(rows * size);

async function filled(memory: number): Promise<FeatureTable> {
  const table = await openFeatureTable(rows, size, { memory, folder });
  for (let row = 0; row < rows; row += 8) await table.append(values.subarray(row * size, (row + 8) * size));
  return table;
}

const places = [['in memory', rows * size * 4], ['in a file', rows * size * 4 - 1]] as const;

describe.each(places)('features %s', (place, memory) => {
  it('come back bit for bit, in order and by row', async () => {
    const table = await filled(memory);
    expect([table.size, table.rows]).toEqual([size, rows]);
    expect(await table.block(0, rows)).toEqual(values);
    expect(await table.block(16, 10)).toEqual(values.slice(16 * size, 26 * size));
    // The last block of ten is one of three.
    expect(await table.block(80, 10)).toEqual(values.slice(80 * size));
    expect(await table.block(rows, 10)).toHaveLength(0);
    const chosen = [82, 0, 41, 41, 7], into = new Float32Array(6 * size).fill(9);
    await table.gather(chosen, into);
    expect([...into]).toEqual([...chosen.flatMap((row) => [...values.subarray(row * size, (row + 1) * size)]), 9, 9, 9, 9, 9]);
    await table.gather([], into);
    await table.close();
  });

  it('are no more than was said', async () => {
    const table = await filled(memory);
    await expect(table.append(new Float32Array(size))).rejects.toThrow('the table holds 83 rows, and 1 more came after 83');
    await table.close();
  });

  it('leave nothing behind, not even when the table is never closed', async (context) => {
    if (process.platform === 'win32') context.skip('Windows keeps the name of an open file');
    const table = await filled(memory);
    expect(readdirSync(folder)).toEqual([]);
    // What is being read is read before the table closes.
    const into = new Float32Array(rows * size), reading = table.gather(Array.from({ length: rows }, (_, row) => row), into);
    await table.close();
    await reading;
    expect(into, place).toEqual(values);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('the file of features', () => {
  const large = { memory: 0 };

  it('is refused at once where it has no room', async () => {
    const opening = openFeatureTable(1e12, 2048, { ...large, folder });
    await expect(opening).rejects.toMatchObject({ code: 'DiskFull', message: expect.stringMatching(/^1,000,000,000,000 rows of features need 8,192,000 GB, and \S+ has [\d.,]+ GB free; free some space, or set TMPDIR/) });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('needs a folder that takes it', async () => {
    const missing = path.join(folder, 'missing');
    await expect(openFeatureTable(1, 1, { ...large, folder: missing })).rejects.toMatchObject({ code: 'TemporaryFolderUnusable', message: expect.stringMatching(/^1 rows of features need 0 GB, and \S+missing takes no temporary file \(ENOENT.*\); set TMPDIR to a folder that can be written to$/) });
    const file = path.join(folder, 'file');
    writeFileSync(file, '');
    await expect(openFeatureTable(1, 1, { ...large, folder: file })).rejects.toMatchObject({ code: 'TemporaryFolderUnusable' });
    rmSync(file);
  });

  it('says when the disk becomes full, and where', async (context) => {
    const small = path.join(folder, 'small');
    mkdirSync(small);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small], { stdio: 'ignore' });
    } catch {
      rmSync(small, { recursive: true });
      return context.skip('a small file system cannot be mounted here (needs root on Linux)');
    }
    try {
      const table = await openFeatureTable(10, 1000, { ...large, folder: small });
      writeFileSync(path.join(small, 'other'), new Uint8Array(40_000));
      await table.append(new Float32Array(2000));
      await expect(table.append(new Float32Array(8000))).rejects.toMatchObject({ code: 'DiskFull', message: expect.stringMatching(/^10 rows of features need 0 GB, and \S+small became full while they were written; free some space, or set TMPDIR/) });
      await table.close();
      expect(readdirSync(small)).toEqual(['other']);
    } finally {
      execFileSync('umount', [small]);
      rmSync(small, { recursive: true });
    }
  });

  it('goes when the features cannot be computed', async () => {
    const samples = async function* (): AsyncGenerator<LabelledSample> {
      yield { metadata: { index: 0, path: 'a.png', label: 0 }, original: { width: 16, height: 16, data: new Uint8Array(768) } };
      throw new Error('the second image cannot be read');
    };
    await expect(featuresOf(brightness, samples(), { count: 70, mirror: true, label: '', signal: new AbortController().signal, log: silentLog, memory: 0, folder })).rejects.toThrow('the second image cannot be read');
    expect(readdirSync(folder)).toEqual([]);
  });
});

/** Red of the first and of the last pixel of the first row. */
const brightness: Backbone = {
  description, featureSize: 2,
  features: async (images) => Float32Array.from(images.flatMap(({ data, width }) => [data[0]!, data[(width - 1) * 3]!])),
  dispose: async () => {},
};

it.each(places)('features of images and of their mirror images lie side by side %s', async (_, memory) => {
  const count = 70;
  const samples = async function* (): AsyncGenerator<LabelledSample> {
    for (let i = 0; i < count; i++) {
      const data = new Uint8Array(768);
      data[0] = i; data[45] = 100 + i;
      yield { metadata: { index: i, path: `${i}.png`, label: i % 7 }, original: { width: 16, height: 16, data } };
    }
  };
  for (const mirror of [true, false]) {
    const { features, labels, mirrored } = await featuresOf(brightness, samples(), { count, mirror, label: '', signal: new AbortController().signal, log: silentLog, memory: memory === rows * size * 4 ? 2 ** 20 : 0, folder });
    expect(mirrored).toBe(mirror);
    expect([...labels]).toEqual(Array.from({ length: count }, (__, i) => i % 7));
    expect([...await features.block(0, 1000)]).toEqual(Array.from({ length: count }, (__, i) => mirror ? [i, 100 + i, 100 + i, i] : [i, 100 + i]).flat());
    await features.close();
  }
});
