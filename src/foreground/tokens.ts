import { float32, type HostTensor } from '../tensor.ts';

/** [n, c, h, w] of a token tensor. Throws a RangeError for another rank. */
export function tokenShape(tokens: HostTensor<'float32'>): { images: number; channels: number; rows: number; columns: number; positions: number } {
  const [images, channels, rows, columns] = tokens.shape;
  if (tokens.shape.length !== 4 || images === undefined || channels === undefined || rows === undefined || columns === undefined) {
    throw new RangeError(`tokens must be [n, c, h, w], not [${tokens.shape.join(', ')}]`);
  }
  return { images, channels, rows, columns, positions: rows * columns };
}

/**
 * Every token divided by its Euclidean norm (at least 1e-12), as a new tensor. Not part of the paper, whose ViT tokens come out of a
 * layer norm; the tokens of a plain convolutional network grow with the contrast of the image, and their first principal
 * component then measures contrast (see docs/foreground.md for figures).
 * @param tokens [n, c, h, w]
 */
export function normalizeTokens(tokens: HostTensor<'float32'>): HostTensor<'float32'> {
  const { images, channels, positions } = tokenShape(tokens);
  const data = new Float32Array(tokens.data.length);
  const norms = new Float64Array(positions);
  for (let image = 0; image < images; image++) {
    const start = image * channels * positions;
    norms.fill(0);
    for (let c = 0, k = start; c < channels; c++) for (let p = 0; p < positions; p++, k++) norms[p]! += tokens.data[k]! ** 2;
    for (let p = 0; p < positions; p++) norms[p] = Math.max(Math.sqrt(norms[p]!), 1e-12);
    for (let c = 0, k = start; c < channels; c++) for (let p = 0; p < positions; p++, k++) data[k] = tokens.data[k]! / norms[p]!;
  }
  return float32(data, tokens.shape);
}

/**
 * Projection of every token on a vector, not centred (spec §2.2): a = F·v, added up in float64.
 * @param tokens [n, c, h, w]
 * @param vector [c]
 * @returns [n, h·w], row-major
 */
export function projectTokens(tokens: HostTensor<'float32'>, vector: ArrayLike<number>): Float64Array {
  const { images, channels, positions } = tokenShape(tokens);
  if (vector.length !== channels) throw new RangeError(`the principal vector has ${vector.length} channels, the tokens ${channels}`);
  const projections = new Float64Array(images * positions);
  for (let image = 0, k = 0; image < images; image++) {
    const row = image * positions;
    for (let c = 0; c < channels; c++) {
      const weight = vector[c]!;
      for (let p = 0; p < positions; p++, k++) projections[row + p]! += weight * tokens.data[k]!;
    }
  }
  return projections;
}
