import type { Image } from '../../dataset/image.ts';
import type { Random } from '../../random.ts';

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

interface Taps { readonly first: Int32Array; readonly count: Int32Array; readonly weights: Float32Array; readonly stride: number }

const tapsOf = new Map<number, Taps>();

/** Triangle filter of `from` -> `to` samples; the support grows with the reduction (PIL `Resample.c`). */
function triangleTaps(from: number, to: number): Taps {
  const key = from * 65536 + to;
  const cached = tapsOf.get(key);
  if (cached) return cached;
  const scale = from / to, support = Math.max(scale, 1), stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to), count = new Int32Array(to), weights = new Float32Array(to * stride);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5)), high = Math.min(from, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let j = low; j < high; j++) sum += Math.max(0, 1 - Math.abs((j - centre + 0.5) / support));
    for (let j = low; j < high; j++) weights[i * stride + j - low] = Math.max(0, 1 - Math.abs((j - centre + 0.5) / support)) / sum;
    first[i] = low; count[i] = high - low;
  }
  const taps = { first, count, weights, stride };
  if (tapsOf.size > 4096) tapsOf.clear();
  tapsOf.set(key, taps);
  return taps;
}

/** The window of `image`, size x size pixels: separable antialiased bilinear filter, 8-bit result. */
export function resizedCrop(image: Image, window: CropWindow, size: number): Image {
  const across = triangleTaps(window.width, size), down = triangleTaps(window.height, size);
  const rows = new Float32Array(window.height * size * 3);
  for (let y = 0; y < window.height; y++) {
    const line = ((window.y + y) * image.width + window.x) * 3;
    for (let x = 0; x < size; x++) {
      const n = across.count[x]!, w = x * across.stride;
      let r = 0, g = 0, b = 0, from = line + across.first[x]! * 3;
      for (let t = 0; t < n; t++, from += 3) {
        const weight = across.weights[w + t]!;
        r += weight * image.data[from]!; g += weight * image.data[from + 1]!; b += weight * image.data[from + 2]!;
      }
      const to = (y * size + x) * 3;
      rows[to] = r; rows[to + 1] = g; rows[to + 2] = b;
    }
  }
  const data = new Uint8Array(size * size * 3), width = size * 3;
  for (let y = 0; y < size; y++) {
    const n = down.count[y]!, w = y * down.stride, top = down.first[y]! * width;
    for (let c = 0; c < width; c++) {
      let sum = 0.5;
      for (let t = 0, from = top + c; t < n; t++, from += width) sum += down.weights[w + t]! * rows[from]!;
      data[y * width + c] = sum;
    }
  }
  return { width: size, height: size, data };
}
