/** A number of cores that jobs take and give back, first come, first served. */
export class Slots {
  readonly total: number;
  #free: number;
  #waiting: { count: number; start: () => void }[] = [];

  constructor(total: number) {
    this.total = total;
    this.#free = total;
  }

  /** Resolves to a function that gives the slots back. More than there are counts as all. Rejects with the signal's reason. */
  take(count: number, signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) { reject(signal.reason as Error); return; }
      const wanted = Math.min(count, this.total);
      const leave = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== entry);
        reject(signal.reason as Error);
        this.#serve();
      };
      const entry = {
        count: wanted,
        start: (): void => {
          signal.removeEventListener('abort', leave);
          let given = false;
          resolve(() => {
            if (given) return;
            given = true;
            this.#free += wanted;
            this.#serve();
          });
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(entry);
      this.#serve();
    });
  }

  /** Strictly in order: a large job is never overtaken for ever by small ones. */
  #serve(): void {
    for (let first = this.#waiting[0]; first && first.count <= this.#free; first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= first.count;
      first.start();
    }
  }
}
