import { describe, expect, test } from 'vitest';
import { noiseEmbedding, timeEmbedding } from '../../src/generation/embedding.ts';

describe('embedding noise (spec §12.2)', () => {
  const identity = { mean: Float32Array.of(0, 0), std: Float32Array.of(1, 1) };
  test.each([
    [0, 0.506414959, -0.998373038], [100, 0.661437824, -0.943536604], [200, 0.793497105, -0.867567180], [300, 0.906178013, -0.770609458], [400, 0.996855880, -0.654986658],
  ])('level %d', (level, x, y) => {
    const noised = noiseEmbedding([0.5, -1], [1, 0.25], level, identity);
    expect(noised[0]).toBeCloseTo(x, 6);
    expect(noised[1]).toBeCloseTo(y, 6);
  });

  test('with a normaliser', () => {
    const noised = noiseEmbedding([0.5, -1], [1, 0.25], 200, { mean: Float32Array.of(0.1, -0.2), std: Float32Array.of(0.5, 2) });
    expect(noised[0]).toBeCloseTo(0.638874080, 6);
    expect(noised[1]).toBeCloseTo(-0.798130140, 6);
  });

  test.each([-1, 1000, 0.5])('level %d is refused', (level) => {
    expect(() => noiseEmbedding([0], [0], level, identity)).toThrow(RangeError);
  });
});

describe('time embedding (spec §12.2)', () => {
  test.each([
    [0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    [100, 0.862318872, -0.676485307, -0.603262943, 0.540302306, 0.999948169, -0.506365641, -0.736456129, 0.797542363, 0.841470985, 0.010181341],
    [200, 0.487187675, -0.084735258, -0.272147643, -0.416146837, 0.999792681, -0.873297297, 0.996403501, -0.962255507, 0.909297427, 0.020361627],
    [300, -0.022096619, 0.791129622, 0.931616119, -0.989992497, 0.999533551, -0.999755840, -0.611648528, 0.363443815, 0.141120008, 0.030539802],
    [400, -0.525296339, -0.985639872, -0.851871321, -0.653643621, 0.999170808, -0.850919360, -0.168861016, 0.523751136, -0.756802495, 0.040714812],
  ])('level %d', (level, ...expected) => {
    const embedding = timeEmbedding(level, 1024);
    for (const [i, index] of [0, 1, 2, 256, 511, 512, 513, 514, 768, 1023].entries()) expect(embedding[index]).toBeCloseTo(expected[i]!, 6);
    expect(embedding.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(512, 3);
  });

  test('any size', () => {
    expect([...timeEmbedding(3, 2)]).toEqual([Math.fround(Math.cos(3)), Math.fround(Math.sin(3))]);
    expect(timeEmbedding(3, 5)[4]).toBe(0);
  });
});
