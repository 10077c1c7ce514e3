import type { Clock } from '../../src/workflow/asl/clock.ts';

/** Time that jumps to the next sleeper as soon as nothing else can run. */
export class VirtualClock implements Clock {
  #now = Date.parse('2026-01-01T00:00:00Z');
  #sleepers: { at: number; wake: () => void }[] = [];
  #scheduled = false;
  /** Milliseconds of every sleep that was asked for, in order. */
  readonly sleeps: number[] = [];

  now(): number {
    return this.#now;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    this.sleeps.push(milliseconds);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) { reject(signal.reason as Error); return; }
      const stop = (): void => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal!.reason as Error);
      };
      const sleeper = { at: this.#now + milliseconds, wake: (): void => { signal?.removeEventListener('abort', stop); resolve(); } };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', stop, { once: true });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // A few turns of the event loop let every runnable continuation go first.
    let turns = 5;
    const turn = (): void => {
      if (--turns > 0) { setImmediate(turn); return; }
      this.#scheduled = false;
      const next = this.#sleepers.toSorted((a, b) => a.at - b.at)[0];
      if (!next) return;
      this.#sleepers = this.#sleepers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.wake();
      if (this.#sleepers.length > 0) this.#schedule();
    };
    setImmediate(turn);
  }
}
