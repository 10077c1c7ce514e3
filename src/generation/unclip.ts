import type { Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import { Random } from '../random.ts';
import { sizeOf } from '../tensor.ts';
import { noiseEmbedding, timeEmbedding } from './embedding.ts';
import type { UnclipModel } from './model.ts';
import { createSampler } from './sampler.ts';

export interface ViewRequest {
  /** The original, square, of the model's `embedSize`. */
  readonly image: Image;
  /** Timestep of the embedding's noise, 0..999. */
  readonly noiseLevel: number;
  /** Keys of the view's random numbers: equal keys, equal view. */
  readonly seedKeys: readonly (string | number)[];
}

export interface GenerateOptions {
  /** Denoising steps. @default 20 */
  readonly steps?: number;
  /** Classifier-free guidance scale; up to 1 is none. @default 10 */
  readonly guidance?: number;
  /** @default 'pndm' */
  readonly scheduler?: 'pndm' | 'ddim';
  /** Stops between two steps. */
  readonly signal?: AbortSignal;
}

/**
 * One view of each image: x⁺ = G(z_T, noisy(c, l)) (Eq. 5, 9). A view's bytes depend on its request and the options only, neither on
 * the other requests nor on their order: each view draws from its own random stream (first the embedding's noise, then the initial
 * latents), and every network call has the model's fixed batch, the last one filled up.
 */
export async function generateViews(model: UnclipModel, requests: readonly ViewRequest[], options: GenerateOptions = {}): Promise<Image[]> {
  const views: Image[] = [];
  for (let start = 0; start < requests.length; start += model.batch) {
    views.push(...await generateBatch(model, requests.slice(start, start + model.batch), options));
  }
  return views;
}

async function generateBatch(model: UnclipModel, requests: readonly ViewRequest[], options: GenerateOptions): Promise<Image[]> {
  const { steps = 20, guidance = 10, scheduler = 'pndm', signal } = options;
  const { batch, embeddingSize, normalizer } = model;
  const sampleSize = sizeOf(model.sampleShape);

  const last = requests.at(-1)!;
  const embeddings = await model.embed(Array.from({ length: batch }, (_, i) => (requests[i] ?? last).image));
  const conditional = new Float32Array(batch * 2 * embeddingSize), unconditional = new Float32Array(batch * 2 * embeddingSize);
  let sample = new Float32Array(batch * sampleSize);
  for (const [i, { noiseLevel, seedKeys }] of requests.entries()) {
    const random = new Random(...seedKeys);
    const embedding = embeddings.data.subarray(i * embeddingSize, (i + 1) * embeddingSize);
    conditional.set(noiseEmbedding(embedding, random.normals(embeddingSize), noiseLevel, normalizer), i * 2 * embeddingSize);
    conditional.set(timeEmbedding(noiseLevel, embeddingSize), (i * 2 + 1) * embeddingSize);
    sample.set(random.normals(sampleSize), i * sampleSize);
  }

  const sampler = createSampler(scheduler, { steps, betas: model.betas });
  for (const timestep of sampler.timesteps) {
    signal?.throwIfAborted();
    let velocity = await model.predict(sample, timestep, conditional, batch);
    if (guidance > 1) velocity = guide(await model.predict(sample, timestep, unconditional, batch), velocity, guidance);
    sample = sampler.step(velocity, timestep, sample) as Float32Array<ArrayBuffer>;
  }
  for (const value of sample.subarray(0, requests.length * sampleSize)) {
    if (!Number.isFinite(value)) {
      throw new GenViewError('GenerationDiverged', `the sampler left the range of numbers with generation.guidance ${guidance}, steps ${steps}, scheduler ${scheduler}; lower the guidance or take more steps`);
    }
  }
  return (await model.decode(sample, batch)).slice(0, requests.length);
}

/** v = v_u + s·(v_c - v_u) (spec §3.3). */
function guide(unconditional: Float32Array, conditional: Float32Array, scale: number): Float32Array {
  return unconditional.map((value, i) => value + scale * (conditional[i]! - value));
}
