import { GenViewError } from '../errors.ts';
import { cumulativeAlphas, trainingTimesteps, type BetaSchedule } from './schedules.ts';
import { createDdim } from './ddim.ts';
import { createPndm } from './pndm.ts';

export type Values = Float32Array | Float64Array;

/** One pass of a sampler over one batch: it may keep state between steps, so every batch needs a new one. */
export interface Sampler {
  /** The network's calls, in order; some timesteps may come twice. */
  readonly timesteps: readonly number[];
  /**
   * The next state from this one, as a new array. Call once for each entry of `timesteps`, in order.
   * @param velocity v-prediction of the network at (sample, timestep), guidance applied
   */
  step<T extends Values>(velocity: T, timestep: number, sample: T): T;
}

export interface SamplerOptions {
  /** Denoising steps, 1 to 999. */
  readonly steps: number;
  /** @default 'scaled_linear' */
  readonly betas?: BetaSchedule;
}

/** The samplers of a recipe's `generation.scheduler`. */
export function createSampler(name: 'pndm' | 'ddim', options: SamplerOptions): Sampler {
  return name === 'pndm' ? createPndm(options) : createDdim(options);
}

/** What both samplers share: ᾱ, and the "leading" timesteps with offset 1, ascending: 1, 1 + r, …; r = ⌊1000/steps⌋. */
export function samplerSchedule(options: SamplerOptions): { alphas: Float64Array; stride: number; ascending: number[] } {
  const { steps } = options;
  if (!Number.isInteger(steps) || steps < 1 || steps >= trainingTimesteps) {
    throw new GenViewError('RecipeInvalid', `generation.steps is ${steps}; it must be a whole number from 1 to ${trainingTimesteps - 1}`);
  }
  const stride = Math.floor(trainingTimesteps / steps);
  return {
    alphas: cumulativeAlphas(options.betas ?? 'scaled_linear'), stride,
    ascending: Array.from({ length: steps }, (_, i) => i * stride + 1),
  };
}

/** A zero-filled array of the same type and length. */
export function zerosLike<T extends Values>(values: T): T {
  return new (values.constructor as new (length: number) => T)(values.length);
}
