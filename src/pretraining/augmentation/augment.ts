import type { Image } from '../../dataset/image.ts';
import type { Random } from '../../random.ts';
import type { AugmentationRecipe } from '../../recipe/recipe.ts';
import { applyPhotometric, drawPhotometric } from './photometric.ts';
import { randomResizedCrop } from './randomResizedCrop.ts';

/**
 * One augmented view (spec §4.5, order of the MoCo recipes): random resized crop, colour jitter, grayscale, blur,
 * solarize, horizontal flip. Writes planar RGB in [0, 1] to `out`, [3, imageSize, imageSize] flattened; normalisation
 * is left to the training step because the quality scorer looks at the same pixels.
 *
 * @param view 0 or 1: which of the recipe's blur and solarize probabilities applies
 */
export function augment(image: Image, random: Random, view: 0 | 1, recipe: AugmentationRecipe, out: Float32Array): void {
  const size = recipe.imageSize, area = size * size;
  const crop = randomResizedCrop(image, random, { size, minScale: recipe.minScale }).data;
  for (let i = 0, p = 0; i < area; i++, p += 3) {
    out[i] = crop[p]! / 255; out[area + i] = crop[p + 1]! / 255; out[2 * area + i] = crop[p + 2]! / 255;
  }
  applyPhotometric(out, size, drawPhotometric(random, view, recipe));
}
