import type { Random } from '../../random.ts';
import type { AugmentationRecipe } from '../../recipe/recipe.ts';
import { colourJitter, drawColourJitter, grayscale, solarize, type ColourJitter } from './colour.ts';
import { flipHorizontal } from './flip.ts';
import { gaussianBlur } from './gaussianBlur.ts';

/** What is done to one crop, drawn before any pixel is touched: the same draw gives the same view here and in the compiled program. */
export interface PhotometricDraw {
  readonly jitter?: ColourJitter;
  readonly grayscale: boolean;
  /** Standard deviation of the blur in pixels; absent without blur. */
  readonly blurRadius?: number;
  readonly solarize: boolean;
  readonly flip: boolean;
}

/** @param view 0 or 1: which of the recipe's blur and solarize probabilities applies */
export function drawPhotometric(random: Random, view: 0 | 1, recipe: AugmentationRecipe): PhotometricDraw {
  const jitter = random.chance(recipe.jitterProbability) ? { jitter: drawColourJitter(random, recipe.jitter) } : {};
  const gray = random.chance(recipe.grayscaleProbability);
  const blur = random.chance(recipe.blurProbability[view]) ? { blurRadius: random.uniform(0.1, 2) } : {};
  return { ...jitter, grayscale: gray, ...blur, solarize: random.chance(recipe.solarizeProbability[view]), flip: random.chance(recipe.flipProbability) };
}

/** Changes [3, size, size] planar pixels in [0, 1] in place. */
export function applyPhotometric(pixels: Float32Array, size: number, draw: PhotometricDraw): void {
  if (draw.jitter) colourJitter(pixels, draw.jitter);
  if (draw.grayscale) grayscale(pixels);
  if (draw.blurRadius !== undefined) gaussianBlur(pixels, size, draw.blurRadius);
  if (draw.solarize) solarize(pixels);
  if (draw.flip) flipHorizontal(pixels, size);
}
