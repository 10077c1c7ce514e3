import * as tf from '@tensorflow/tfjs';
import { l2Normalize } from '../nn/layers.ts';
import type { EvaluationRecipe } from '../recipe/recipe.ts';
import { compile } from '../runtime/compile.ts';
import { float32 } from '../tensor.ts';
import type { LabelledFeatures } from './labelled.ts';
import { accuracyOf, type Accuracy } from './metrics.ts';

export interface NearestNeighboursOptions {
  /** `k` beyond the number of training images is all of them. */
  readonly recipe: EvaluationRecipe['knn'];
  readonly classes: number;
  readonly threads: number;
  readonly signal: AbortSignal;
  /** Called as validation images are done. */
  readonly onProgress?: (images: number) => void;
}

/** Validation images and training images compared in one matrix product. */
const queryRows = 256, bankRows = 8192;

/**
 * Weighted k-nearest-neighbour classification (Wu et al. 2018, InstDisc, §3.4): the k training images of largest cosine
 * similarity s vote for their class with weight exp(s / temperature). Of equally similar images the earlier one counts.
 * A class without a vote is never right.
 */
export async function classifyByNeighbours(training: LabelledFeatures, validation: LabelledFeatures, options: NearestNeighboursOptions): Promise<Accuracy> {
  const { classes, recipe: { temperature } } = options;
  const { size } = training, count = training.labels.length, queries = validation.labels.length;
  const k = Math.min(options.recipe.k, count);
  const shapes = { query: [Math.min(queryRows, queries), size], bank: [Math.min(bankRows, count), size] };
  const program = await compile(({ query, bank }) => ({ similarity: tf.matMul(l2Normalize(query!), l2Normalize(bank!), false, true) }),
    { query: { shape: shapes.query }, bank: { shape: shapes.bank } }, { threads: options.threads, name: 'nearest neighbours' });
  const votes = new Float64Array(queries * classes).fill(-Infinity);
  try {
    const [rows, columns] = [shapes.query[0]!, shapes.bank[0]!];
    for (let first = 0; first < queries; first += rows) {
      const here = Math.min(rows, queries - first);
      const nearest = Array.from({ length: here }, () => new Nearest(k));
      for (let start = 0; start < count; start += columns) {
        options.signal.throwIfAborted();
        const { similarity } = await program.run({ query: block(validation.features, first, rows, size), bank: block(training.features, start, columns, size) });
        const values = similarity!.data as Float32Array, width = Math.min(columns, count - start);
        for (let row = 0; row < here; row++) {
          for (let column = 0; column < width; column++) nearest[row]!.offer(values[row * columns + column]!, start + column);
        }
      }
      for (const [row, { similarities, indices }] of nearest.entries()) {
        for (let i = 0; i < k; i++) {
          const at = (first + row) * classes + training.labels[indices[i]!]!;
          votes[at] = Math.max(votes[at]!, 0) + Math.exp(similarities[i]! / temperature);
        }
      }
      options.onProgress?.(here);
    }
  } finally {
    await program.dispose();
  }
  return accuracyOf(votes, validation.labels, classes);
}

/** `rows` rows from row `start` on, filled up with zeros. */
function block(features: Float32Array, start: number, rows: number, size: number): ReturnType<typeof float32> {
  const part = features.subarray(start * size, (start + rows) * size);
  if (part.length === rows * size) return float32(part, [rows, size]);
  const padded = new Float32Array(rows * size);
  padded.set(part);
  return float32(padded, [rows, size]);
}

/** The k largest of the values offered, in descending order; of equal ones those offered first. */
class Nearest {
  readonly similarities: Float64Array;
  readonly indices: Int32Array;
  #count = 0;

  constructor(k: number) {
    this.similarities = new Float64Array(k).fill(-Infinity);
    this.indices = new Int32Array(k);
  }

  offer(similarity: number, index: number): void {
    const last = this.similarities.length - 1;
    if (this.#count > last && !(similarity > this.similarities[last]!)) return;
    let i = Math.min(this.#count, last);
    for (; i > 0 && similarity > this.similarities[i - 1]!; i--) {
      this.similarities[i] = this.similarities[i - 1]!;
      this.indices[i] = this.indices[i - 1]!;
    }
    this.similarities[i] = similarity;
    this.indices[i] = index;
    if (this.#count <= last) this.#count++;
  }
}
