import * as tf from '@tensorflow/tfjs';
import { mocov2Projector } from '../../nn/heads.ts';
import { l2Normalize, parametersOf } from '../../nn/layers.ts';
import type { Mode, Weights } from '../../nn/module.ts';
import { Random } from '../../random.ts';
import type { PretrainingRecipe } from '../../recipe/recipe.ts';
import { float32 } from '../../tensor.ts';
import { mocov2Loss } from '../losses/mocov2.ts';
import { backboneOf } from './backbone.ts';
import type { Method } from './method.ts';

/**
 * MoCo v2 (Chen et al. 2020; `moco/builder.py`): the first view is the query, the second the key from the momentum
 * encoder, negatives come from a queue of earlier keys.
 *
 * The queue is [K, d], oldest first; a step drops the oldest global batch and appends its own keys, after the loss. The
 * original shuffles samples among GPUs before the keys' batch norm, so that a query and its key never share statistics;
 * on one device that changes nothing, and between several processes it is not done here: each normalises its own part.
 */
export function mocov2(recipe: PretrainingRecipe): Method {
  const backbone = backboneOf(recipe);
  const projector = mocov2Projector('projector', backbone.featureSize, recipe.head.hidden, recipe.head.output);
  const embed = (view: tf.Tensor4D, weights: Weights, mode: Mode): tf.Tensor2D =>
    l2Normalize(projector.apply(backbone.apply(view, weights, mode), weights, mode));
  return {
    parameters: parametersOf(backbone, projector),
    keyCount: 1,
    hasMomentum: () => true,
    initialMemory: (seed) => ({ queue: unitRows(new Random(seed, 'initialize', 'queue'), recipe.queue, recipe.head.output) }),
    keys: (views, momentum) => [embed(views[1], momentum, { training: true })],
    loss: ({ views, ownKeys, weights: sampleWeights }, weights, memory, mode) => mocov2Loss({
      queries: embed(views[0], weights, mode), keys: ownKeys[0]!, queue: memory['queue']!, weights: sampleWeights, temperature: recipe.temperature,
    }),
    remember: ([keys], memory) => {
      const count = Math.min(keys!.shape[0], recipe.queue);
      const kept = tf.slice(memory['queue'] as tf.Tensor2D, [count, 0], [recipe.queue - count, -1]);
      const added = tf.slice(keys!, [keys!.shape[0] - count, 0], [count, -1]);
      return { queue: count === recipe.queue ? added : tf.concat([kept, added], 0) };
    },
  };
}

/** [rows, columns] of N(0, 1), rows scaled to length 1. */
function unitRows(random: Random, rows: number, columns: number) {
  const values = random.normals(rows * columns);
  for (let row = 0; row < rows; row++) {
    const part = values.subarray(row * columns, (row + 1) * columns);
    const norm = Math.hypot(...part);
    for (let i = 0; i < columns; i++) part[i]! /= norm;
  }
  return float32(values, [rows, columns]);
}
