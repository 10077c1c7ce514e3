import { createHash } from 'node:crypto';

/**
 * A repeatable stream of random numbers (sfc32), keyed by any values: the same keys give the same stream on every
 * machine and in every process, so that work can be split over shards without changing a byte.
 *
 * @example new Random(recipe.seed, 'view', 'train/cat/1.png').normal()
 */
export class Random {
  #a: number; #b: number; #c: number; #d: number;
  #spare: number | undefined;

  constructor(...keys: readonly (string | number)[]) {
    const digest = createHash('sha256').update(JSON.stringify(keys)).digest();
    this.#a = digest.readInt32LE(0); this.#b = digest.readInt32LE(4); this.#c = digest.readInt32LE(8); this.#d = 1;
    for (let i = 0; i < 12; i++) this.#next();
  }

  #next(): number {
    const t = (((this.#a + this.#b) | 0) + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t | 0;
    return t >>> 0;
  }

  /** Uniform in [low, high), 32 random bits. @default low 0, high 1 */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.#next() / 4294967296);
  }

  /** Uniform integer in [0, n). */
  integer(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** True with the given probability (`rand < p`). */
  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  /** Standard normal (Box-Muller, both values used). */
  normal(): number {
    if (this.#spare !== undefined) { const spare = this.#spare; this.#spare = undefined; return spare; }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** `n` standard normal values. */
  normals(n: number): Float32Array {
    const values = new Float32Array(n);
    for (let i = 0; i < n; i++) values[i] = this.normal();
    return values;
  }

  /** A new array with the items in random order (Fisher-Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [result[i], result[j]] = [result[j]!, result[i]!];
    }
    return result;
  }
}
