import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelBytes, openEncoder } from '../../src/foreground/encoder.ts';
import { float32 } from '../../src/tensor.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/foreground/${name}`, import.meta.url));
const model = (name: string) => ({ model: fixture(name), imageSize: 16 });
const threads = { threads: 1 };
/** As in make_encoders.py. */
const pixels = (n: number, side = 16) => float32(Float32Array.from({ length: n * 3 * side * side }, (_, i) => Math.fround((i * 37 % 256) / 255)), [n, 3, side, side]);

const expected = JSON.parse(await readFile(fixture('encoder.json'), 'utf8')) as Record<'tokens' | 'embedding', { shape: number[]; values: number[] }>;

test.each(['encoder.onnx', 'encoder-static.onnx'])('%s gives the tokens and the embedding of the reference evaluator', async (name) => {
  const encoder = await openEncoder(model(name), threads);
  expect(encoder).toMatchObject({ imageSize: 16, channels: 6, grid: [4, 4] });
  const output = await encoder.encode(pixels(2));
  for (const key of ['tokens', 'embedding'] as const) {
    expect(output[key].shape).toEqual(expected[key].shape);
    for (const [i, value] of expected[key].values.entries()) expect(output[key].data[i]).toBeCloseTo(value, 5);
  }
  await encoder.dispose();
});

test('a static batch is filled up and split', async () => {
  const [dynamic, fixed] = [await openEncoder(model('encoder.onnx'), threads), await openEncoder(model('encoder-static.onnx'), threads)];
  for (const n of [1, 3, 7]) {
    const a = await dynamic.encode(pixels(n)), b = await fixed.encode(pixels(n));
    expect(b.tokens.shape).toEqual([n, 6, 4, 4]);
    expect(b.embedding.shape).toEqual([n, 5]);
    for (let i = 0; i < a.tokens.data.length; i++) expect(b.tokens.data[i]).toBeCloseTo(a.tokens.data[i]!, 5);
    for (let i = 0; i < a.embedding.data.length; i++) expect(b.embedding.data[i]).toBeCloseTo(a.embedding.data[i]!, 5);
  }
  await expect(fixed.encode(pixels(1, 8))).rejects.toThrow(/must be \[n, 3, 16, 16\]/);
  await Promise.all([dynamic.dispose(), fixed.dispose()]);
});

test('with a fixed batch an image gives the same bits in any company', async () => {
  const encoder = await openEncoder(model('encoder.onnx'), { threads: 1, batch: 4 });
  const all = await encoder.encode(pixels(7)), size = 3 * 16 * 16;
  for (let i = 0; i < 7; i++) {
    const alone = await encoder.encode(float32(pixels(7).data.slice(i * size, (i + 1) * size), [1, 3, 16, 16]));
    expect(alone.tokens.data).toEqual(all.tokens.data.slice(i * 96, (i + 1) * 96));
    expect(alone.embedding.data).toEqual(all.embedding.data.slice(i * 5, (i + 1) * 5));
  }
  await encoder.dispose();
});

describe('an encoder of the wrong kind is refused in one line', () => {
  let folder: string;
  beforeAll(async () => { folder = await mkdtemp(path.join(os.tmpdir(), 'genview-encoder-')); });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('missing output', async () => {
    await expect(openEncoder(model('encoder-wrong-output.onnx'), threads)).rejects.toMatchObject({ code: 'EncoderInvalid', message: expect.stringContaining('`tokens` is missing') as string });
  });
  test('wrong input', async () => {
    await expect(openEncoder({ model: fileURLToPath(new URL('../fixtures/generation/decode.onnx', import.meta.url)), imageSize: 16 }, threads))
      .rejects.toMatchObject({ code: 'EncoderInvalid', message: expect.stringContaining('inputs are `sample`') as string });
  });
  test('wrong size', async () => {
    await expect(openEncoder({ ...model('encoder-static.onnx'), imageSize: 32 }, threads)).rejects.toMatchObject({ code: 'EncoderInvalid', message: expect.stringContaining('foreground.encoder.imageSize') as string });
  });
  test('no ONNX network', async () => {
    const file = path.join(folder, 'a b#.onnx');
    await writeFile(file, 'no network');
    await expect(openEncoder({ model: file, imageSize: 16 }, threads)).rejects.toMatchObject({ code: 'EncoderInvalid', message: expect.stringContaining(file) as string });
  });
  test('no file', async () => {
    await expect(modelBytes(path.join(folder, 'none.onnx'))).rejects.toMatchObject({ code: 'ModelNotFound' });
    await expect(modelBytes('builtin:clip')).rejects.toMatchObject({ code: 'ModelNotFound' });
  });
});

const shared = fileURLToPath(new URL('../../../shared/models/tiny-darknet-imagenet.onnx', import.meta.url));
if (!existsSync(shared)) console.warn('skipped: tiny-darknet as an encoder: ../shared/models is not here');
test.skipIf(!existsSync(shared))('tiny-darknet opens at 64 px (skipped without ../shared/models)', async () => {
  const encoder = await openEncoder({ model: shared, imageSize: 64 }, threads);
  expect(encoder).toMatchObject({ channels: 128, grid: [4, 4] });
  await encoder.dispose();
});
