import { describe, expect, test } from 'vitest';
import { principalComponent, TokenStatistics } from '../../src/foreground/pca.ts';
import { normalizeTokens, projectTokens } from '../../src/foreground/tokens.ts';
import { Random } from '../../src/random.ts';
import { float32 } from '../../src/tensor.ts';

/** Rows of a data matrix as one image: [1, c, 1, rows]. */
function asTokens(rows: readonly (readonly number[])[]) {
  const channels = rows[0]!.length;
  return float32(Array.from({ length: channels }, (_, c) => rows.map((row) => row[c]!)).flat(), [1, channels, 1, rows.length]);
}

const toy = [[2, 0], [0, 1], [-2, 0.5], [1, 1], [0, -1.5]];

describe('principal component of the specification’s toy data (§12.4)', () => {
  const statistics = new TokenStatistics(2);
  statistics.add(asTokens(toy.slice(0, 3)));
  statistics.add(asTokens(toy.slice(3)));

  test('mean and covariance', () => {
    expect(statistics.count).toBe(5);
    expect([...statistics.mean].map((value) => +value.toFixed(12))).toEqual([0.2, 0.2]);
    for (const [i, value] of [2.2, -0.05, -0.05, 1.075].entries()) expect(statistics.covariance()[i]).toBeCloseTo(value, 12);
  });

  test('eigenvalue, eigenvector and uncentred projections', () => {
    const { vector, eigenvalue, explained } = principalComponent(statistics);
    expect(eigenvalue).toBeCloseTo(2.2022178499, 9);
    expect(explained).toBeCloseTo(2.2022178499 / 3.275, 9);
    expect(vector[0]).toBeCloseTo(0.9990176777, 9);
    expect(vector[1]).toBeCloseTo(-0.0443134252, 9);
    const projections = projectTokens(asTokens(toy), vector);
    for (const [i, value] of [1.998035355, -0.044313425, -2.020192068, 0.954704252, 0.066470138].entries()) expect(projections[i]).toBeCloseTo(value, 8);
  });
});

describe('token statistics', () => {
  const random = new Random('pca test');
  const channels = 7, positions = 6, images = 40;
  // A mean a hundred thousand times the deviation: naive sums of squares would keep no digit of the covariance.
  const data = Float32Array.from({ length: images * channels * positions }, (_, k) => 4096 + (Math.floor(k / positions) % channels) * 512 + Math.round(random.normal() * 64) / 1024);

  function covarianceInTwoPasses(): number[][] {
    const at = (token: number, c: number): number => data[Math.floor(token / positions) * channels * positions + c * positions + token % positions]!;
    const n = images * positions;
    const mean = Array.from({ length: channels }, (_, c) => { let sum = 0; for (let t = 0; t < n; t++) sum += at(t, c); return sum / n; });
    return mean.map((_, i) => mean.map((__, j) => {
      let sum = 0;
      for (let t = 0; t < n; t++) sum += (at(t, i) - mean[i]!) * (at(t, j) - mean[j]!);
      return sum / (n - 1);
    }));
  }

  test.each([1, 3, 40])('agree with a two-pass covariance in batches of %i, far from the origin', (batch) => {
    const statistics = new TokenStatistics(channels);
    for (let start = 0; start < images; start += batch) {
      const n = Math.min(batch, images - start);
      statistics.add(float32(data.slice(start * channels * positions, (start + n) * channels * positions), [n, channels, 2, 3]));
    }
    const expected = covarianceInTwoPasses(), covariance = statistics.covariance();
    for (let i = 0; i < channels; i++) for (let j = 0; j < channels; j++) expect(Math.abs(covariance[i * channels + j]! - expected[i]![j]!)).toBeLessThan(1e-12);
  });

  test('need two tokens', () => {
    const statistics = new TokenStatistics(2);
    statistics.add(float32([1, 2], [1, 2, 1, 1]));
    expect(() => statistics.covariance()).toThrow(RangeError);
  });

  test('tokens of length one after normalisation, black ones left at zero', () => {
    const normalized = normalizeTokens(float32([3, 0, 4, 0], [1, 2, 1, 2]));
    expect([...normalized.data]).toEqual([Math.fround(0.6), 0, Math.fround(0.8), 0]);
  });
});
