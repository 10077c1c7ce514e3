import type * as tf from '@tensorflow/tfjs';
import type { FeatureNetwork } from '../../nn/backbone.ts';
import { mocov3Predictor, mocov3Projector } from '../../nn/heads.ts';
import { l2Normalize, parametersOf } from '../../nn/layers.ts';
import type { Mode, Weights } from '../../nn/module.ts';
import { isViT } from '../../recipe/backbone.ts';
import type { PretrainingRecipe } from '../../recipe/recipe.ts';
import { mocov3Loss } from '../losses/mocov3.ts';
import { backboneOf } from './backbone.ts';
import type { Method } from './method.ts';

/**
 * MoCo v3 (Chen et al. 2021; moco-v3 `moco/builder.py`) with a ResNet or a Vision Transformer: both views are predicted from each other's
 * momentum keys; negatives are the other keys of the global batch; the predictor has no momentum copy.
 *
 * Between several processes the keys are global and batch norm is local (the official code synchronises the heads').
 * @param backbone another network of the recipe's kind, named by {@link asBackbone}. @default the recipe's
 */
export function mocov3(recipe: PretrainingRecipe, backbone: FeatureNetwork = backboneOf(recipe)): Method {
  const { hidden, output } = recipe.head, transformer = isViT(recipe.backbone);
  const normalize = isViT(recipe.backbone) || recipe.backbone.norm === 'batch';
  const projector = mocov3Projector('projector', backbone.featureSize, hidden, output, { normalize, transformer });
  const predictor = mocov3Predictor('predictor', output, hidden, output, { normalize, transformer });
  const project = (view: tf.Tensor4D, weights: Weights, mode: Mode): tf.Tensor2D => projector.apply(backbone.apply(view, weights, mode), weights, mode);
  return {
    parameters: parametersOf(backbone, projector, predictor),
    keyCount: 2,
    hasMomentum: (name) => !name.startsWith('predictor.'),
    initialMemory: () => ({}),
    keys: (views, momentum) => views.map((view) => l2Normalize(project(view, momentum, { training: true }))),
    loss: ({ views, allKeys, labels, weights: sampleWeights }, weights, _memory, mode) => {
      // The second pass sees the running statistics that the first one left.
      const current = { ...weights };
      const chained: Mode = { training: true, updateBuffer: (name, value) => { current[name] = value; mode.updateBuffer?.(name, value); } };
      const predict = (view: tf.Tensor4D): tf.Tensor2D => predictor.apply(project(view, current, chained), current, chained);
      const first = predict(views[0]), second = predict(views[1]);
      return mocov3Loss({ predictions: [first, second], keys: [allKeys[0]!, allKeys[1]!], labels, weights: sampleWeights, temperature: recipe.temperature });
    },
    remember: () => ({}),
  };
}
