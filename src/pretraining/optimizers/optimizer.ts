import type * as tf from '@tensorflow/tfjs';
import type { OptimizerRecipe } from '../../recipe/recipe.ts';
import { adamw } from './adamw.ts';
import { lars } from './lars.ts';
import { sgd } from './sgd.ts';

/** New values of a parameter and of its momentum buffer. */
export interface Updated {
  readonly parameter: tf.Tensor;
  readonly buffer: tf.Tensor;
}

/** A first-order optimizer. */
export interface Optimizer {
  /** One tensor of the parameter's shape, zero at the start, is kept as `optimizer.<parameter><suffix>` for each. */
  readonly suffixes: readonly string[];
  /** Whether the number of updates so far is kept, as scalar `optimizer.step`. */
  readonly counts: boolean;
  /** @param step number of this update, from 1; undefined where updates are not counted */
  update(name: string, parameter: tf.Tensor, gradient: tf.Tensor, kept: readonly tf.Tensor[], learningRate: tf.Tensor, step: tf.Tensor | undefined): { parameter: tf.Tensor; kept: readonly tf.Tensor[] };
}

/** A rule that keeps momentum only. */
const withMomentum = (rule: (name: string, parameter: tf.Tensor, gradient: tf.Tensor, buffer: tf.Tensor, learningRate: tf.Tensor) => Updated): Optimizer => ({
  suffixes: [''],
  counts: false,
  update(name, parameter, gradient, kept, learningRate) {
    const next = rule(name, parameter, gradient, kept[0]!, learningRate);
    return { parameter: next.parameter, kept: [next.buffer] };
  },
});

export function optimizerOf(recipe: OptimizerRecipe): Optimizer {
  switch (recipe.name) {
    case 'sgd': return withMomentum((_name, parameter, gradient, buffer, learningRate) => sgd(parameter, gradient, buffer, learningRate, recipe));
    case 'lars': return withMomentum((name, parameter, gradient, buffer, learningRate) => lars(name, parameter, gradient, buffer, learningRate, recipe));
    case 'adamw': return {
      suffixes: ['.mean', '.square'],
      counts: true,
      update(_name, parameter, gradient, kept, learningRate, step) {
        const next = adamw(parameter, gradient, kept[0]!, kept[1]!, step!, learningRate, recipe);
        return { parameter: next.parameter, kept: [next.mean, next.square] };
      },
    };
  }
}
