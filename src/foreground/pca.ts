import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import type { HostTensor } from '../tensor.ts';
import { tokenShape } from './tokens.ts';

/** Tokens of a block of the outer product: a block of 1280 channels stays within the second-level cache. */
const blockTokens = 128;

/**
 * Mean and covariance of all tokens seen, accumulated in float64 one batch after the other: memory does not grow with
 * the number of images. Each batch is centred on its own mean before its outer product is added, and batches are merged by
 * Chan's formula, so that a mean far from zero costs no digits.
 */
export class TokenStatistics {
  readonly channels: number;
  readonly mean: Float64Array;
  #count = 0;
  /** Sum of outer products of deviations; rows i, columns j >= i are filled. */
  readonly #scatter: Float64Array;

  constructor(channels: number) {
    this.channels = channels;
    this.mean = new Float64Array(channels);
    this.#scatter = new Float64Array(channels * channels);
  }

  /** Tokens seen. */
  get count(): number { return this.#count; }

  /** @param tokens [n, c, h, w] */
  add(tokens: HostTensor<'float32'>): void {
    const { images, channels, positions } = tokenShape(tokens);
    if (channels !== this.channels) throw new RangeError(`tokens have ${channels} channels, expected ${this.channels}`);
    const added = images * positions;
    if (added === 0) return;

    const batchMean = new Float64Array(channels);
    for (let image = 0, k = 0; image < images; image++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let p = 0; p < positions; p++, k++) sum += tokens.data[k]!;
        batchMean[c]! += sum;
      }
    }
    for (let c = 0; c < channels; c++) batchMean[c]! /= added;

    // Chan et al.: S = S_a + S_b + δδᵀ·n_a·n_b/(n_a + n_b), δ = mean_b - mean_a.
    const total = this.#count + added;
    const delta = batchMean.map((value, c) => value - this.mean[c]!);
    const weight = this.#count * added / total;
    for (let i = 0; i < channels; i++) {
      for (let j = i; j < channels; j++) this.#scatter[i * channels + j]! += weight * delta[i]! * delta[j]!;
    }
    for (let c = 0; c < channels; c++) this.mean[c]! += delta[c]! * added / total;
    this.#count = total;

    const padded = Math.ceil(channels / 4) * 4;
    const block = new Float64Array(padded * blockTokens);
    for (let start = 0; start < added; start += blockTokens) {
      const width = Math.min(blockTokens, added - start);
      for (let t = 0; t < width; t++) {
        const image = Math.floor((start + t) / positions), position = (start + t) % positions;
        const source = image * channels * positions + position;
        for (let c = 0; c < channels; c++) block[c * blockTokens + t] = tokens.data[source + c * positions]! - batchMean[c]!;
      }
      addOuterProducts(this.#scatter, block, channels, width);
    }
  }

  /** Sample covariance (divided by count - 1), [c, c] row-major. Throws a RangeError for fewer than two tokens. */
  covariance(): Float64Array {
    if (this.#count < 2) throw new RangeError('a covariance needs at least two tokens');
    const { channels } = this;
    const result = new Float64Array(channels * channels);
    for (let i = 0; i < channels; i++) {
      for (let j = i; j < channels; j++) result[i * channels + j] = result[j * channels + i] = this.#scatter[i * channels + j]! / (this.#count - 1);
    }
    return result;
  }
}

/** scatter[i, j] += Σ_t block[i, t]·block[j, t] for j >= i, in tiles of 4 x 4: sixteen sums from eight loads. */
function addOuterProducts(scatter: Float64Array, block: Float64Array, channels: number, width: number): void {
  for (let i = 0; i < channels; i += 4) {
    const a0 = i * blockTokens, a1 = a0 + blockTokens, a2 = a1 + blockTokens, a3 = a2 + blockTokens;
    for (let j = i; j < channels; j += 4) {
      const b0 = j * blockTokens, b1 = b0 + blockTokens, b2 = b1 + blockTokens, b3 = b2 + blockTokens;
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let t = 0; t < width; t++) {
        const x0 = block[a0 + t]!, x1 = block[a1 + t]!, x2 = block[a2 + t]!, x3 = block[a3 + t]!;
        const y0 = block[b0 + t]!, y1 = block[b1 + t]!, y2 = block[b2 + t]!, y3 = block[b3 + t]!;
        s00 += x0 * y0; s01 += x0 * y1; s02 += x0 * y2; s03 += x0 * y3;
        s10 += x1 * y0; s11 += x1 * y1; s12 += x1 * y2; s13 += x1 * y3;
        s20 += x2 * y0; s21 += x2 * y1; s22 += x2 * y2; s23 += x2 * y3;
        s30 += x3 * y0; s31 += x3 * y1; s32 += x3 * y2; s33 += x3 * y3;
      }
      const sums = [[s00, s01, s02, s03], [s10, s11, s12, s13], [s20, s21, s22, s23], [s30, s31, s32, s33]];
      for (let r = 0; r < 4 && i + r < channels; r++) {
        for (let q = 0; q < 4 && j + q < channels; q++) scatter[(i + r) * channels + j + q]! += sums[r]![q]!;
      }
    }
  }
}

export interface PrincipalComponent {
  /** Unit eigenvector of the largest eigenvalue; its entry of largest magnitude is positive. */
  readonly vector: Float64Array;
  readonly eigenvalue: number;
  /** The eigenvalue's share of the total variance, 0 to 1. */
  readonly explained: number;
}

/**
 * First principal component (spec §2.2). The solver's sign is arbitrary; here it is fixed by the largest entry, and
 * decided for good by {@link decideSign}.
 */
export function principalComponent(statistics: TokenStatistics): PrincipalComponent {
  const { channels } = statistics;
  const covariance = statistics.covariance();
  const decomposition = new EigenvalueDecomposition(Matrix.from1DArray(channels, channels, covariance), { assumeSymmetric: true });
  const eigenvalues = decomposition.realEigenvalues;
  const best = eigenvalues.reduce((index, value, i) => value > eigenvalues[index]! ? i : index, 0);
  const vector = Float64Array.from(decomposition.eigenvectorMatrix.getColumn(best));
  const norm = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  const largest = vector.reduce((max, value) => Math.abs(value) > Math.abs(max) ? value : max, 0);
  const scale = (largest < 0 ? -1 : 1) / norm;
  let trace = 0;
  for (let c = 0; c < channels; c++) trace += covariance[c * channels + c]!;
  return { vector: vector.map((value) => value * scale), eigenvalue: eigenvalues[best]!, explained: trace > 0 ? eigenvalues[best]! / trace : 0 };
}
