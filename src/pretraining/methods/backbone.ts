import type * as tf from '@tensorflow/tfjs';
import { scoped, type Module } from '../../nn/module.ts';
import { resnet, resnetConfig } from '../../nn/resnet.ts';
import type { BackboneRecipe } from '../../recipe/recipe.ts';

/** The recipe's backbone under the prefix `backbone.`. */
export function backboneOf(recipe: BackboneRecipe): Module<tf.Tensor4D, tf.Tensor2D> & { featureSize: number } {
  const network = resnet(resnetConfig(recipe));
  return {
    featureSize: network.featureSize,
    parameters: network.parameters.map((p) => ({ ...p, name: `backbone.${p.name}` })),
    apply: (x, weights, mode) => network.apply(x, scoped(weights, 'backbone.'), {
      training: mode.training,
      ...(mode.updateBuffer && { updateBuffer: (name: string, value: tf.Tensor) => mode.updateBuffer!(`backbone.${name}`, value) }),
    }),
  };
}
