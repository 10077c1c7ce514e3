import * as tf from '@tensorflow/tfjs';
import { Random } from '../../src/random.ts';
import type { Gradients, ScalableStep } from '../../src/pretraining/optimizers/lossScaling.ts';
import type { StepFunction } from '../../src/runtime/program.ts';
import { float32, int32, scalar, sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';

/** What is trained. */
export const names = ['conv', 'block', 'scale', 'linear'] as const;
const normal = (random: Random, shape: readonly number[], size: number): HostTensor => float32(random.normals(sizeOf(shape)).map((v) => v * size), shape);

/** A small classifier, its momentum, and the moving average of its weights. */
export function initialState(): NamedTensors {
  const random = new Random('endurance');
  const weights: NamedTensors = { conv: normal(random, [16, 3, 3, 3], 0.3), block: normal(random, [16, 16, 1, 1], 0.3), scale: normal(random, [16], 1), linear: normal(random, [4, 16], 0.4) };
  return {
    ...weights,
    ...Object.fromEntries(names.map((name) => [`momentum/${name}`, float32(new Float32Array(weights[name]!.data.length), weights[name]!.shape)])),
    ...Object.fromEntries(names.map((name) => [`average/${name}`, weights[name]!])),
    queue: normal(random, [12, 16], 1),
  };
}

/** Convolutions, batch statistics, cross entropy, momentum, a moving average and a queue: what a real step has. */
export const scalableStep: ScalableStep = ({ images, labels, rate }, state, gradients) => {
  const features = (): tf.Tensor2D => {
    const convolve = (x: tf.Tensor, filter: tf.Tensor, stride: number): tf.Tensor4D => tf.conv2d(x as tf.Tensor4D, tf.transpose(filter, [2, 3, 1, 0]) as tf.Tensor4D, stride, 'same');
    const y = convolve(tf.relu(convolve(images!, state['conv']!, 2)), state['block']!, 1);
    const { mean, variance } = tf.moments(y, [0, 1, 2]);
    return tf.mean(tf.relu(tf.mul(tf.mul(tf.sub(y, mean), tf.rsqrt(tf.add(variance, 1e-5))), state['scale']!)), [1, 2]);
  };
  const { value, grads } = gradients(() => {
    const logits = tf.matMul(features(), state['linear'] as tf.Tensor2D, false, true);
    return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(labels as tf.Tensor1D, 4)), 1)));
  }, names.map((name) => state[name]!));
  const kept = tf.slice(state['queue']!, [0, 0], [8, 16]);
  state['queue']!.assign(tf.concat([features(), kept], 0));
  for (const name of names) {
    state[`momentum/${name}`]!.assign(tf.add(tf.mul(state[`momentum/${name}`]!, 0.9), grads[name]!));
    state[name]!.assign(tf.sub(state[name]!, tf.mul(state[`momentum/${name}`]!, rate!)));
    state[`average/${name}`]!.assign(tf.add(tf.mul(state[`average/${name}`]!, 0.99), tf.mul(state[name]!, 0.01)));
  }
  return { loss: value };
};

export const step: StepFunction = (inputs, state) => scalableStep(inputs, state, tf.variableGrads as Gradients);

/** The batch of step k: the same in every run. */
export function batch(k: number): NamedTensors {
  const random = new Random('endurance', k % 50);
  return { images: normal(random, [4, 8, 8, 3], 1), labels: int32([0, 1, 2, 3].map(() => random.integer(4)), [4]), rate: scalar(0.01) };
}

export const signature = { images: { shape: [4, 8, 8, 3] }, labels: { shape: [4], dtype: 'int32' }, rate: { shape: [] } } as const;
