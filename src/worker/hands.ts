/** A number of hands that tasks take and give back, first come, first served. */
export class Hands {
  #free: number;
  #waiting: (() => void)[] = [];
  #watching: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Takes a hand, within so many milliseconds. @returns whether there was one */
  take(milliseconds: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false);
    if (this.#free > 0) { this.#free--; return Promise.resolve(true); }
    return new Promise((resolve) => {
      const settle = (got: boolean): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', refuse);
        this.#waiting = this.#waiting.filter((other) => other !== given);
        resolve(got);
      };
      const given = (): void => settle(true), refuse = (): void => settle(false);
      const timer = setTimeout(refuse, milliseconds);
      signal.addEventListener('abort', refuse, { once: true });
      this.#waiting.push(given);
    });
  }

  giveBack(): void {
    const next = this.#waiting[0];
    if (next) { next(); return; }
    this.#free++;
    const watching = this.#watching;
    this.#watching = [];
    for (const wake of watching) wake();
  }

  /** Resolves when a hand is free, which another may then take first; or when the signal aborts. */
  async available(signal: AbortSignal): Promise<void> {
    while (this.#free === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => { signal.removeEventListener('abort', wake); resolve(); };
        signal.addEventListener('abort', wake, { once: true });
        this.#watching.push(wake);
      });
    }
  }
}
