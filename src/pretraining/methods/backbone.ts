import type * as tf from '@tensorflow/tfjs';
import { backboneNetwork, type FeatureNetwork } from '../../nn/backbone.ts';
import { scoped } from '../../nn/module.ts';
import type { PretrainingRecipe } from '../../recipe/recipe.ts';

/** The recipe's backbone under the prefix `backbone.`. */
export function backboneOf({ backbone, augmentation }: PretrainingRecipe): FeatureNetwork {
  return asBackbone(backboneNetwork(backbone, augmentation.imageSize, { frozenPatches: true }));
}

/** A network under the prefix `backbone.`. */
export function asBackbone(network: FeatureNetwork): FeatureNetwork {
  return {
    featureSize: network.featureSize,
    parameters: network.parameters.map((p) => ({ ...p, name: `backbone.${p.name}` })),
    apply: (x, weights, mode) => network.apply(x, scoped(weights, 'backbone.'), {
      training: mode.training,
      ...(mode.updateBuffer && { updateBuffer: (name: string, value: tf.Tensor) => mode.updateBuffer!(`backbone.${name}`, value) }),
    }),
  };
}
