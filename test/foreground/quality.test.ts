import { describe, expect, test } from 'vitest';
import { pairQuality, pairSimilarities, poolByForeground, qualityWeights } from '../../src/foreground/quality.ts';
import { float32 } from '../../src/tensor.ts';

// Spec §12.5: v = (0.6, 0.8), a grid of 2 x 2 tokens of two channels, three images.
const vector = [0.6, 0.8];
const view1 = [[[1, 0], [0, 1], [1, 1], [-1, 0]], [[2, 1], [0, 0], [1, -1], [0, 2]], [[1, 2], [3, -1], [0, 1], [-2, 1]]];
const view2 = [[[1, 0], [0, 2], [2, 1], [-1, 1]], [[-1, 1], [1, 0], [0, 1], [2, -1]], [[1, 2], [3, -1], [0, 1], [-2, 1]]];
const asTokens = (images: readonly (readonly (readonly number[])[])[]) =>
  float32(images.flatMap((tokens) => [0, 1].flatMap((c) => tokens.map((token) => token[c]!))), [images.length, 2, 2, 2]);
const first = asTokens(view1), second = asTokens(view2);

function expectClose(actual: ArrayLike<number>, expected: readonly number[], digits = 8): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, digits);
}

describe('quality of pairs (spec §12.5)', () => {
  test('map, foreground and background features', () => {
    const pool1 = poolByForeground(first, vector), pool2 = poolByForeground(second, vector);
    expectClose(pool1.map.subarray(0, 4), [0.59999997, 0.699999965, 0.99999995, 0.0]);
    expectClose(pool1.foreground, [0.695652144, 0.739130403, 1.047618993, 1.380952309, 1.307692242, 0.961538413]);
    expectClose(pool2.foreground, [1.111111056, 1.277777714, 0.666666633, 0.333333317, 1.307692242, 0.961538413]);
    expectClose(pool1.background, [-0.352941085, 0.176470616, 0.47826087, -0.304347742, -0.30769223, 0.538461528]);
    expectClose(pool2.background, [-0.111111038, 0.722222217, 0.333333372, 0.166666686, -0.30769223, 0.538461528]);
  });

  test('similarities and quality', () => {
    const { foreground, background, quality } = pairSimilarities(first, second, vector);
    expectClose(foreground, [0.999225463, 0.896870871, 1.0], 6);
    expectClose(background, [0.578017397, 0.514495864, 1.0], 6);
    expectClose(quality, [0.421208067, 0.382375007, 0.0], 6);
  });

  test('weights', () => {
    const quality = pairQuality(first, second, vector);
    expectClose(qualityWeights(quality), [1.145840772, 1.102197161, 0.751962066], 6);
    expectClose(qualityWeights(quality, 2), [1.27337599, 1.178220812, 0.548403198], 6);
    expectClose(qualityWeights([0.5, 0, -0.5, 0.25]), [1.452849116, 0.881197533, 0.534473321, 1.131480030], 6);
  });
});

test('flipping the vector swaps foreground and background and negates the quality (spec §13.4)', () => {
  const flipped = vector.map((value) => -value);
  const pool = poolByForeground(first, vector), mirrored = poolByForeground(first, flipped);
  expectClose(mirrored.map, Array.from(pool.map, (value) => 1 - value), 6);
  expectClose(mirrored.foreground, [...pool.background], 6);
  expectClose(mirrored.background, [...pool.foreground], 6);
  expectClose(pairQuality(first, second, flipped), Array.from(pairQuality(first, second, vector), (q) => -q), 6);
});

test('identical views have quality 0; weights add up to n and ignore a shift', () => {
  expectClose(pairQuality(first, first, vector), [0, 0, 0], 6);
  expectClose(qualityWeights([0.3, 0.3, 0.3]), [1, 1, 1], 6);
  const quality = [0.9, -1.7, 0.2, 2, -2];
  const weights = qualityWeights(quality);
  expect(weights.reduce((sum, w) => sum + w, 0)).toBeCloseTo(5, 5);
  expectClose(qualityWeights(quality.map((q) => q + 100)), [...weights], 5);
  expectClose(qualityWeights(quality, 0), [1, 1, 1, 1, 1]);
});

test('normalised tokens: scaling a view changes nothing', () => {
  const brighter = float32(second.data.map((value, k) => value * (k < 8 ? 10 : 1)), second.shape);
  const scaledTokens = float32(first.data.map((value, k) => value * (1 + k % 4)), first.shape);
  expectClose(pairQuality(scaledTokens, brighter, vector, { normalizeTokens: true }), [...pairQuality(first, second, vector, { normalizeTokens: true })], 6);
  expect(pairQuality(scaledTokens, brighter, vector)[0]).not.toBeCloseTo(pairQuality(first, second, vector)[0]!, 3);
});
