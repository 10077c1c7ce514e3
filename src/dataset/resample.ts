import type { Image } from './image.ts';

export interface Box { readonly left: number; readonly top: number; readonly width: number; readonly height: number }

/**
 * The part `box` of `image` resized to `width` x `height`: bicubic (a = -0.5) whose support widens when it shrinks, so
 * without aliasing. Source: Pillow `src/libImaging/Resample.c`; fixed-point weights of 22 bits and an 8-bit picture
 * between the horizontal and the vertical pass give Pillow's pixels exactly (versions to 12). Only what the box needs is computed.
 */
export function cropAfterResize(image: Image, width: number, height: number, box: Box): Image {
  const columns = weights(image.width, width, box.left, box.width);
  const rows = weights(image.height, height, box.top, box.height);
  const firstRow = rows.start[0] ?? 0;
  const last = box.height - 1;
  const neededRows = box.height === 0 ? 0 : rows.start[last]! + rows.count[last]! - firstRow;

  const source = image.data;
  const across = new Uint8Array(neededRows * box.width * 3);
  for (let y = 0; y < neededRows; y++) {
    const line = (firstRow + y) * image.width * 3;
    for (let x = 0; x < box.width; x++) {
      const count = columns.count[x]!, weight = x * columns.stride;
      let r = half, g = half, b = half;
      for (let k = 0, at = line + columns.start[x]! * 3; k < count; k++, at += 3) {
        const w = columns.weight[weight + k]!;
        r += source[at]! * w; g += source[at + 1]! * w; b += source[at + 2]! * w;
      }
      const to = (y * box.width + x) * 3;
      across[to] = clip(r); across[to + 1] = clip(g); across[to + 2] = clip(b);
    }
  }

  const data = new Uint8Array(box.height * box.width * 3);
  const stride = box.width * 3;
  for (let y = 0; y < box.height; y++) {
    const count = rows.count[y]!, start = (rows.start[y]! - firstRow) * stride, weight = y * rows.stride;
    for (let x = 0; x < stride; x++) {
      let sum = half;
      for (let k = 0, at = start + x; k < count; k++, at += stride) sum += across[at]! * rows.weight[weight + k]!;
      data[y * stride + x] = clip(sum);
    }
  }
  return { width: box.width, height: box.height, data };
}

const bits = 22;
const half = 2 ** (bits - 1);

function clip(sum: number): number {
  const value = sum >> bits;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

interface Weights {
  /** First source position and number of positions of each target position. */
  readonly start: Int32Array;
  readonly count: Int32Array;
  /** [targets, stride], of 22 bits behind the point. */
  readonly weight: Int32Array;
  readonly stride: number;
}

/** Weights of the target positions `first` to `first + wanted - 1` of a line of `from` pixels resized to `to`. */
function weights(from: number, to: number, first: number, wanted: number): Weights {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const support = 2 * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const start = new Int32Array(wanted), count = new Int32Array(wanted), weight = new Int32Array(wanted * stride);
  for (let i = 0; i < wanted; i++) {
    if (from === to) { start[i] = first + i; count[i] = 1; weight[i * stride] = 2 ** bits; continue; }
    const centre = (first + i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const high = Math.min(from, Math.trunc(centre + support + 0.5));
    const values = Array.from({ length: high - low }, (_, k) => bicubic((k + low - centre + 0.5) / filterScale));
    const total = values.reduce((sum, value) => sum + value, 0);
    start[i] = low; count[i] = high - low;
    values.forEach((value, k) => {
      const scaled = value / total * 2 ** bits;
      weight[i * stride + k] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
  }
  return { start, count, weight, stride };
}

function bicubic(position: number): number {
  const a = -0.5;
  const x = Math.abs(position);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
