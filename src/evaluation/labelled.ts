import type { Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { evaluationCrop, featureBatch, mirrored, type Backbone } from './features.ts';
import { openFeatureTable, type FeatureTable, type FeatureTableOptions } from './featureTable.ts';

/** What the probes need of a sample. */
export interface LabelledSample {
  readonly metadata: { readonly index: number; readonly path: string; readonly label: number };
  readonly original: Image;
}

/** An evaluation crop and the class of its image. */
export interface LabelledCrop {
  readonly image: Image;
  readonly label: number;
}

/** Features of some labelled images. */
export interface FeatureBatch {
  /** [n, d] row-major. */
  readonly features: Float32Array;
  /** [n, d] of the mirrored images, where asked for. */
  readonly mirrored?: Float32Array;
  /** [n] class indices. */
  readonly labels: readonly number[];
}

/** Features of labelled images, in the order in which they came. */
export interface LabelledFeatures {
  /** Row i is image i; with mirror images, rows 2i and 2i + 1 are image i and its mirror image. Belongs to whoever holds this. */
  readonly features: FeatureTable;
  readonly mirrored: boolean;
  /** [n] class indices. */
  readonly labels: Int32Array;
}

/** Features of the evaluation crops of all samples, as they are computed. */
export async function* featureBatches(backbone: Backbone, samples: AsyncIterable<LabelledSample>, options: { mirror: boolean; signal: AbortSignal }): AsyncGenerator<FeatureBatch> {
  let images: Image[] = [], labels: number[] = [];
  const batch = async (): Promise<FeatureBatch> => {
    options.signal.throwIfAborted();
    return { features: await backbone.features(images), ...(options.mirror && { mirrored: await backbone.features(images.map(mirrored)) }), labels };
  };
  for await (const { metadata, original } of samples) {
    images.push(await evaluationCrop(original, backbone.description.imageSize));
    labels.push(metadata.label);
    if (images.length < featureBatch) continue;
    yield await batch();
    images = []; labels = [];
  }
  if (images.length > 0) yield await batch();
}

export interface FeaturesOptions extends FeatureTableOptions {
  /** How many samples there are. */
  readonly count: number;
  readonly mirror: boolean;
  /** Of the progress display. */
  readonly label: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}

/** Features of the evaluation crops of all samples, kept. Errors as of {@link openFeatureTable}. */
export async function featuresOf(backbone: Backbone, samples: AsyncIterable<LabelledSample>, options: FeaturesOptions): Promise<LabelledFeatures> {
  const { count, mirror } = options;
  const features = await openFeatureTable(mirror ? 2 * count : count, backbone.featureSize, options);
  try {
    const labels: number[] = [];
    const progress = options.log.progress(options.label, count, 'images');
    for await (const batch of featureBatches(backbone, samples, options)) {
      await features.append(batch.mirrored ? interleaved(batch.features, batch.mirrored, features.size) : batch.features);
      labels.push(...batch.labels);
      progress.advance(batch.labels.length);
    }
    progress.done();
    return { features, mirrored: mirror, labels: Int32Array.from(labels) };
  } catch (error) {
    await features.close();
    throw error;
  }
}

/** Rows of `first` and `second` in turn. */
function interleaved(first: Float32Array, second: Float32Array, size: number): Float32Array {
  const rows = new Float32Array(first.length + second.length);
  for (let from = 0; from < first.length; from += size) {
    rows.set(first.subarray(from, from + size), 2 * from);
    rows.set(second.subarray(from, from + size), 2 * from + size);
  }
  return rows;
}

/**
 * Evaluation crops of `samples`, as often as they are asked for: kept in memory when they all fit into `memory` bytes,
 * decoded anew each time otherwise. @default memory 1 GiB
 */
export function cropsOf(samples: () => AsyncIterable<LabelledSample>, count: number, size: number, memory = 2 ** 30): () => AsyncIterable<LabelledCrop> {
  const kept: LabelledCrop[] | undefined = count * size * size * 3 <= memory ? [] : undefined;
  let complete = false;
  return async function* () {
    if (kept && complete) { yield* kept; return; }
    if (kept) kept.length = 0;
    for await (const { metadata, original } of samples()) {
      const crop = { image: await evaluationCrop(original, size), label: metadata.label };
      kept?.push(crop);
      yield crop;
    }
    complete = true;
  };
}

/**
 * Throws `EvaluationImpossible` where an accuracy would mean nothing: one class, no validation image, or a class that is
 * validated but has no training image.
 */
export function checkLabels(classes: readonly string[], images: readonly { readonly split: string; readonly label: number }[]): void {
  const labelsOf = (split: string): Set<number> => new Set(images.filter((image) => image.split === split).map(({ label }) => label));
  const trained = labelsOf('train'), validated = labelsOf('val');
  const impossible = (message: string): GenViewError => new GenViewError('EvaluationImpossible', message);
  if (classes.length < 2) throw impossible(`the dataset has ${classes.length === 1 ? `one class (${classes[0]})` : 'no class'}; a probe tells classes apart, put the images into one folder for each of at least two classes`);
  if (validated.size === 0) throw impossible('the dataset has no usable validation image; add a val folder or raise dataset.validationFraction');
  const lacking = [...validated].filter((label) => !trained.has(label)).sort((a, b) => a - b);
  if (lacking.length > 0) {
    throw impossible(`${lacking.length === 1 ? 'class' : 'classes'} ${lacking.slice(0, 5).map((label) => classes[label]).join(', ')}${lacking.length > 5 ? ' …' : ''} ${lacking.length === 1 ? 'has' : 'have'} validation images but no usable training image; add some, or remove the validation images`);
  }
}
