import type { Retrier } from './definition.ts';
import { matchesError } from './errors.ts';

/**
 * The Retry field of one visit to a state. Each retrier counts its own attempts, and the first one that names the error
 * decides: when its attempts are used up the error goes to Catch, whatever later retriers say.
 */
export class RetryPolicy {
  readonly #retriers: readonly Retrier[];
  readonly #used: number[];
  readonly #random: () => number;

  /** `random`: uniform in [0, 1), for `JitterStrategy: FULL`. */
  constructor(retriers: readonly Retrier[] | undefined, random: () => number) {
    this.#retriers = retriers ?? [];
    this.#used = this.#retriers.map(() => 0);
    this.#random = random;
  }

  /** Seconds to wait before the next attempt; undefined when there is none. */
  next(error: string): number | undefined {
    const index = this.#retriers.findIndex((retrier) => matchesError(retrier.ErrorEquals, error));
    const retrier = this.#retriers[index];
    if (retrier === undefined) return undefined;
    const used = this.#used[index]!;
    if (used >= (retrier.MaxAttempts ?? 3)) return undefined;
    this.#used[index] = used + 1;
    const delay = Math.min((retrier.IntervalSeconds ?? 1) * (retrier.BackoffRate ?? 2) ** used, retrier.MaxDelaySeconds ?? Infinity);
    return retrier.JitterStrategy === 'FULL' ? delay * this.#random() : delay;
  }
}
