import { Random } from '../random.ts';
import type { NoiseStrategy } from '../recipe/recipe.ts';

/** Levels of the adaptive and of the random strategy, as timesteps of the embedding's noise schedule. */
export const noiseLevels = [0, 100, 200, 300, 400] as const;

/** Share of an image's tokens whose projection is strictly above the threshold (Eq. 7). */
export function foregroundProportion(projections: ArrayLike<number>, threshold: number): number {
  let above = 0;
  for (let k = 0; k < projections.length; k++) if (projections[k]! > threshold) above++;
  return above / projections.length;
}

/**
 * F_ada(p) = 100·min(⌊5p⌋, 4) (Eq. 8): more foreground, more noise. The official tool closes its bins on the right instead; on
 * a grid whose number of tokens is no multiple of 5, for example 16 x 16, no proportion tells the two apart.
 */
export function adaptiveNoiseLevel(proportion: number): number {
  return noiseLevels[Math.min(Math.floor(5 * proportion), 4)]!;
}

/** Noise level of one image. The random strategy depends on the seed and the path only: no sharding changes it. */
export function chooseNoiseLevel(noise: NoiseStrategy, image: { readonly path: string; readonly foregroundProportion: number }, seed: number): number {
  switch (noise.strategy) {
    case 'constant': return noise.level;
    case 'random': return noiseLevels[new Random(seed, 'noise-level', image.path).integer(noiseLevels.length)]!;
    case 'adaptive': return adaptiveNoiseLevel(image.foregroundProportion);
  }
}

/** One image's projections, min-max normalised to 0-255 for display; all 0 when they are equal. */
export function displayMap(projections: ArrayLike<number>): number[] {
  const values = Array.from(projections);
  const low = Math.min(...values), high = Math.max(...values);
  return values.map((value) => high > low ? Math.round(255 * (value - low) / (high - low)) : 0);
}
