import type { S3ClientConfig } from '@aws-sdk/client-s3';

/** The SDK's interface of a retry strategy, by the name of the option that takes one. */
type RetryStrategy = Extract<NonNullable<S3ClientConfig['retryStrategy']>, { acquireInitialRetryToken: unknown }>;
type RetryToken = Awaited<ReturnType<RetryStrategy['acquireInitialRetryToken']>>;

export interface RetryOptions {
  /** Seconds from the first failure of a request in which it is tried again. @default 120 */
  readonly patience?: number;
  /** The same while no server has ever answered: the address is more likely wrong than the server down. @default 8 */
  readonly firstPatience?: number;
  /** Milliseconds. @default performance.now */
  readonly clock?: () => number;
  /** Uniform in [0, 1). @default Math.random */
  readonly random?: () => number;
}

/** Milliseconds; the n-th wait is uniform between 0 and base * 2^n, so that processes that failed together do not return together. */
const backoff = { failure: 100, throttling: 500, most: 10_000 } as const;

interface Token extends RetryToken {
  readonly since: number | undefined;
}

/**
 * Repeats what may go better the next time (5xx, SlowDown and other throttling, lost and silent connections) until the
 * patience is over, with exponential back-off and full jitter. Bounded by time instead of attempts, since what there
 * is to survive has a duration: the restart of a server, a partition's splitting under load, an interrupted network.
 */
export function retryStrategy(options: RetryOptions = {}): RetryStrategy {
  const { patience = 120, firstPatience = 8, clock = () => performance.now(), random = Math.random } = options;
  let answered = false;
  const token = (retries: number, delay: number, since?: number): Token => ({ since, getRetryCount: () => retries, getRetryDelay: () => delay });
  return {
    async acquireInitialRetryToken() { return token(0, 0); },
    async refreshRetryTokenForRetry(before, { errorType, error, retryAfterHint }) {
      answered ||= (error as { $metadata?: { httpStatusCode?: number } } | undefined)?.$metadata?.httpStatusCode !== undefined;
      if (errorType !== 'TRANSIENT' && errorType !== 'THROTTLING') throw new Error('not worth a retry');
      const now = clock(), since = (before as Token).since ?? now, retries = before.getRetryCount();
      const left = (answered ? patience : Math.min(firstPatience, patience)) * 1000 - (now - since);
      if (left <= 0) throw new Error('out of patience');
      const base = errorType === 'THROTTLING' ? backoff.throttling : backoff.failure;
      const asked = retryAfterHint ? Math.min(backoff.most, retryAfterHint.getTime() - Date.now()) : 0;
      return token(retries + 1, Math.min(left, Math.max(asked, waitBefore(retries, base, random))), since);
    },
    recordSuccess() { answered = true; },
  };
}

/** Milliseconds before retry number `retries` (from 0). */
export function waitBefore(retries: number, base: number = backoff.failure, random: () => number = Math.random): number {
  return random() * Math.min(backoff.most, base * 2 ** retries);
}
