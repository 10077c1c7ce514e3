import type * as tf from '@tensorflow/tfjs';
import { isViT } from '../recipe/backbone.ts';
import type { BackboneRecipe } from '../recipe/recipe.ts';
import type { Module } from './module.ts';
import { resnet, resnetConfig } from './resnet.ts';
import { vit, vitSizes } from './vit.ts';

/** [n, imageSize, imageSize, 3] normalised pixels -> [n, featureSize] features. */
export interface FeatureNetwork extends Module<tf.Tensor4D, tf.Tensor2D> {
  /** Width of the features. */
  readonly featureSize: number;
}

/**
 * The network that a recipe names. Vision Transformers are moco-v3's: 12 heads, fixed sin-cos positions.
 * @param options.frozenPatches moco-v3's `stop_grad_conv1`, for pretraining: the patch projection stays as it is; of no meaning to a ResNet
 */
export function backboneNetwork(recipe: BackboneRecipe, imageSize: number, options: { frozenPatches: boolean }): FeatureNetwork {
  if (!isViT(recipe)) return resnet(resnetConfig(recipe));
  const size = vitSizes[recipe.name === 'vit-small' ? 'small-mocov3' : 'base'];
  return vit({ imageSize, ...size, patch: recipe.patch, positions: 'sincos', frozenPatches: options.frozenPatches });
}
