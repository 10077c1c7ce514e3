import { describe, expect, it } from 'vitest';
import { retryStrategy, waitBefore } from '../../src/storage/s3Retry.ts';

const unreachable = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
const slowDown = Object.assign(new Error('slow'), { name: 'SlowDown', $metadata: { httpStatusCode: 503 } });

/** Fails for ever, on a clock of its own; gives the waits in milliseconds. */
async function waits(options: { patience?: number; firstPatience?: number; random?: () => number }, errorType: 'TRANSIENT' | 'THROTTLING' | 'CLIENT_ERROR' | 'SERVER_ERROR', error: Error, answeredBefore = false): Promise<number[]> {
  let now = 0;
  const strategy = retryStrategy({ clock: () => now, random: () => 1 - 2 ** -20, ...options });
  let token = await strategy.acquireInitialRetryToken('');
  if (answeredBefore) strategy.recordSuccess(token);
  const delays: number[] = [];
  for (;;) {
    try { token = await strategy.refreshRetryTokenForRetry(token, { errorType, error: error as never }); } catch { return delays; }
    expect(token.getRetryCount()).toBe(delays.length + 1);
    delays.push(Math.round(token.getRetryDelay()));
    now += token.getRetryDelay();
  }
}

describe('retries of requests to S3', () => {
  it('wait twice as long each time, up to ten seconds, until two minutes are over', async () => {
    const delays = await waits({}, 'TRANSIENT', unreachable, true);
    expect(delays.slice(0, 9)).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    expect(delays.reduce((a, b) => a + b)).toBe(120_000);
    expect(delays).toHaveLength(18);
  });

  it('begin slower when the server asks to slow down', async () => {
    expect((await waits({}, 'THROTTLING', slowDown)).slice(0, 4)).toEqual([500, 1000, 2000, 4000]);
  });

  it('are few while no server has ever answered', async () => {
    expect((await waits({}, 'TRANSIENT', unreachable)).reduce((a, b) => a + b)).toBe(8000);
    expect((await waits({}, 'TRANSIENT', slowDown)).reduce((a, b) => a + b)).toBe(120_000);
    expect((await waits({ patience: 3 }, 'TRANSIENT', unreachable)).reduce((a, b) => a + b)).toBe(3000);
    expect((await waits({ firstPatience: Infinity }, 'TRANSIENT', unreachable)).reduce((a, b) => a + b)).toBe(120_000);
  });

  it('are not made where they would not help', async () => {
    expect(await waits({}, 'CLIENT_ERROR', new Error('no'))).toEqual([]);
    expect(await waits({}, 'SERVER_ERROR', new Error('not implemented'))).toEqual([]);
  });

  it('are spread over the whole wait', () => {
    const all = Array.from({ length: 1000 }, () => waitBefore(3));
    const mean = all.reduce((a, b) => a + b) / all.length;
    expect([Math.min(...all) >= 0, Math.max(...all) <= 800]).toEqual([true, true]);
    // Uniform in 0 ... 800: the mean of 1,000 has a standard deviation of 7.3.
    expect(Math.abs(mean - 400)).toBeLessThan(45);
  });
});
