import type { Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { evaluationCrop, featureBatch, mirrored, type Backbone } from './features.ts';

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

/** Features of labelled images, in the order in which they came. */
export interface LabelledFeatures {
  /** Width d. */
  readonly size: number;
  /** [n, d] row-major. */
  readonly features: Float32Array;
  /** [n, d] of the mirrored images, where asked for. */
  readonly mirrored?: Float32Array;
  /** [n] class indices. */
  readonly labels: Int32Array;
}

/** Features of the evaluation crops of all samples. */
export async function featuresOf(backbone: Backbone, samples: AsyncIterable<LabelledSample>, options: { count: number; mirror: boolean; label: string; signal: AbortSignal; log: Log }): Promise<LabelledFeatures> {
  const { signal, mirror } = options;
  const size = backbone.featureSize;
  const features: Float32Array[] = [], reflections: Float32Array[] = [], labels: number[] = [];
  const progress = options.log.progress(options.label, options.count, 'images');
  let images: Image[] = [];
  const flush = async (): Promise<void> => {
    signal.throwIfAborted();
    features.push(await backbone.features(images));
    if (mirror) reflections.push(await backbone.features(images.map(mirrored)));
    progress.advance(images.length);
    images = [];
  };
  for await (const { metadata, original } of samples) {
    images.push(await evaluationCrop(original, backbone.description.imageSize));
    labels.push(metadata.label);
    if (images.length === featureBatch) await flush();
  }
  if (images.length > 0) await flush();
  progress.done();
  return { size, features: concatenated(features), ...(mirror && { mirrored: concatenated(reflections) }), labels: Int32Array.from(labels) };
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

/** Arrays one behind another. */
export function concatenated(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) { all.set(part, offset); offset += part.length; }
  return all;
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
