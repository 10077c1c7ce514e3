import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openUnclip, type UnclipModel } from '../../src/generation/model.ts';
import { timeEmbedding } from '../../src/generation/embedding.ts';
import { generateViews, type ViewRequest } from '../../src/generation/unclip.ts';
import { Random } from '../../src/random.ts';
import { float32 } from '../../src/tensor.ts';
import { openNetworks, side } from './networks.ts';

const requests: ViewRequest[] = Array.from({ length: 11 }, (_, i) => {
  const random = new Random('image', i);
  return {
    image: { width: side, height: side, data: Uint8Array.from({ length: 3 * side * side }, () => random.integer(256)) },
    noiseLevel: i % 5 * 100, seedKeys: [0, 'view', `train/cat/${i}.png`, 0],
  };
});
const bytes = (images: readonly { data: Uint8Array }[]): string[] => images.map(({ data }) => Buffer.from(data).toString('base64'));

describe('views of a small untrained unCLIP', () => {
  const models: Record<number, UnclipModel> = {};
  beforeAll(async () => { for (const batch of [1, 4, 16]) models[batch] = await openNetworks(batch); });
  afterAll(async () => { await Promise.all(Object.values(models).map((model) => model.dispose())); });

  test.each(['pndm', 'ddim'] as const)('%s: the same bytes alone, in any company, in any order', async (scheduler) => {
    const options = { steps: 6, guidance: 3, scheduler };
    const together = bytes(await generateViews(models[4]!, requests, options));
    expect(new Set(together).size).toBe(requests.length);
    const alone: string[] = [];
    for (const request of requests) alone.push(...bytes(await generateViews(models[4]!, [request], options)));
    expect(alone).toEqual(together);
    expect(bytes(await generateViews(models[4]!, requests.toReversed(), options)).toReversed()).toEqual(together);
    const shards = [...await generateViews(models[4]!, requests.slice(0, 5), options), ...await generateViews(models[4]!, requests.slice(5), options)];
    expect(bytes(shards)).toEqual(together);
  });

  test('another batch size or number of threads changes a pixel by one step at most', async () => {
    const options = { steps: 6, guidance: 3 };
    const reference = await generateViews(models[4]!, requests, options);
    const threaded = await openNetworks(4, 2);
    const others = [await generateViews(models[1]!, requests, options), await generateViews(models[16]!, requests, options), await generateViews(threaded, requests, options)];
    await threaded.dispose();
    for (const views of others) {
      for (const [i, view] of views.entries()) {
        expect(Math.max(...view.data.map((value, k) => Math.abs(value - reference[i]!.data[k]!)))).toBeLessThanOrEqual(1);
      }
    }
  });

  test('seed, level and image each change the view', async () => {
    const [request] = requests as [ViewRequest];
    const options = { steps: 4 };
    const variants = await generateViews(models[4]!, [request, { ...request, seedKeys: [0, 'view', 'train/cat/0.png', 1] }, { ...request, noiseLevel: 400 }, { ...request, image: requests[1]!.image }], options);
    expect(new Set(bytes(variants)).size).toBe(4);
    expect(variants.every(({ width, height }) => width === 16 && height === 16)).toBe(true);
  });

  test('guidance 1 makes no unconditional call', async () => {
    let calls = 0;
    const counting: UnclipModel = { ...models[4]!, predict(...call) { calls++; return models[4]!.predict(...call); } };
    await generateViews(counting, requests.slice(0, 2), { steps: 5, guidance: 1 });
    expect(calls).toBe(6);
    await generateViews(counting, requests.slice(0, 2), { steps: 5, guidance: 2 });
    expect(calls).toBe(6 + 12);
  });

  test('stops between steps', async () => {
    await expect(generateViews(models[4]!, requests, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
  });

  test('reports a sampler that diverges', async () => {
    const broken: UnclipModel = { ...models[4]!, predict: async (sample) => sample.map(() => Infinity) };
    await expect(generateViews(broken, requests.slice(0, 1), { steps: 3 })).rejects.toMatchObject({ code: 'GenerationDiverged' });
  });
});

test('first draws are the embedding’s noise, then the latents', async () => {
  // A velocity of zero only rotates the latents: x_final = 0.936858882999·z_T (spec §13.6).
  const seen: Float32Array[] = [];
  let final: Float32Array | undefined;
  const still: UnclipModel = {
    sampleShape: [1, 2, 3], embeddingSize: 4, betas: 'scaled_linear', imageSize: 2, batch: 1,
    normalizer: { mean: Float32Array.of(0, 0, 0, 0), std: Float32Array.of(1, 1, 1, 1) },
    embed: async () => float32([0, 0, 0, 0], [1, 4]),
    predict: async (sample, _timestep, labels) => { seen.push(labels); return sample.map(() => 0); },
    decode: async (sample) => { final = sample; return [{ width: 2, height: 2, data: new Uint8Array(12) }]; },
    dispose: async () => {},
  };
  await generateViews(still, [{ image: { width: 2, height: 2, data: new Uint8Array(12) }, noiseLevel: 200, seedKeys: [5, 'view', 'a.png', 0] }], { guidance: 10 });
  const random = new Random(5, 'view', 'a.png', 0);
  const noise = random.normals(4), latents = random.normals(6);
  for (let i = 0; i < 4; i++) expect(seen[0]![i]).toBeCloseTo(0.319745346 * noise[i]!, 6);
  expect([...seen[0]!.subarray(4)]).toEqual([...timeEmbedding(200, 4)]);
  expect([...seen[1]!]).toEqual(Array.from({ length: 8 }, () => 0));
  for (let i = 0; i < 6; i++) expect(final![i]).toBeCloseTo(0.936858882999 * latents[i]!, 5);
});

test('other generators are refused', async () => {
  await expect(openUnclip('/models/unclip/', { threads: 1, batch: 1 })).rejects.toMatchObject({ code: 'GeneratorUnsupported' });
});
