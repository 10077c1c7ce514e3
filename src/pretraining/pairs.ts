import type { Image } from '../dataset/image.ts';
import type { DecodedSample } from '../dataset/sampleSource.ts';
import { Random } from '../random.ts';
import type { PretrainingRecipe } from '../recipe/recipe.ts';
import { float32, type HostTensor } from '../tensor.ts';
import { augment } from './augmentation/augment.ts';

/** The images that two views of a sample are cut from. */
export interface PairSources {
  readonly images: readonly [Image, Image];
  /** Which of the two is generated; none in an ordinary pair. */
  readonly generated: 0 | 1 | undefined;
}

/**
 * Chooses the inputs of both views (spec §4.1): with probability `views.probability` one of them, a random one or
 * always the second, is a stored generated view (a uniform choice where there are several); the other is the original.
 * Without a stored view the pair is an ordinary one. The same numbers are drawn whatever the recipe says, and from a
 * stream apart from the augmentations', so that probability 0 gives exactly the plain method's batches.
 */
export function choosePair(sample: DecodedSample, epoch: number, seed: number, views: PretrainingRecipe['views']): PairSources {
  const random = new Random(seed, 'pair', epoch, sample.metadata.path);
  const chosen = random.chance(views.probability), place = random.integer(2) as 0 | 1, which = random.uniform();
  const view = sample.views[Math.floor(which * sample.views.length)];
  if (!chosen || !view) return { images: [sample.original, sample.original], generated: undefined };
  const generated = views.order === 'fixed' ? 1 : place;
  return { images: generated === 0 ? [view, sample.original] : [sample.original, view], generated };
}

/** Both augmented views of each sample, [n, 3, imageSize, imageSize] RGB in [0, 1], not normalised. */
export function makeViews(samples: readonly DecodedSample[], epoch: number, seed: number, recipe: PretrainingRecipe): [HostTensor<'float32'>, HostTensor<'float32'>] {
  const { imageSize } = recipe.augmentation;
  const length = 3 * imageSize * imageSize, shape = [samples.length, 3, imageSize, imageSize];
  const views = [new Float32Array(samples.length * length), new Float32Array(samples.length * length)] as const;
  for (const [i, sample] of samples.entries()) {
    const { images } = choosePair(sample, epoch, seed, recipe.views);
    for (const view of [0, 1] as const) {
      augment(images[view], new Random(seed, 'augment', epoch, sample.metadata.path, view), view, recipe.augmentation, views[view].subarray(i * length, (i + 1) * length));
    }
  }
  return [float32(views[0], shape), float32(views[1], shape)];
}
