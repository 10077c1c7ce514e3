import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { batchNorm, groupNorm, standardize } from '../../src/nn/layers.ts';
import { inference } from '../../src/nn/module.ts';
import type { HostTensor, NamedTensors } from '../../src/tensor.ts';
import { reference, referenceImages, referenceTensors } from './reference.ts';

const onDevice = (t: HostTensor): tf.Tensor => tf.tensor(t.data, [...t.shape], t.dtype);
const weightsOf = (tensors: NamedTensors): Record<string, tf.Tensor> => Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, onDevice(t)]));

beforeAll(async () => { await tf.setBackend('cpu'); });

describe('groupNorm', () => {
  it('agrees with torch.nn.GroupNorm in value and gradient', () => {
    const layer = groupNorm('norm', 8, 4);
    // make.py fills a bare module: names `bias`, `weight`, the same order.
    const weights = weightsOf(referenceTensors(layer.parameters));
    const x = tf.transpose(onDevice(referenceImages([2, 8, 3, 5])), [0, 2, 3, 1]) as tf.Tensor4D;
    const direction = tf.transpose(tf.reshape(tf.cos(tf.range(0, 240)), [2, 8, 3, 5]), [0, 2, 3, 1]);
    const output = tf.transpose(layer.apply(x, weights, inference), [0, 3, 1, 2]).dataSync();
    const gradient = tf.transpose(tf.grad((images) => tf.sum(tf.mul(layer.apply(images as tf.Tensor4D, weights, inference), direction)))(x), [0, 3, 1, 2]).dataSync();
    (reference.groupNorm.output as number[]).forEach((value, i) => expect(output[i]).toBeCloseTo(value, 4));
    (reference.groupNorm.gradient as number[]).forEach((value, i) => expect(gradient[i]).toBeCloseTo(value, 4));
  });
});

describe('batchNorm', () => {
  it('in training gives every channel mean 0 and variance 1 and the gradient of finite differences', () => {
    const layer = batchNorm('bn', 3, { affine: false });
    const x = tf.randomNormal([4, 2, 2, 3], 5, 3, 'float32', 7) as tf.Tensor4D;
    const weights = weightsOf(referenceTensors(layer.parameters));
    const y = layer.apply(x, weights, { training: true });
    for (const value of tf.mean(y, [0, 1, 2]).dataSync()) expect(value).toBeCloseTo(0, 4);
    for (const value of tf.mean(tf.square(y), [0, 1, 2]).dataSync()) expect(value).toBeCloseTo(1, 3);

    const direction = tf.randomNormal([4, 2, 2, 3], 0, 1, 'float32', 8);
    const objective = (images: tf.Tensor): tf.Tensor => tf.sum(tf.mul(layer.apply(images, weights, { training: true }), direction));
    const gradient = tf.grad(objective)(x).dataSync(), values = x.dataSync();
    for (const i of [0, 7, 23, 47]) {
      const shifted = (by: number): number => objective(tf.tensor(Float32Array.from(values, (v, j) => j === i ? v + by : v), x.shape)).dataSync()[0]!;
      expect(gradient[i]).toBeCloseTo((shifted(0.05) - shifted(-0.05)) / 0.1, 2);
    }
  });
});

describe('standardize', () => {
  it('does not change under shift and scale of its input', () => {
    const x = tf.randomNormal([3, 10], 0, 1, 'float32', 1);
    const plain = standardize(x, 1e-9).dataSync(), changed = standardize(tf.add(tf.mul(x, 4), 7), 1e-9).dataSync();
    plain.forEach((value, i) => expect(changed[i]).toBeCloseTo(value, 4));
  });
});
