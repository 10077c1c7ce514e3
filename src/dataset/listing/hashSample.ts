import { createHash } from 'node:crypto';
import type { ListedImage } from '../../stages/contract.ts';

interface Kept { readonly hash: string; readonly image: ListedImage }

/**
 * A uniform sample without replacement of a stream of unknown length: the `size` images with the smallest hash of
 * (seed, path). It does not depend on how the listing was cut, and changes little when the dataset does.
 */
export class HashSample {
  readonly #size: number;
  readonly #seed: number;
  #kept: Kept[];
  /** Hash of the last one that is in, once there are enough. */
  #limit = '~';

  /** @param kept what `toJSON` of an earlier one gave */
  constructor(size: number, seed: number, kept: readonly Kept[] = []) {
    this.#size = size;
    this.#seed = seed;
    this.#kept = [...kept];
    this.#trim();
  }

  add(image: ListedImage): void {
    const hash = createHash('sha256').update(JSON.stringify([this.#seed, 'sample', image.path])).digest('hex');
    if (hash > this.#limit) return;
    this.#kept.push({ hash, image });
    if (this.#kept.length >= 2 * this.#size) this.#trim();
  }

  #trim(): void {
    this.#kept.sort((a, b) => a.hash < b.hash ? -1 : 1);
    this.#kept.length = Math.min(this.#kept.length, this.#size);
    if (this.#kept.length === this.#size) this.#limit = this.#kept.at(-1)!.hash;
  }

  /** In the order of the listing. */
  images(): ListedImage[] {
    return this.toJSON().map(({ image }) => image).sort((a, b) => a.index - b.index);
  }

  toJSON(): readonly Kept[] {
    this.#trim();
    return this.#kept;
  }
}
