/** Noise schedules of the diffusion literature (diffusers v0.21.4 names). */
export type BetaSchedule = 'squaredcos_cap_v2' | 'scaled_linear' | 'linear';

/** Timesteps of every schedule here. */
export const trainingTimesteps = 1000;

/**
 * β_t for t = 0..999, in float64.
 * - `squaredcos_cap_v2`: 1 - f((t+1)/N)/f(t/N), at most 0.999, f(u) = cos²(((u+0.008)/1.008)·π/2): the embedding's noise (spec §3.2)
 * - `scaled_linear`: square of a line from √0.00085 to √0.012: Stable Diffusion's sampler (spec §3.4)
 * - `linear`: a line from 0.0001 to 0.02 (DDPM)
 */
export function betas(schedule: BetaSchedule): Float64Array {
  const last = trainingTimesteps - 1;
  const line = (from: number, to: number) => (t: number): number => from + (to - from) * t / last;
  switch (schedule) {
    case 'squaredcos_cap_v2': {
      const f = (u: number): number => Math.cos((u + 0.008) / 1.008 * Math.PI / 2) ** 2;
      return fill((t) => Math.min(1 - f((t + 1) / trainingTimesteps) / f(t / trainingTimesteps), 0.999));
    }
    case 'scaled_linear': {
      const root = line(Math.sqrt(0.00085), Math.sqrt(0.012));
      return fill((t) => root(t) ** 2);
    }
    case 'linear': return fill(line(0.0001, 0.02));
  }
}

/** ᾱ_t = Π_{s<=t} (1 - β_s) for t = 0..999, in float64. */
export function cumulativeAlphas(schedule: BetaSchedule): Float64Array {
  let product = 1;
  return betas(schedule).map((beta) => product *= 1 - beta);
}

function fill(value: (t: number) => number): Float64Array {
  return Float64Array.from({ length: trainingTimesteps }, (_, t) => value(t));
}
