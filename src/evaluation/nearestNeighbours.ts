import * as tf from '@tensorflow/tfjs';
import { l2Normalize } from '../nn/layers.ts';
import type { EvaluationRecipe } from '../recipe/recipe.ts';
import { compile } from '../runtime/compile.ts';
import { float32 } from '../tensor.ts';
import { padded, type FeatureTable } from './featureTable.ts';
import type { FeatureBatch, LabelledFeatures } from './labelled.ts';
import { accuracyMeter, type Accuracy } from './metrics.ts';

export interface NeighboursOptions {
  readonly threads: number;
  readonly signal: AbortSignal;
  /** Called as training images are done. */
  readonly onProgress?: (images: number) => void;
}

export interface NearestNeighboursOptions extends NeighboursOptions {
  /** `k` beyond the number of training images is all of them. */
  readonly recipe: EvaluationRecipe['knn'];
  readonly classes: number;
}

/** Features of `count` training images, which are read once. */
export interface TrainingStream {
  readonly count: number;
  readonly batches: AsyncIterable<FeatureBatch>;
}

/** Class and cosine similarity of a training image. */
export type Neighbour = readonly [label: number, similarity: number];

/**
 * Weighted k-nearest-neighbour classification (Wu et al. 2018, InstDisc, §3.4): the k training images of largest cosine
 * similarity s vote for their class with weight exp(s / temperature). Of equally similar images the earlier one counts.
 * A class without a vote is never right.
 */
export async function classifyByNeighbours(training: TrainingStream, validation: LabelledFeatures, options: NearestNeighboursOptions): Promise<Accuracy> {
  const { classes, recipe: { k, temperature } } = options;
  const neighbours = await findNeighbours(training, validation.features, Math.min(k, training.count), options);
  const meter = accuracyMeter(classes), votes = new Float64Array(classes);
  for (let image = 0; image < validation.labels.length; image++) {
    votes.fill(-Infinity);
    for (const [label, similarity] of neighbours(image)) votes[label] = Math.max(votes[label]!, 0) + Math.exp(similarity / temperature);
    meter.add(votes, validation.labels.subarray(image, image + 1));
  }
  return meter.accuracy();
}

/** Validation images and training images compared in one matrix product. */
const queryRows = 256, bankRows = 8192;

/**
 * The `k` most similar training images of each validation image, the most similar first; of equally similar ones the earlier. Memory does not grow
 * with the training images, of which 8,192 at a time are held and compared with all validation images.
 *
 * @returns neighbours by the validation image's row
 */
export async function findNeighbours(training: TrainingStream, validation: FeatureTable, k: number, { threads, signal, onProgress }: NeighboursOptions): Promise<(image: number) => Iterable<Neighbour>> {
  const { size, rows: queries } = validation;
  const rows = Math.min(queryRows, queries), columns = Math.min(bankRows, training.count);
  const query = { shape: [rows, size] }, bank = { shape: [columns, size] };
  const normalize = await compile(({ raw }) => ({ bank: l2Normalize(raw!) }), { raw: bank }, { threads, name: 'nearest neighbours, training images' });
  const compare = await compile((given) => ({ similarity: tf.matMul(l2Normalize(given['query']!), given['bank']!, false, true) }), { query, bank }, { threads, name: 'nearest neighbours' });
  const nearest = nearestOf(queries, k);
  try {
    for await (const { features, labels } of blocks(training.batches, columns, size)) {
      const unit = (await normalize.run({ raw: float32(features, bank.shape) }))['bank']!;
      for (let first = 0; first < queries; first += rows) {
        signal.throwIfAborted();
        const part = padded(await validation.block(first, rows), rows * size);
        const { similarity } = await compare.run({ query: float32(part, query.shape), bank: unit });
        const values = similarity!.data as Float32Array;
        for (let row = 0; row < Math.min(rows, queries - first); row++) nearest.offer(first + row, values.subarray(row * columns, (row + 1) * columns), labels);
      }
      onProgress?.(labels.length);
    }
  } finally {
    await Promise.all([normalize.dispose(), compare.dispose()]);
  }
  return (image) => nearest.of(image);
}

/** The images of the batches in blocks of `rows`, the last one filled up with zeros; its `labels` are those that there are. Features are written over by the next block. */
async function* blocks(batches: AsyncIterable<FeatureBatch>, rows: number, size: number): AsyncGenerator<{ features: Float32Array; labels: Int32Array }> {
  const features = new Float32Array(rows * size), labels = new Int32Array(rows);
  let filled = 0;
  for await (const batch of batches) {
    for (let from = 0; from < batch.labels.length;) {
      const to = Math.min(batch.labels.length, from + rows - filled);
      features.set(batch.features.subarray(from * size, to * size), filled * size);
      labels.set(batch.labels.slice(from, to), filled);
      filled += to - from; from = to;
      if (filled < rows) continue;
      yield { features, labels };
      filled = 0;
    }
  }
  if (filled > 0) yield { features: features.fill(0, filled * size), labels: labels.subarray(0, filled) };
}

/** Of each of `queries` images the k largest similarities offered and their labels, in descending order; of equal ones those offered first. */
function nearestOf(queries: number, k: number) {
  const similarities = new Float32Array(queries * k), labels = new Int32Array(queries * k), counts = new Int32Array(queries);
  return {
    /** Offers an image the similarities to the training images with these labels, in order. */
    offer(query: number, values: Float32Array, ofTraining: Int32Array): void {
      const first = query * k, last = first + k - 1;
      let next = first + counts[query]!;
      for (let column = 0; column < ofTraining.length; column++) {
        const similarity = values[column]!;
        if (next > last && !(similarity > similarities[last]!)) continue;
        let i = Math.min(next, last);
        for (; i > first && similarity > similarities[i - 1]!; i--) {
          similarities[i] = similarities[i - 1]!;
          labels[i] = labels[i - 1]!;
        }
        similarities[i] = similarity;
        labels[i] = ofTraining[column]!;
        if (next <= last) next++;
      }
      counts[query] = next - first;
    },
    /** Label and similarity of each, the most similar first. */
    *of(query: number): Generator<Neighbour> {
      for (let i = query * k; i < query * k + counts[query]!; i++) yield [labels[i]!, similarities[i]!];
    },
  };
}
