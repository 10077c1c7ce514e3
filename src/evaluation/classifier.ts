import * as tf from '@tensorflow/tfjs';
import { initialize, type Module } from '../nn/module.ts';
import { linear, normal, zeros } from '../nn/layers.ts';
import { crossEntropy } from '../pretraining/losses/contrast.ts';
import type { Random } from '../random.ts';
import type { NamedTensors } from '../tensor.ts';

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
