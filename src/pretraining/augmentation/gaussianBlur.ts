/**
 * Half width of the blur kernel, in taps. The recipes blur 224 px crops with radius U(0.1, 2). As in SimCLR the kernel
 * spans a tenth of the image (224 px: 23 taps, the whole Gaussian; 32 px: 3 taps), so that small images are softened
 * in proportion and not washed out; the radius itself keeps its range.
 */
export function blurReach(size: number): number {
  return Math.max(1, Math.floor(size / 20));
}

/**
 * Separable Gaussian of standard deviation `radius` (pixels) over 2·reach + 1 taps, edges reflected without repeating
 * the border pixel (torchvision). `pixels` is [3, size, size] flattened, changed in place.
 */
export function gaussianBlur(pixels: Float32Array, size: number, radius: number, reach = blurReach(size)): void {
  const kernel = new Float32Array(reach + 1);
  let sum = 0;
  for (let t = 0; t <= reach; t++) {
    kernel[t] = Math.exp(-0.5 * (t / radius) ** 2);
    sum += t === 0 ? kernel[t]! : 2 * kernel[t]!;
  }
  for (let t = 0; t <= reach; t++) kernel[t]! /= sum;
  const lines = pixels.length / size, padded = new Float32Array(size + 2 * reach), rows = new Float32Array(pixels.length);
  const smooth = (from: Float32Array, to: Float32Array, start: number, step: number): void => {
    for (let i = 0, p = start; i < size; i++, p += step) padded[reach + i] = from[p]!;
    for (let t = 1; t <= reach; t++) {
      padded[reach - t] = padded[reach + reflected(t)]!;
      padded[reach + size - 1 + t] = padded[reach + size - 1 - reflected(t)]!;
    }
    for (let i = 0, p = start; i < size; i++, p += step) {
      let value = kernel[0]! * padded[reach + i]!;
      for (let t = 1; t <= reach; t++) value += kernel[t]! * (padded[reach + i - t]! + padded[reach + i + t]!);
      to[p] = value;
    }
  };
  const reflected = (t: number): number => Math.min(t, size - 1);
  for (let line = 0; line < lines; line++) smooth(pixels, rows, line * size, 1);
  for (let channel = 0; channel < 3; channel++) for (let x = 0; x < size; x++) smooth(rows, pixels, channel * size * size + x, size);
}
