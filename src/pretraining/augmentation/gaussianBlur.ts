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
  const rows = new Float32Array(pixels.length), padded = new Float32Array(size + 2 * reach);
  for (let start = 0; start < pixels.length; start += size) smooth(pixels, rows, start, 1, size, kernel, padded);
  for (let channel = 0; channel < pixels.length; channel += size * size) {
    for (let x = 0; x < size; x++) smooth(rows, pixels, channel + x, size, size, kernel, padded);
  }
}

/** One line of `size` values, `step` apart; `padded` is working memory. */
function smooth(from: Float32Array, to: Float32Array, start: number, step: number, size: number, kernel: Float32Array, padded: Float32Array): void {
  const reach = kernel.length - 1, centre = kernel[0]!, last = reach + size - 1;
  for (let i = reach, p = start; i <= last; i++, p += step) padded[i] = from[p]!;
  for (let t = 1; t <= reach; t++) {
    const inside = Math.min(t, size - 1);
    padded[reach - t] = padded[reach + inside]!;
    padded[last + t] = padded[last - inside]!;
  }
  for (let i = reach, p = start; i <= last; i++, p += step) {
    let value = centre * padded[i]!;
    for (let t = 1; t <= reach; t++) value += kernel[t]! * (padded[i - t]! + padded[i + t]!);
    to[p] = value;
  }
}
