/** Mirrors [3, size, size] planar pixels left to right, in place. */
export function flipHorizontal(pixels: Float32Array, size: number): void {
  for (let start = 0; start < pixels.length; start += size) pixels.subarray(start, start + size).reverse();
}
