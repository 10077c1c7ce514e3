import type * as tf from '@tensorflow/tfjs';
import type { OptimizerRecipe } from '../../recipe/recipe.ts';
import { lars } from './lars.ts';
import { sgd } from './sgd.ts';

/** New values of a parameter and of its momentum buffer. */
export interface Updated {
  readonly parameter: tf.Tensor;
  readonly buffer: tf.Tensor;
}

/** A first-order rule with one buffer of the parameter's shape, zero at the start. */
export type UpdateRule = (name: string, parameter: tf.Tensor, gradient: tf.Tensor, buffer: tf.Tensor, learningRate: tf.Tensor) => Updated;

export function optimizerOf(recipe: OptimizerRecipe): UpdateRule {
  return recipe.name === 'sgd'
    ? (_name, parameter, gradient, buffer, learningRate) => sgd(parameter, gradient, buffer, learningRate, recipe)
    : (name, parameter, gradient, buffer, learningRate) => lars(name, parameter, gradient, buffer, learningRate, recipe);
}
