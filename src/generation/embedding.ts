import { cumulativeAlphas } from './schedules.ts';

const embeddingAlphas = cumulativeAlphas('squaredcos_cap_v2');

export interface Normalizer {
  /** [d] */
  readonly mean: Float32Array;
  /** [d] */
  readonly std: Float32Array;
}

/**
 * noisy(c, l) of Eq. 5: the image embedding normalised, mixed with noise at timestep `level` of the cosine schedule, and scaled back (spec
 * §3.2; StableUnCLIPImg2ImgPipeline.noise_image_embeddings). Level 0 keeps a noise of 0.0064 standard deviations, as float32
 * does in the reference.
 * @param embedding [d], as the encoder gives it, not L2-normalised
 * @param noise [d], standard normal
 * @param level 0..999
 */
export function noiseEmbedding(embedding: ArrayLike<number>, noise: ArrayLike<number>, level: number, normalizer: Normalizer): Float32Array {
  const alpha = embeddingAlphas[level];
  if (alpha === undefined) throw new RangeError(`noise level ${level} is no whole number from 0 to 999`);
  const signal = Math.sqrt(alpha), sigma = Math.sqrt(1 - alpha);
  const { mean, std } = normalizer;
  return Float32Array.from({ length: embedding.length }, (_, i) =>
    (signal * (embedding[i]! - mean[i]!) / std[i]! + sigma * noise[i]!) * std[i]! + mean[i]!);
}

/**
 * Sinusoidal embedding of a timestep or noise level: cosines, then sines, of `level`·10000^(-j/⌊size/2⌋)
 * (diffusers `get_timestep_embedding`, flip_sin_to_cos, no frequency shift). A last odd element is 0.
 */
export function timeEmbedding(level: number, size: number): Float32Array {
  const half = Math.floor(size / 2);
  const result = new Float32Array(size);
  for (let j = 0; j < half; j++) {
    const angle = level * 10000 ** (-j / half);
    result[j] = Math.cos(angle);
    result[half + j] = Math.sin(angle);
  }
  return result;
}
