import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { adjustBrightness, adjustContrast, adjustHue, adjustSaturation, grayscale, solarize } from '../../../src/pretraining/augmentation/colour.ts';
import { flipHorizontal } from '../../../src/pretraining/augmentation/flip.ts';
import { blurReach, gaussianBlur } from '../../../src/pretraining/augmentation/gaussianBlur.ts';
import { cropWindow, randomResizedCrop, resizedCrop, type CropWindow } from '../../../src/pretraining/augmentation/randomResizedCrop.ts';
import { Random } from '../../../src/random.ts';

interface Fixture {
  image: { width: number; height: number; data: number[] };
  crops: { window: CropWindow; size: number; data: number[] }[];
  square: number[];
  brightness: Record<string, number[]>; contrast: Record<string, number[]>; saturation: Record<string, number[]>; hue: Record<string, number[]>;
  grayscale: number[]; solarize: number[]; blur: { radius: number; reach: number; data: number[] }[];
}
const fixture = JSON.parse(readFileSync(new URL('../../fixtures/pretraining/augmentation.json', import.meta.url), 'utf8')) as Fixture;
const image = { ...fixture.image, data: Uint8Array.from(fixture.image.data) };
const side = 11;

/** Interleaved bytes -> planar [3, side, side] in [0, 1]. */
const planar = (bytes: readonly number[], scale = 255): Float32Array =>
  Float32Array.from({ length: bytes.length }, (_, i) => bytes[(i % (side * side)) * 3 + Math.floor(i / (side * side))]! / scale);

function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(actual[i]! - expected[i]!));
  return largest;
}

describe('augmentation operations against Pillow, SciPy and colorsys', () => {
  it.each(fixture.crops)('crops and resizes $window as the bilinear filter of PIL', ({ window, size, data }) => {
    // PIL rounds between its two passes.
    expect(largestDifference(resizedCrop(image, window, size).data, data)).toBeLessThanOrEqual(1);
  });

  it.each([
    ['brightness', adjustBrightness, 1.01], ['contrast', adjustContrast, 1.6], ['saturation', adjustSaturation, 1.6], ['hue', adjustHue, 1e-3],
  ] as const)('adjusts %s', (name, operation, tolerance) => {
    for (const [amount, expected] of Object.entries(fixture[name])) {
      const pixels = planar(fixture.square);
      operation(pixels, Number(amount));
      // PIL truncates to 8 bits, and rounds the mean luma of the contrast.
      expect(largestDifference(pixels.map((v) => v * 255), planar(expected, 1)), amount).toBeLessThan(tolerance);
    }
  });

  it('turns the hue by exact values', () => {
    const red = Float32Array.of(1, 0.2, 0.1);
    adjustHue(red, 1 / 3);
    expect(largestDifference(red, [0.1, 1, 0.2])).toBeLessThan(1e-6);
    adjustHue(red, -1 / 3);
    expect(largestDifference(red, [1, 0.2, 0.1])).toBeLessThan(1e-6);
  });

  it('converts to grayscale', () => {
    const pixels = planar(fixture.square);
    grayscale(pixels);
    for (const channel of [0, 1, 2]) {
      expect(largestDifference(pixels.subarray(channel * side * side, (channel + 1) * side * side).map((v) => v * 255), fixture.grayscale)).toBeLessThan(1.01);
    }
  });

  it('solarizes', () => {
    const pixels = planar(fixture.square);
    solarize(pixels);
    expect(largestDifference(pixels.map((v) => v * 255), planar(fixture.solarize, 1))).toBeLessThan(1e-4);
  });

  it.each(fixture.blur)('blurs with radius $radius over $reach taps a side', ({ radius, reach, data }) => {
    const pixels = planar(fixture.square);
    gaussianBlur(pixels, side, radius, reach);
    expect(largestDifference(pixels, planar(data, 1))).toBeLessThan(2e-6);
  });

  it('flips', () => {
    const pixels = Float32Array.from({ length: 12 }, (_, i) => i);
    flipHorizontal(pixels, 2);
    expect([...pixels]).toEqual([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]);
  });

  it('blurs a tenth of the crop', () => {
    expect([32, 64, 96, 224].map(blurReach)).toEqual([1, 3, 4, 11]);
  });
});

describe('random resized crop', () => {
  it('stays inside, within the scale and aspect ranges, and covers them', () => {
    let low = Infinity, high = 0, narrow = Infinity, wide = 0;
    for (let i = 0; i < 2000; i++) {
      const { x, y, width, height } = cropWindow(100, 80, new Random(i), 0.2);
      expect(x >= 0 && y >= 0 && x + width <= 100 && y + height <= 80).toBe(true);
      const area = width * height / 8000, ratio = width / height;
      low = Math.min(low, area); high = Math.max(high, area); narrow = Math.min(narrow, ratio); wide = Math.max(wide, ratio);
    }
    expect(low).toBeGreaterThan(0.19); expect(low).toBeLessThan(0.21);
    expect(high).toBeGreaterThan(0.95);
    expect(narrow).toBeCloseTo(0.75, 1); expect(wide).toBeCloseTo(4 / 3, 1);
  });

  it('takes the centre of images too long for the aspect range', () => {
    expect(cropWindow(1000, 10, new Random(1), 0.9)).toEqual({ x: 493, y: 0, width: 13, height: 10 });
    expect(cropWindow(10, 1000, new Random(1), 0.9)).toEqual({ x: 0, y: 493, width: 10, height: 13 });
  });

  it('repeats with the same stream', () => {
    const crop = (seed: number) => randomResizedCrop(image, new Random(seed), { size: 8, minScale: 0.2 }).data;
    expect(crop(3)).toEqual(crop(3));
    expect(crop(3)).not.toEqual(crop(4));
  });
});
