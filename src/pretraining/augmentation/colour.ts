import type { Random } from '../../random.ts';

/*
 * Point operations on planar RGB in [0, 1]: `pixels` is [3, size, size] flattened, changed in place. They follow
 * torchvision's tensor functions (`_functional_tensor.py`); every one clamps to [0, 1] as those do.
 */

/** ITU-R 601 luma with torchvision's rounding of the weights. */
export const red = 0.2989, green = 0.587, blue = 0.114;

const clamp = (v: number): number => v < 0 ? 0 : v > 1 ? 1 : v;

export function adjustBrightness(pixels: Float32Array, factor: number): void {
  for (let i = 0; i < pixels.length; i++) pixels[i] = clamp(pixels[i]! * factor);
}

/** Blend with the mean luma of the whole image. */
export function adjustContrast(pixels: Float32Array, factor: number): void {
  const n = pixels.length / 3;
  let r = 0, g = 0, b = 0;
  for (let i = 0; i < n; i++) { r += pixels[i]!; g += pixels[n + i]!; b += pixels[2 * n + i]!; }
  const rest = (1 - factor) * (red * r + green * g + blue * b) / n;
  for (let i = 0; i < pixels.length; i++) pixels[i] = clamp(pixels[i]! * factor + rest);
}

/** Blend with each pixel's luma. */
export function adjustSaturation(pixels: Float32Array, factor: number): void {
  const n = pixels.length / 3;
  for (let i = 0, j = n, k = 2 * n; i < n; i++, j++, k++) {
    const rest = (1 - factor) * (red * pixels[i]! + green * pixels[j]! + blue * pixels[k]!);
    pixels[i] = clamp(pixels[i]! * factor + rest);
    pixels[j] = clamp(pixels[j]! * factor + rest);
    pixels[k] = clamp(pixels[k]! * factor + rest);
  }
}

/** Turns the hue by `shift` turns, in [-0.5, 0.5]; saturation and value (HSV) stay. */
export function adjustHue(pixels: Float32Array, shift: number): void {
  const n = pixels.length / 3;
  for (let i = 0, j = n, k = 2 * n; i < n; i++, j++, k++) {
    const r = pixels[i]!, g = pixels[j]!, b = pixels[k]!;
    const high = r > g ? (r > b ? r : b) : (g > b ? g : b), low = r < g ? (r < b ? r : b) : (g < b ? g : b);
    const chroma = high - low;
    if (chroma === 0) continue;
    const sixth = high === r ? (g - b) / chroma : high === g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
    let h = sixth + 6 * shift;
    h -= 6 * Math.floor(h / 6);
    const sector = h | 0, part = h - sector;
    const falling = high - chroma * part, rising = high - chroma * (1 - part);
    switch (sector) {
      case 0: pixels[i] = high; pixels[j] = rising; pixels[k] = low; break;
      case 1: pixels[i] = falling; pixels[j] = high; pixels[k] = low; break;
      case 2: pixels[i] = low; pixels[j] = high; pixels[k] = rising; break;
      case 3: pixels[i] = low; pixels[j] = falling; pixels[k] = high; break;
      case 4: pixels[i] = rising; pixels[j] = low; pixels[k] = high; break;
      default: pixels[i] = high; pixels[j] = low; pixels[k] = falling;
    }
  }
}

/** The operations of a colour jitter in the order they are applied. */
export interface ColourJitter {
  /** 0 brightness, 1 contrast, 2 saturation, 3 hue. */
  readonly order: readonly number[];
  /** Factors of brightness, contrast and saturation, and the shift of the hue in turns. */
  readonly amounts: readonly [number, number, number, number];
}

/** Random order, factors U(max(0, 1 - k), 1 + k), hue shift U(-h, h). */
export function drawColourJitter(random: Random, [brightness, contrast, saturation, hue]: readonly [number, number, number, number]): ColourJitter {
  const factor = (k: number): number => random.uniform(Math.max(0, 1 - k), 1 + k);
  const amounts = [factor(brightness), factor(contrast), factor(saturation), random.uniform(-hue, hue)] as const;
  return { order: random.shuffle([0, 1, 2, 3]), amounts };
}

export function colourJitter(pixels: Float32Array, { order, amounts }: ColourJitter): void {
  for (const operation of order) {
    if (operation === 0) adjustBrightness(pixels, amounts[0]);
    else if (operation === 1) adjustContrast(pixels, amounts[1]);
    else if (operation === 2) adjustSaturation(pixels, amounts[2]);
    else if (amounts[3] !== 0) adjustHue(pixels, amounts[3]);
  }
}

/** Luma in all three channels. */
export function grayscale(pixels: Float32Array): void {
  const n = pixels.length / 3;
  for (let i = 0, j = n, k = 2 * n; i < n; i++, j++, k++) pixels[i] = pixels[j] = pixels[k] = clamp(red * pixels[i]! + green * pixels[j]! + blue * pixels[k]!);
}

/** Inverts values of at least one half (128 of 255). */
export function solarize(pixels: Float32Array): void {
  for (let i = 0; i < pixels.length; i++) if (pixels[i]! >= 0.5) pixels[i] = 1 - pixels[i]!;
}
