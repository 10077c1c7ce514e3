import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Image } from '../../src/dataset/image.ts';
import { evaluationCrop, mirrored, openBackbone } from '../../src/evaluation/features.ts';
import { encodeSafetensors } from '../../src/nn/safetensors.ts';
import { openStore, writeJson } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';
import { description, formulaEncoder, formulaPixels, reference } from './reference.ts';

let folder: string, store: ObjectStore;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'genview-features-'));
  store = openStore(folder);
});
afterAll(() => rm(folder, { recursive: true }));

/** make.py's images. */
function images(): Image[] {
  const pixels = formulaPixels();
  return Array.from({ length: 6 }, (_, n) => {
    const data = new Uint8Array(16 * 16 * 3);
    for (let i = 0; i < 256; i++) for (let c = 0; c < 3; c++) data[i * 3 + c] = Math.round(pixels[n * 768 + c * 256 + i]! * 255);
    return { width: 16, height: 16, data };
  });
}

describe('features', () => {
  it('are those of the same network in PyTorch, running statistics included', async () => {
    await writeJson(store, 'pretrain/a/encoder.json', description);
    await store.put('pretrain/a/encoder.safetensors', encodeSafetensors(formulaEncoder().weights));
    const backbone = await openBackbone(store, 'pretrain/a/', { threads: 1 });
    const features = await backbone.features(images());
    expect(backbone.featureSize).toBe(16);
    expect(features).toHaveLength(96);
    for (const [i, value] of reference.features.values.entries()) expect(features[i]).toBeCloseTo(value, 4);
    // More images than one forward pass takes.
    const many = await backbone.features(Array.from({ length: 12 }, images).flat());
    expect(many.subarray(66 * 16)).toEqual(features);
    await backbone.dispose();
  });

  it('need the tensors that the description promises', async () => {
    const { weights } = formulaEncoder();
    await writeJson(store, 'pretrain/b/encoder.json', { ...description, backbone: { ...description.backbone, width: 8 } });
    await store.put('pretrain/b/encoder.safetensors', encodeSafetensors(weights));
    await expect(openBackbone(store, 'pretrain/b/', { threads: 1 })).rejects.toMatchObject({ code: 'WeightsInvalid', message: expect.stringMatching(/pretrain\/b\/encoder\.safetensors: tensor conv1\.weight is float32 of shape \[4, 3, 3, 3\]/) });
    await expect(openBackbone(store, 'pretrain/none/', { threads: 1 })).rejects.toMatchObject({ code: 'ObjectNotFound' });
  });
});

describe('evaluation crop', () => {
  /** Left to right ramp. */
  const ramp = (width: number, height: number): Image => ({ width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => Math.floor(Math.floor(i / 3) % width * 255 / (width - 1))) });

  it('keeps the whole height of small images', async () => {
    const image = ramp(48, 32), crop = await evaluationCrop(image, 32);
    expect([crop.width, crop.height]).toEqual([32, 32]);
    expect([...crop.data]).toEqual([...crop.data.keys()].map((i) => image.data[(8 + Math.floor(i / 3) % 32) * 3]));
  });

  it('cuts the middle 7/8 of large ones', async () => {
    const image = ramp(256, 256), crop = await evaluationCrop(image, 224);
    expect([crop.width, crop.height]).toEqual([224, 224]);
    expect(crop.data[0]).toBe(image.data[16 * 3]);
    expect(crop.data[223 * 3]).toBe(image.data[239 * 3]);
  });

  it('is mirrored left to right', () => {
    expect([...mirrored({ width: 2, height: 2, data: Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) }).data]).toEqual([4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
  });
});
