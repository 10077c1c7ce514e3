import { float32, type HostTensor } from '../../tensor.ts';

/** A one-dimensional resampling filter: output i is the sum of `count[i]` inputs from `first[i]` on, with the weights from `i * stride` on. */
export interface Taps { readonly first: Int32Array; readonly count: Int32Array; readonly weights: Float32Array; readonly stride: number }

const tapsOf = new Map<number, Taps>();

/** Triangle filter of `from` -> `to` samples; the support grows with the reduction (PIL `Resample.c`). */
export function triangleTaps(from: number, to: number): Taps {
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

/** Pixels [n, c, h, w] at another size, [n, c, size, size]: antialiased bilinear, as {@link triangleTaps}. The same tensor when the size fits. */
export function resizePixels(pixels: HostTensor<'float32'>, size: number): HostTensor<'float32'> {
  const [n, c, height, width] = pixels.shape as [number, number, number, number];
  if (height === size && width === size) return pixels;
  const across = triangleTaps(width, size), down = triangleTaps(height, size);
  const rows = new Float32Array(height * size), result = new Float32Array(n * c * size * size);
  for (let plane = 0; plane < n * c; plane++) {
    const source = pixels.data.subarray(plane * height * width, (plane + 1) * height * width);
    for (let y = 0; y < height; y++) for (let x = 0; x < size; x++) {
      let sum = 0;
      for (let t = 0; t < across.count[x]!; t++) sum += across.weights[x * across.stride + t]! * source[y * width + across.first[x]! + t]!;
      rows[y * size + x] = sum;
    }
    for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
      let sum = 0;
      for (let t = 0; t < down.count[y]!; t++) sum += down.weights[y * down.stride + t]! * rows[(down.first[y]! + t) * size + x]!;
      result[(plane * size + y) * size + x] = sum;
    }
  }
  return float32(result, [n, c, size, size]);
}
