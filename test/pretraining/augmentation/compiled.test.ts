import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { normalize, photometric, photometricInputs, photometricTensors } from '../../../src/pretraining/augmentation/compiled.ts';
import { applyPhotometric, drawPhotometric, type PhotometricDraw } from '../../../src/pretraining/augmentation/photometric.ts';
import { Random } from '../../../src/random.ts';
import type { AugmentationRecipe } from '../../../src/recipe/recipe.ts';
import { compile } from '../../../src/runtime/compile.ts';
import { float32 } from '../../../src/tensor.ts';

const recipe: AugmentationRecipe = {
  imageSize: 32, minScale: 0.2, jitter: [0.4, 0.4, 0.4, 0.1], jitterProbability: 0.8, grayscaleProbability: 0.2, blurProbability: [0.5, 0.5], solarizeProbability: [0.3, 0.3],
  flipProbability: 0.5, mean: [0.48, 0.46, 0.41], std: [0.27, 0.26, 0.28],
};

/** Crops with flat parts, saturated colours and noise, [3, size, size] each. */
const crops = (n: number, size: number): Float32Array[] => Array.from({ length: n }, (_, i) => {
  const random = new Random('crop', i), colours = [random.uniform(), random.uniform(), random.uniform()];
  return Float32Array.from({ length: 3 * size * size }, (_value, p) => {
    const channel = Math.floor(p / (size * size)), pixel = p % (size * size), row = Math.floor(pixel / size);
    return row < size / 4 ? 0.5 : row < size / 2 ? colours[channel]! : row < 3 * size / 4 ? Math.min(1, Math.max(0, (pixel % size) / size + 0.4 * (channel - 1))) : random.uniform();
  });
});

/** Largest difference, of 255, between the compiled program and the functions on one crop. */
async function largestDifference(draws: readonly PhotometricDraw[], size: number): Promise<number> {
  const n = draws.length, pixels = crops(n, size);
  const program = await compile(({ x, ...given }) => ({ y: tf.transpose(photometric(tf.transpose(x!, [0, 2, 3, 1]) as tf.Tensor4D, given), [0, 3, 1, 2]) }), { x: { shape: [n, 3, size, size] }, ...photometricInputs(n) }, { threads: 1 });
  const { y } = await program.run({ x: float32(Float32Array.from(pixels.flatMap((p) => [...p])), [n, 3, size, size]), ...photometricTensors(draws) });
  await program.dispose();
  let largest = 0;
  draws.forEach((draw, i) => {
    applyPhotometric(pixels[i]!, size, draw);
    pixels[i]!.forEach((value, p) => { largest = Math.max(largest, 255 * Math.abs(value - y!.data[i * 3 * size * size + p]!)); });
  });
  return largest;
}

const plain: PhotometricDraw = { grayscale: false, solarize: false, flip: false };

describe('the compiled photometric augmentation does to a batch what the functions do to one crop', () => {
  it('for random draws of a recipe', async () => {
    for (const size of [32, 61]) {
      const draws = Array.from({ length: 24 }, (_, i) => drawPhotometric(new Random('draw', size, i), i % 2 === 0 ? 0 : 1, recipe));
      expect(new Set(draws.map(({ jitter }) => jitter?.order.join())).size).toBeGreaterThan(8);
      expect(await largestDifference(draws, size)).toBeLessThan(0.01);
    }
  });

  it('for every order of the four jitter operations', async () => {
    const orders = [0, 1, 2, 3].flatMap((a) => [0, 1, 2, 3].flatMap((b) => [0, 1, 2, 3].map((c) => [a, b, c, 6 - a - b - c]))).filter((order) => new Set(order).size === 4);
    expect(orders).toHaveLength(24);
    expect(await largestDifference(orders.map((order, i) => ({ ...plain, jitter: { order, amounts: [0.6 + 0.03 * i, 1.4 - 0.03 * i, 0.2 + 0.07 * i, 0.5 - i / 24] } })), 12)).toBeLessThan(0.01);
  });

  it('for blurs of any radius next to none, images smaller than the reach included', async () => {
    for (const size of [1, 2, 12, 96]) expect(await largestDifference([0.1, 0.5, 1, 2].map((blurRadius) => ({ ...plain, blurRadius })).concat({ ...plain, blurRadius: 1e-3 }), size)).toBeLessThan(0.01);
  });

  it('leaves crops without a draw as they are', async () => { expect(await largestDifference([plain, { ...plain, flip: true }], 16)).toBeLessThan(1e-3); });
});

describe('normalize', () => {
  it('gives each channel the mean and deviation of the recipe', async () => {
    const program = await compile(({ x }) => ({ y: normalize(x as tf.Tensor4D, recipe.mean, recipe.std) }), { x: { shape: [1, 1, 2, 3] } }, { threads: 1 });
    const { y } = await program.run({ x: float32([0.48, 0.46, 0.41, 0.75, 0.2, 0.97], [1, 1, 2, 3]) });
    [0, 0, 0, 1, -1, 2].forEach((value, i) => expect(y!.data[i]).toBeCloseTo(value, 5));
    await program.dispose();
  });
});
