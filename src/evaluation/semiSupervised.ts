import * as tf from '@tensorflow/tfjs';
import { createHash } from 'node:crypto';
import { toPixels, type Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import { inference, prefixed, scoped } from '../nn/module.ts';
import { randomResizedCrop } from '../pretraining/augmentation/randomResizedCrop.ts';
import { learningRateAt } from '../pretraining/schedules.ts';
import { Random } from '../random.ts';
import type { EvaluationRecipe } from '../recipe/recipe.ts';
import { compile, createState } from '../runtime/compile.ts';
import type { Program, State } from '../runtime/program.ts';
import { float32, int32, scalar, type NamedTensors } from '../tensor.ts';
import { classifier, descend, initialClassifier, weightedCrossEntropy, withMomentum } from './classifier.ts';
import { featureBatch, mirrored, normalizedInput, type PretrainedEncoder } from './features.ts';
import type { LabelledCrop, LabelledSample } from './labelled.ts';
import type { EpochResult, ProbeOutcome } from './linearProbe.ts';
import { accuracyMeter, type Accuracy } from './metrics.ts';

/**
 * The images that keep their label: of every class the rounded `fraction` of its images, at least one, with the smallest
 * hash of (seed, path). An image added to one class changes nothing in the others.
 * Goes through `images` twice, and keeps no more than twice the images that it chooses.
 *
 * @returns the chosen samples' `index`
 */
export async function chooseLabelled(images: () => AsyncIterable<LabelledSample['metadata']> | Iterable<LabelledSample['metadata']>, fraction: number, seed: number): Promise<Set<number>> {
  const classes = new Map<number, { count: number; members: { index: number; order: string }[] }>();
  for await (const { label } of images()) {
    const known = classes.get(label);
    if (known) known.count++; else classes.set(label, { count: 1, members: [] });
  }
  const wanted = (count: number): number => Math.max(1, Math.round(fraction * count));
  const trim = ({ count, members }: { count: number; members: { index: number; order: string }[] }): void => {
    members.sort((a, b) => a.order < b.order ? -1 : 1);
    members.length = Math.min(members.length, wanted(count));
  };
  for await (const { index, path, label } of images()) {
    const own = classes.get(label)!;
    own.members.push({ index, order: createHash('sha256').update(JSON.stringify([seed, 'semi-supervised', path])).digest('hex') });
    if (own.members.length >= 2 * wanted(own.count)) trim(own);
  }
  const chosen = new Set<number>();
  for (const own of classes.values()) {
    trim(own);
    for (const { index } of own.members) chosen.add(index);
  }
  return chosen;
}

export interface FineTuneOptions {
  readonly recipe: EvaluationRecipe['semiSupervised'];
  readonly classes: number;
  readonly seed: number;
  readonly threads: number;
  readonly signal: AbortSignal;
  readonly onEpoch?: (result: EpochResult) => void;
}

/** SimCLR's and mmselfsup's fine-tuning crops: torchvision's default area range. */
const minScale = 0.08;
const momentum = 0.9;

/** The two programs of fine-tuning, and what they share. */
export interface FineTuning {
  /** `backbone.…`, `classifier.…` and `momentum.…` */
  readonly state: State;
  /** Inputs `pixels` [batch, 3, s, s] in [0, 1], `labels` [batch] int32, scalars `headRate` and `backboneRate`; output `loss`. */
  readonly step: Program;
  /** Running statistics; input `pixels` [featureBatch, 3, s, s], output `logits`. */
  readonly score: Program;
}

/** @param head `classifier.weight` and `classifier.bias` */
export async function openFineTuning(encoder: PretrainedEncoder, head: NamedTensors, batch: number, threads: number): Promise<FineTuning> {
  const { network, imageSize } = encoder;
  const [classes, featureSize] = head['classifier.weight']!.shape as [number, number];
  const top = classifier(featureSize, classes);
  const ofBackbone = network.parameters.filter(({ kind }) => kind === 'parameter').map(({ name }) => `backbone.${name}`);
  const trained = [...ofBackbone, ...top.parameters.map(({ name }) => name)];
  const state = createState(withMomentum({ ...prefixed(encoder.weights, 'backbone.'), ...head }, trained));
  const pixelShape = (n: number): number[] => [n, 3, imageSize, imageSize];

  const step = await compile(({ pixels, labels, headRate, backboneRate }, variables) => {
    const weights = scoped(variables, 'backbone.');
    const loss = descend(() => {
      const features = network.apply(normalizedInput(pixels!, encoder), weights, {
        training: true, updateBuffer: (name, statistic) => { weights[name]!.assign(statistic); },
      });
      return weightedCrossEntropy(top.apply(features, variables, inference), labels!, tf.fill([batch], 1 / batch));
    }, variables, trained, (name) => name.startsWith('backbone.') ? backboneRate! : headRate!, { momentum, weightDecay: 0 });
    return { loss };
  }, { pixels: { shape: pixelShape(batch) }, labels: { shape: [batch], dtype: 'int32' }, headRate: { shape: [] }, backboneRate: { shape: [] } }, { state, threads, name: 'fine-tuning' });
  const score = await compile(({ pixels }, variables) => ({
    logits: top.apply(network.apply(normalizedInput(pixels!, encoder), scoped(variables, 'backbone.'), inference), variables, inference),
  }), { pixels: { shape: pixelShape(featureBatch) } }, { state, threads, name: 'fine-tuning scores' });
  return { state, step, score };
}

/**
 * Fine-tunes the whole network with a new classifier on few labels (spec §8.2): batch norm in training mode, random
 * resized crops and mirror images, SGD with momentum 0.9 and no weight decay, cosine per epoch, one learning rate for the
 * classifier and one for the backbone. A batch larger than the chosen images is all of them; the incomplete last batch
 * of an epoch is dropped, because batch statistics need a whole one.
 *
 * @param labelled the chosen training images in the order of an epoch (0, 1, …)
 * @param count how many there are
 * @param validation crops of the encoder's size; read after every epoch
 */
export async function fineTune(
  encoder: PretrainedEncoder,
  labelled: (epoch: number) => AsyncIterable<LabelledSample>,
  count: number,
  validation: () => AsyncIterable<LabelledCrop>,
  options: FineTuneOptions,
): Promise<ProbeOutcome> {
  const { recipe, classes, seed, threads, signal } = options;
  const { imageSize } = encoder;
  const batch = Math.min(recipe.batch, count);
  const initial = initialClassifier(encoder.network.featureSize, classes, seed, 'semi-supervised');
  const { step, score } = await openFineTuning(encoder, initial, batch, threads);

  const evaluate = async (): Promise<Accuracy> => {
    const meter = accuracyMeter(classes);
    let images: Image[] = [], labels: number[] = [];
    const flush = async (): Promise<void> => {
      signal.throwIfAborted();
      const pixels = new Float32Array(featureBatch * 3 * imageSize * imageSize);
      pixels.set(toPixels(images).data);
      const { logits } = await score.run({ pixels: float32(pixels, [featureBatch, 3, imageSize, imageSize]) });
      meter.add((logits!.data as Float32Array).subarray(0, images.length * classes), Int32Array.from(labels));
      images = []; labels = [];
    };
    for await (const { image, label } of validation()) {
      images.push(image);
      labels.push(label);
      if (images.length === featureBatch) await flush();
    }
    if (images.length > 0) await flush();
    return meter.accuracy();
  };

  try {
    const curve: EpochResult[] = [];
    let accuracy = recipe.epochs === 0 ? await evaluate() : { top1: 0, top5: 0 };
    for (let epoch = 0; epoch < recipe.epochs; epoch++) {
      const rate = (base: number) => scalar(learningRateAt(epoch, base, { epochs: recipe.epochs, warmupEpochs: 0 }));
      const headRate = rate(recipe.headLearningRate), backboneRate = rate(recipe.backboneLearningRate);
      let total = 0, steps = 0, views: Image[] = [], labels: number[] = [];
      for await (const { metadata, original } of labelled(epoch)) {
        views.push(trainingView(original, new Random(seed, 'semi-supervised', epoch, metadata.path), imageSize));
        labels.push(metadata.label);
        if (views.length < batch) continue;
        signal.throwIfAborted();
        const { loss } = await step.run({ pixels: toPixels(views), labels: int32(labels, [batch]), headRate, backboneRate });
        total += loss!.data[0]!; steps++;
        views = []; labels = [];
      }
      accuracy = await evaluate();
      const result = { epoch: epoch + 1, loss: total / steps, top1: accuracy.top1 };
      if (!Number.isFinite(result.loss)) throw new GenViewError('LossNotFinite', `the loss of fine-tuning became ${result.loss} in epoch ${epoch + 1}; lower evaluation.semiSupervised.headLearningRate and backboneLearningRate`);
      curve.push(result);
      options.onEpoch?.(result);
    }
    return { ...accuracy, curve };
  } finally {
    await Promise.all([step.dispose(), score.dispose()]);
  }
}

function trainingView(image: Image, random: Random, size: number): Image {
  const crop = randomResizedCrop(image, random, { size, minScale });
  return random.chance(0.5) ? mirrored(crop) : crop;
}
