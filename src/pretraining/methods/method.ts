import type * as tf from '@tensorflow/tfjs';
import type { Mode, ParameterSpec, Weights } from '../../nn/module.ts';
import type { PretrainingRecipe } from '../../recipe/recipe.ts';
import type { NamedTensors } from '../../tensor.ts';
import type { Loss } from '../losses/contrast.ts';
import { mocov2 } from './mocov2.ts';
import { mocov3 } from './mocov3.ts';

/** Both augmented and normalised views, [n, h, w, 3]. */
export type Views = readonly [tf.Tensor4D, tf.Tensor4D];

export interface LossInputs {
  readonly views: Views;
  /** This process's keys as {@link Method.keys} returned them, each [n, d]. */
  readonly ownKeys: readonly tf.Tensor2D[];
  /** The same of the global batch, each [N, d]. */
  readonly allKeys: readonly tf.Tensor2D[];
  /** [n] int32: the row of `allKeys` that belongs to each sample. */
  readonly labels: tf.Tensor1D;
  /** [n]: quality weights of the samples. */
  readonly weights: tf.Tensor1D;
}

/**
 * A self-supervised method with a momentum encoder, as functions of tensors; `steps.ts` makes training steps of it for
 * one process or several. Names: `backbone.<torchvision name>`, `projector.…`, `predictor.…`.
 */
export interface Method {
  /** Everything the online network owns, buffers included. */
  readonly parameters: readonly ParameterSpec[];
  /** Number of tensors that {@link Method.keys} returns. */
  readonly keyCount: number;
  /** Whether a parameter has a moving average, kept as `momentum.<name>`. */
  hasMomentum(name: string): boolean;
  /** Memory beside the networks, for example a queue of negatives. */
  initialMemory(seed: number): NamedTensors;
  /** Keys of this process's samples, [n, d] L2-normalised, one tensor for each view that has keys. No gradient. */
  keys(views: Views, momentum: Weights): tf.Tensor2D[];
  loss(inputs: LossInputs, weights: Weights, memory: Weights, mode: Mode): Loss;
  /** New memory after the step. */
  remember(allKeys: readonly tf.Tensor2D[], memory: Weights): Record<string, tf.Tensor>;
}

export function methodOf(recipe: PretrainingRecipe): Method {
  return recipe.method === 'mocov2' ? mocov2(recipe) : mocov3(recipe);
}
