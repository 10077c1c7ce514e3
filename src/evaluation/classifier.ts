import * as tf from '@tensorflow/tfjs';
import { initialize, type Module } from '../nn/module.ts';
import { linear, normal, zeros } from '../nn/layers.ts';
import { crossEntropy } from '../pretraining/losses/contrast.ts';
import { sgd } from '../pretraining/optimizers/sgd.ts';
import type { Random } from '../random.ts';
import { float32, type NamedTensors } from '../tensor.ts';

/** Linear classifier `classifier.weight` [classes, features], `classifier.bias` [classes]. */
export function classifier(features: number, classes: number): Module<tf.Tensor2D, tf.Tensor2D> {
  return linear('classifier', features, classes);
}

/** Weights N(0, 0.01), bias 0 (spec §8.1). */
export function initialClassifier(features: number, classes: number, seed: number, protocol: string): NamedTensors {
  const parameters = classifier(features, classes).parameters.map((p) => ({
    ...p, initialize: (random: Random) => (p.shape.length === 2 ? normal(0.01) : zeros)(p.shape, random),
  }));
  return initialize({ parameters }, `${seed} ${protocol}`);
}

/** Scalar sum over the batch of `weights` times cross-entropy: [n, classes] logits, [n] int32 labels, [n] weights. */
export function weightedCrossEntropy(logits: tf.Tensor2D, labels: tf.Tensor, weights: tf.Tensor): tf.Scalar {
  const target = tf.cast(tf.oneHot(labels as tf.Tensor1D, logits.shape[1]), 'float32');
  return tf.sum(tf.mul(crossEntropy(logits, target).perSample, weights));
}

/** `tensors`, and the buffer `momentum.<name>` of each of `names`, zero. */
export function withMomentum(tensors: NamedTensors, names: readonly string[]): NamedTensors {
  const buffer = (name: string) => float32(new Float32Array(tensors[name]!.data.length), tensors[name]!.shape);
  return { ...tensors, ...Object.fromEntries(names.map((name) => [`momentum.${name}`, buffer(name)])) };
}

/** One step of SGD on the variables of `names`, each with its rate. Returns the loss before it. */
export function descend(
  loss: () => tf.Scalar, variables: Record<string, tf.Variable>, names: readonly string[],
  rateOf: (name: string) => tf.Tensor, options: { momentum: number; weightDecay: number },
): tf.Scalar {
  const { value, grads } = tf.variableGrads(loss, names.map((name) => variables[name]!));
  for (const name of names) {
    const parameter = variables[name]!, buffer = variables[`momentum.${name}`]!;
    const next = sgd(parameter, grads[name]!, buffer, rateOf(name), options);
    parameter.assign(next.parameter);
    buffer.assign(next.buffer);
  }
  return value;
}
