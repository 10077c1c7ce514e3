import type * as tf from '@tensorflow/tfjs';
import { expect } from 'vitest';
import type { Loss } from '../../../src/pretraining/losses/contrast.ts';
import { compile } from '../../../src/runtime/compile.ts';
import { float32, type NamedTensors } from '../../../src/tensor.ts';
import { reference } from '../../compiler/agreement.ts';

/** The inputs of the golden numbers (spec §12.6). */
const given: NamedTensors = {
  p1: float32([1, 2, 0.5, -1], [2, 2]), p2: float32([2, 1, 1, -3], [2, 2]), k1: float32([1, 1, 1, -1], [2, 2]), k2: float32([0, 1, 2, -1], [2, 2]),
  ones: float32([1, 1], [2]), weights: float32([1.5, 0.5], [2]),
  scores: float32([0.9, 0.1, -0.2, 0.8, 0.3, 0.5], [2, 3]), others: float32([0.7, 0.2, 0, 0.1, 0.6, 0.4], [2, 3]),
};
type Step = (x: Record<string, tf.Tensor>) => Record<string, tf.Tensor>;

/** What a step gives eagerly and compiled; both must be the golden numbers. */
export async function everyWay(step: Step): Promise<NamedTensors[]> {
  const program = await compile(step, Object.fromEntries(Object.entries(given).map(([name, { shape }]) => [name, { shape }])), { threads: 1 });
  const compiled = await program.run(given);
  await program.dispose();
  return [reference(step, given), compiled];
}

export const close = (actual: ArrayLike<number>, expected: readonly number[], digits = 6): void => { expected.forEach((value, i) => expect(actual[i]).toBeCloseTo(value, digits)); };
export const parts = ({ perSample, loss, accuracy }: Loss): Record<string, tf.Tensor> => ({ perSample, loss, accuracy });
