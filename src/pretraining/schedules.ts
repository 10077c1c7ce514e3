/** Share of the full learning rate at the very first step (mmpretrain's `start_factor`; 0 would waste a step). */
const warmupStart = 1e-4;

/**
 * Learning rate at a fractional epoch: linear warm-up from 1e-4 of `base`, then half a cosine down to 0 at `epochs`.
 * Evaluated at every step with epoch = step / stepsPerEpoch (spec §6.3, MoCo v3; mmpretrain divides the warm-up by T - 1
 * instead of T steps, which reaches the full rate one step earlier). MoCo v2's own code sets the rate once an epoch;
 * at every step it is the same curve without its stairs.
 */
export function learningRateAt(epoch: number, base: number, { epochs, warmupEpochs }: { epochs: number; warmupEpochs: number }): number {
  if (epoch < warmupEpochs) return base * (warmupStart + (1 - warmupStart) * epoch / warmupEpochs);
  return base * 0.5 * (1 + Math.cos(Math.PI * (epoch - warmupEpochs) / Math.max(epochs - warmupEpochs, Number.EPSILON)));
}

/**
 * Weight of the old value in the momentum encoder's moving average at `step` of `steps`: constant, or
 * 1 - ½(1 + cos(π·step/steps))·(1 - base), which rises to 1 (MoCo v3, BYOL).
 */
export function emaAt(step: number, steps: number, { base, schedule }: { base: number; schedule: 'constant' | 'cosine' }): number {
  return schedule === 'constant' ? base : 1 - 0.5 * (1 + Math.cos(Math.PI * step / steps)) * (1 - base);
}
