/** Time, as the interpreter sees it: injected, so that tests do not sleep. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Rejects with the signal's reason when aborted. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** setTimeout fires at once for longer delays than this. */
const longestTimer = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(milliseconds, signal) {
    for (let left = milliseconds; left > 0; left -= longestTimer) await timer(Math.min(left, longestTimer), signal);
  },
};

function timer(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) { reject(signal.reason as Error); return; }
    const handle = setTimeout(() => { signal?.removeEventListener('abort', stop); resolve(); }, milliseconds);
    const stop = (): void => { clearTimeout(handle); reject(signal!.reason as Error); };
    signal?.addEventListener('abort', stop, { once: true });
  });
}
