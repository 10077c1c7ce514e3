/** Mirrors [3, size, size] planar pixels left to right, in place. */
export function flipHorizontal(pixels: Float32Array, size: number): void {
  for (let start = 0; start < pixels.length; start += size) {
    for (let i = start, j = start + size - 1; i < j; i++, j--) {
      const value = pixels[i]!;
      pixels[i] = pixels[j]!;
      pixels[j] = value;
    }
  }
}
