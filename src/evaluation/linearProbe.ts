import type * as tf from '@tensorflow/tfjs';
import { mapAhead } from '../ahead.ts';
import { GenViewError } from '../errors.ts';
import { inference } from '../nn/module.ts';
import { learningRateAt } from '../pretraining/schedules.ts';
import { Random } from '../random.ts';
import type { EvaluationRecipe } from '../recipe/recipe.ts';
import { compile, createState } from '../runtime/compile.ts';
import { float32, int32, scalar, type HostTensor, type NamedTensors } from '../tensor.ts';
import { classifier, descend, initialClassifier, weightedCrossEntropy, withMomentum } from './classifier.ts';
import { padded } from './featureTable.ts';
import type { LabelledFeatures } from './labelled.ts';
import { accuracyMeter, type Accuracy } from './metrics.ts';

export interface EpochResult {
  readonly epoch: number;
  /** Mean training loss of the epoch. */
  readonly loss: number;
  /** Validation top-1 in percent after it. */
  readonly top1: number;
}

export interface ProbeOutcome extends Accuracy {
  readonly curve: readonly EpochResult[];
}

export interface LinearProbeOptions {
  readonly recipe: EvaluationRecipe['linear'];
  readonly classes: number;
  readonly seed: number;
  readonly threads: number;
  readonly signal: AbortSignal;
  /** `classifier.weight` and `classifier.bias`. @default N(0, 0.01) and 0 */
  readonly initial?: NamedTensors;
  readonly onEpoch?: (result: EpochResult) => void;
}

/**
 * Trains a linear classifier on frozen features (spec §8.1): SGD, cosine per epoch without warm-up, absolute learning
 * rate; accuracies are those after the last epoch.
 *
 * Unlike the paper's protocol, which passes a new random crop of every image through the network in every epoch, the
 * features are taken once, of the evaluation crop and of its mirror image, and every epoch sees one of the two by
 * chance: an epoch passes no image through the network, of which nothing is learnt in either protocol. Features that do not
 * fit in memory are read from their table as they are needed.
 *
 * @param training with mirror images, or without: then the same features in every epoch
 */
export async function trainLinearProbe(training: LabelledFeatures, validation: LabelledFeatures, options: LinearProbeOptions): Promise<ProbeOutcome> {
  const { recipe, classes, seed, threads, signal } = options;
  const { features: { size }, labels: { length: count } } = training;
  const batch = Math.min(recipe.batch, count);
  const head = classifier(size, classes);
  const initial = options.initial ?? initialClassifier(size, classes, seed, 'linear');
  const names = head.parameters.map(({ name }) => name);
  const state = createState(withMomentum(initial, names));
  const step = await compile(({ features, labels, weights, learningRate }, variables) => ({
    loss: descend(() => weightedCrossEntropy(head.apply(features as tf.Tensor2D, variables, inference), labels!, weights!), variables, names, () => learningRate!, recipe),
  }), { features: { shape: [batch, size] }, labels: { shape: [batch], dtype: 'int32' }, weights: { shape: [batch] }, learningRate: { shape: [] } }, { state, threads, name: 'linear probe' });
  const rows = Math.min(256, validation.labels.length);
  const score = await compile(({ features }, variables) => ({ logits: head.apply(features as tf.Tensor2D, variables, inference) }),
    { features: { shape: [rows, size] } }, { state, threads, name: 'linear probe scores' });

  const evaluate = async (): Promise<Accuracy> => {
    const meter = accuracyMeter(classes);
    for (let start = 0; start < validation.labels.length; start += rows) {
      const part = await validation.features.block(start, rows), images = part.length / size;
      const { logits } = await score.run({ features: float32(padded(part, rows * size), [rows, size]) });
      meter.add((logits!.data as Float32Array).subarray(0, images * classes), validation.labels.subarray(start, start + images));
    }
    return meter.accuracy();
  };

  try {
    const curve: EpochResult[] = [];
    let accuracy = recipe.epochs === 0 ? await evaluate() : { top1: 0, top5: 0 };
    for (let epoch = 0; epoch < recipe.epochs; epoch++) {
      const learningRate = scalar(learningRateAt(epoch, recipe.learningRate, { epochs: recipe.epochs, warmupEpochs: 0 }));
      const random = new Random(seed, 'linear', epoch);
      const order = random.shuffle(Array.from({ length: count }, (_, i) => i));
      const batches = Array.from({ length: Math.ceil(count / batch) }, (_, i) => order.slice(i * batch, (i + 1) * batch));
      let total = 0;
      // What lies on a disk is read while the step before computes.
      for await (const { images, ...inputs } of mapAhead(batches, 2, (chosen) => minibatch(training, chosen, batch, random))) {
        signal.throwIfAborted();
        const { loss } = await step.run({ ...inputs, learningRate });
        total += loss!.data[0]! * images;
      }
      accuracy = await evaluate();
      const result = { epoch: epoch + 1, loss: total / count, top1: accuracy.top1 };
      if (!Number.isFinite(result.loss)) throw new GenViewError('LossNotFinite', `the loss of the linear probe became ${result.loss} in epoch ${epoch + 1}; lower evaluation.linear.learningRate`);
      curve.push(result);
      options.onEpoch?.(result);
    }
    return { ...accuracy, curve };
  } finally {
    await Promise.all([step.dispose(), score.dispose()]);
  }
}

/**
 * The rows of the chosen images, of each by chance the image's or its mirror image's. The last batch of an epoch may be smaller: rows beyond it weigh
 * nothing. All that is random is drawn before the first row is read.
 */
async function minibatch(training: LabelledFeatures, chosen: readonly number[], batch: number, random: Random): Promise<Record<'features' | 'labels' | 'weights', HostTensor> & { readonly images: number }> {
  const { size } = training.features, images = chosen.length;
  const features = new Float32Array(batch * size), labels = new Int32Array(batch), weights = new Float32Array(batch).fill(1 / images, 0, images);
  for (const [row, i] of chosen.entries()) labels[row] = training.labels[i]!;
  await training.features.gather(training.mirrored ? chosen.map((i) => 2 * i + Number(random.chance(0.5))) : chosen, features);
  return { features: float32(features, [batch, size]), labels: int32(labels, [batch]), weights: float32(weights, [batch]), images };
}
