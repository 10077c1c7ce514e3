import { samplerSchedule, zerosLike, type Sampler, type SamplerOptions, type Values } from './sampler.ts';

/**
 * DDIM (Song et al., 2021) with η = 0 and v-prediction, configured as the unCLIP sampler: steps_offset 1, set_alpha_to_one false, no
 * clipping (spec §3.4). `steps` network calls.
 */
export function createDdim(options: SamplerOptions): Sampler {
  const { alphas, stride, ascending } = samplerSchedule(options);
  return {
    timesteps: ascending.toReversed(),
    step<T extends Values>(velocity: T, timestep: number, sample: T): T {
      const previous = timestep - stride;
      const a = alphas[timestep]!, b = alphas[previous >= 0 ? previous : 0]!;
      const next = zerosLike(sample);
      for (let i = 0; i < next.length; i++) {
        const clean = Math.sqrt(a) * sample[i]! - Math.sqrt(1 - a) * velocity[i]!;
        const noise = Math.sqrt(a) * velocity[i]! + Math.sqrt(1 - a) * sample[i]!;
        next[i] = Math.sqrt(b) * clean + Math.sqrt(1 - b) * noise;
      }
      return next;
    },
  };
}
