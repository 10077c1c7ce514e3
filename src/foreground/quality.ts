import type { HostTensor } from '../tensor.ts';
import { normalizeTokens, projectTokens, tokenShape } from './tokens.ts';

/** Keeps the divisions of §5.2 finite. */
const epsilon = 1e-7;

export interface AttentionPool {
  /** Min-max normalised foreground map A, [n, h·w]. */
  readonly map: Float64Array;
  /** Mean token under A (Eq. 10), [n, c]. */
  readonly foreground: Float64Array;
  /** Mean token under 1 - A, [n, c]. */
  readonly background: Float64Array;
}

/**
 * Foreground and background feature of every image (Eq. 10 in the official code's form, spec §5.2).
 * @param tokens [n, c, h, w]
 * @param vector [c], larger projection = foreground
 */
export function poolByForeground(tokens: HostTensor<'float32'>, vector: ArrayLike<number>): AttentionPool {
  const { images, channels, positions } = tokenShape(tokens);
  const map = projectTokens(tokens, vector);
  const foreground = new Float64Array(images * channels), background = new Float64Array(images * channels);
  for (let image = 0; image < images; image++) {
    const a = map.subarray(image * positions, (image + 1) * positions);
    let low = Infinity, high = -Infinity;
    for (const value of a) { if (value < low) low = value; if (value > high) high = value; }
    let foregroundSum = 0, backgroundSum = 0;
    for (let p = 0; p < positions; p++) {
      a[p] = (a[p]! - low) / (high - low + epsilon);
      foregroundSum += a[p]!;
      backgroundSum += 1 - a[p]!;
    }
    for (let c = 0; c < channels; c++) {
      const start = (image * channels + c) * positions;
      let inside = 0, outside = 0;
      for (let p = 0; p < positions; p++) {
        const value = tokens.data[start + p]!;
        inside += a[p]! * value;
        outside += (1 - a[p]!) * value;
      }
      foreground[image * channels + c] = inside / (foregroundSum + epsilon);
      background[image * channels + c] = outside / (backgroundSum + epsilon);
    }
  }
  return { map, foreground, background };
}

export interface PairSimilarity {
  /** s^f (Eq. 11), [n] */
  readonly foreground: Float32Array;
  /** s^b (Eq. 11), [n] */
  readonly background: Float32Array;
  /** q = s^f - s^b (Eq. 12), [n], within [-2, 2] */
  readonly quality: Float32Array;
}

/**
 * How alike the two views of each pair are in the foreground and in the background.
 * @param tokens1 [n, c, h, w] of the first views
 * @param tokens2 the same of the second
 * @param options.normalizeTokens as `ForegroundModel.normalizeTokens`. @default false
 */
export function pairSimilarities(tokens1: HostTensor<'float32'>, tokens2: HostTensor<'float32'>, vector: ArrayLike<number>, options: { normalizeTokens?: boolean } = {}): PairSimilarity {
  const { images, channels } = tokenShape(tokens1);
  if (tokens1.shape.join() !== tokens2.shape.join()) throw new RangeError(`tokens of the two views differ in shape: [${tokens1.shape.join(', ')}] and [${tokens2.shape.join(', ')}]`);
  const [first, second] = [tokens1, tokens2].map((tokens) => poolByForeground(options.normalizeTokens ? normalizeTokens(tokens) : tokens, vector)) as [AttentionPool, AttentionPool];
  const foreground = new Float32Array(images), background = new Float32Array(images), quality = new Float32Array(images);
  for (let image = 0; image < images; image++) {
    const start = image * channels, end = start + channels;
    const inside = cosine(first.foreground.subarray(start, end), second.foreground.subarray(start, end));
    const outside = cosine(first.background.subarray(start, end), second.background.subarray(start, end));
    foreground[image] = inside; background[image] = outside; quality[image] = inside - outside;
  }
  return { foreground, background, quality };
}

/** q of every pair (Eq. 12): foreground similarity minus background similarity. */
export function pairQuality(tokens1: HostTensor<'float32'>, tokens2: HostTensor<'float32'>, vector: ArrayLike<number>, options: { normalizeTokens?: boolean } = {}): Float32Array {
  return pairSimilarities(tokens1, tokens2, vector, options).quality;
}

/**
 * w = n·softmax(γ·q) over the batch (Eq. 13 in the official code's form): mean weight 1.
 * @param gamma 0 gives all ones. @default 1
 */
export function qualityWeights(quality: ArrayLike<number>, gamma = 1): Float32Array {
  const n = quality.length;
  let high = -Infinity;
  for (let i = 0; i < n; i++) high = Math.max(high, gamma * quality[i]!);
  const exponentials = Float64Array.from({ length: n }, (_, i) => Math.exp(gamma * quality[i]! - high));
  const sum = exponentials.reduce((total, value) => total + value, 0);
  return Float32Array.from(exponentials, (value) => n * value / sum);
}

/** Cosine with the norms kept above 1e-12 (spec §0). */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let product = 0, normA = 0, normB = 0;
  for (let i = 0; i < a.length; i++) { product += a[i]! * b[i]!; normA += a[i]! ** 2; normB += b[i]! ** 2; }
  return product / (Math.max(Math.sqrt(normA), 1e-12) * Math.max(Math.sqrt(normB), 1e-12));
}
