import { samplerSchedule, zerosLike, type Sampler, type SamplerOptions, type Values } from './sampler.ts';

/** Adams-Bashforth weights of the newest, second newest, … prediction, by the number of predictions at hand. */
const multistepWeights = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
] as const;

/**
 * PNDM's linear multistep part (PLMS; Liu et al., 2022) as diffusers v0.21.4 runs it for Stable unCLIP: skip_prk_steps, steps_offset 1,
 * set_alpha_to_one false, v-prediction turned into ε after the multistep mix (spec §3.4). The second step is taken
 * twice, so `steps` steps make `steps + 1` network calls (one when `steps` is 1).
 */
export function createPndm(options: SamplerOptions): Sampler {
  const { alphas, stride, ascending } = samplerSchedule(options);
  /** Newest last, at most four. */
  const predictions: Values[] = [];
  let calls = 0;
  let firstSample: Values | undefined;
  return {
    timesteps: [...ascending.slice(0, -1), ...ascending.slice(-2, -1), ...ascending.slice(-1)].toReversed(),
    step<T extends Values>(velocity: T, timestep: number, sample: T): T {
      let from = timestep, to = timestep - stride, start: Values = sample, mixed: Values;
      if (calls === 1) {
        // The second call repeats the first step with the average of both predictions.
        from = timestep + stride;
        to = timestep;
        start = firstSample!;
        mixed = combine(zerosLike(velocity), [velocity, predictions[0]!], [0.5, 0.5]);
      } else {
        if (predictions.length === 4) predictions.shift();
        predictions.push(velocity);
        if (calls === 0) firstSample = sample;
        mixed = combine(zerosLike(velocity), predictions.toReversed(), multistepWeights[predictions.length - 1]!);
      }
      calls++;
      return transfer(zerosLike(sample), start, alphas[from]!, alphas[to >= 0 ? to : 0]!, mixed);
    },
  };
}

function combine<T extends Values>(out: T, terms: readonly Values[], weights: readonly number[]): T {
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (let k = 0; k < terms.length; k++) sum += weights[k]! * terms[k]![i]!;
    out[i] = sum;
  }
  return out;
}

/** From ᾱ = a to ᾱ = b along the predicted noise (Eq. 9 of the PNDM paper). */
function transfer<T extends Values>(out: T, sample: Values, a: number, b: number, velocity: Values): T {
  const scale = Math.sqrt(b / a), weight = (b - a) / (a * Math.sqrt(1 - b) + Math.sqrt(a * (1 - a) * b));
  for (let i = 0; i < out.length; i++) {
    const noise = Math.sqrt(a) * velocity[i]! + Math.sqrt(1 - a) * sample[i]!;
    out[i] = scale * sample[i]! - weight * noise;
  }
  return out;
}
