import type { Image } from '../../dataset/image.ts';
import type { Random } from '../../random.ts';
import { triangleTaps } from './resize.ts';

export interface CropWindow { readonly x: number; readonly y: number; readonly width: number; readonly height: number }

export interface RandomResizedCropOptions {
  /** Side of the result in pixels. */
  readonly size: number;
  /** Lower bound of the area fraction; the upper is 1. */
  readonly minScale: number;
}

const minRatio = 3 / 4, maxRatio = 4 / 3;

/**
 * torchvision's RandomResizedCrop.get_params: up to ten tries of area fraction U(minScale, 1) and log aspect
 * U(log 3/4, log 4/3), rounded sides, integer offset; else the largest centre crop within the aspect range.
 * A fixed number of random values is not drawn: give every image a stream of its own.
 */
export function cropWindow(width: number, height: number, random: Random, minScale: number): CropWindow {
  const area = width * height;
  for (let attempt = 0; attempt < 10; attempt++) {
    const target = area * random.uniform(minScale, 1);
    const ratio = Math.exp(random.uniform(Math.log(minRatio), Math.log(maxRatio)));
    const w = Math.round(Math.sqrt(target * ratio)), h = Math.round(Math.sqrt(target / ratio));
    if (w > 0 && h > 0 && w <= width && h <= height) {
      const y = random.integer(height - h + 1), x = random.integer(width - w + 1);
      return { x, y, width: w, height: h };
    }
  }
  const ratio = width / height;
  const w = ratio > maxRatio ? Math.max(1, Math.round(height * maxRatio)) : width;
  const h = ratio < minRatio ? Math.max(1, Math.round(width / minRatio)) : height;
  return { x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h };
}

/** A random crop of `image`, resized to a square as PIL's antialiased bilinear filter does. */
export function randomResizedCrop(image: Image, random: Random, { size, minScale }: RandomResizedCropOptions): Image {
  return resizedCrop(image, cropWindow(image.width, image.height, random, minScale), size);
}

/** The window of `image`, size x size pixels: separable antialiased bilinear filter, 8-bit result. */
export function resizedCrop(image: Image, window: CropWindow, size: number): Image {
  const across = triangleTaps(window.width, size), down = triangleTaps(window.height, size);
  const source = image.data, width = size * 3;
  const rows = new Float32Array(window.height * width);
  const { first: left, count: columns, weights: acrossWeights } = across;
  for (let y = 0, to = 0; y < window.height; y++) {
    const line = ((window.y + y) * image.width + window.x) * 3;
    for (let x = 0; x < size; x++, to += 3) {
      let r = 0, g = 0, b = 0, from = line + left[x]! * 3;
      for (let t = x * across.stride, end = t + columns[x]!; t < end; t++, from += 3) {
        const weight = acrossWeights[t]!;
        r += weight * source[from]!; g += weight * source[from + 1]!; b += weight * source[from + 2]!;
      }
      rows[to] = r; rows[to + 1] = g; rows[to + 2] = b;
    }
  }
  const data = new Uint8Array(size * width), sums = new Float32Array(width);
  for (let y = 0, to = 0; y < size; y++) {
    sums.fill(0.5);
    for (let t = 0; t < down.count[y]!; t++) {
      const weight = down.weights[y * down.stride + t]!;
      for (let c = 0, from = (down.first[y]! + t) * width; c < width; c++, from++) sums[c] = sums[c]! + weight * rows[from]!;
    }
    for (let c = 0; c < width; c++, to++) data[to] = sums[c]!;
  }
  return { width: size, height: size, data };
}
