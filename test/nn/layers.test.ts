import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { batchNorm, groupNorm, silu, standardize } from '../../src/nn/layers.ts';
import { inference } from '../../src/nn/module.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
import type { HostTensor, NamedTensors } from '../../src/tensor.ts';
import { reference, referenceImages, referenceTensors } from './reference.ts';

const onDevice = (t: HostTensor): tf.Tensor => tf.tensor(t.data, [...t.shape], t.dtype);
const weightsOf = (tensors: NamedTensors): Record<string, tf.Tensor> => Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, onDevice(t)]));

type Layer = ReturnType<typeof batchNorm>;

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

describe('compiled normalisation', () => {
  const eagerly = (fn: Parameters<typeof compile>[0], inputs: NamedTensors, state: NamedTensors): Promise<NamedTensors[]> => outcome('tensorflow', fn, inputs, state);
  const outcome = async (executor: 'onnxruntime' | 'tensorflow', fn: Parameters<typeof compile>[0], inputs: NamedTensors, state: NamedTensors): Promise<NamedTensors[]> => {
    const program = await compile(fn, Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, { shape: t.shape }])), { state: createState(state), executor, threads: 1 });
    try {
      const outputs = await program.run(inputs);
      return [outputs, program.state.snapshot()];
    } finally { await program.dispose(); }
  };
  const expectSame = (actual: NamedTensors, expected: NamedTensors): void => {
    expect(Object.keys(actual)).toEqual(Object.keys(expected));
    for (const [name, { data }] of Object.entries(expected)) data.forEach((value, i) => expect(actual[name]!.data[i], `${name} ${i}`).toBeCloseTo(value, 4));
  };

  it('keeps the statistics of every batch norm apart, of the same input too', async () => {
    const layers = [batchNorm('a', 3), batchNorm('b', 3), batchNorm('c', 3, { affine: false }), batchNorm('d', 3, { momentum: 0.5 })];
    const state = referenceTensors(layers.flatMap((layer) => layer.parameters));
    const inputs = { x: referenceImages([2, 3, 3, 4]), rows: referenceImages([5, 3]) };
    const step: Parameters<typeof compile>[0] = (given, variables) => {
      const updates: Record<string, tf.Tensor> = {};
      const mode = { training: true, updateBuffer: (name: string, value: tf.Tensor) => { updates[name] = value; } };
      const image = tf.transpose(given['x']!, [0, 2, 3, 1]), [a, b, c, d] = layers as [Layer, Layer, Layer, Layer];
      const outputs = { a: a.apply(image, variables, mode), b: b.apply(tf.relu(image), variables, mode), c: c.apply(image, variables, mode), d: d.apply(given['rows']!, variables, mode) };
      for (const [name, value] of Object.entries(updates)) variables[name]!.assign(value);
      return outputs;
    };
    const [outputs, after] = await outcome('onnxruntime', step, inputs, state) as [NamedTensors, NamedTensors];
    const [expectedOutputs, expectedAfter] = await eagerly(step, inputs, state) as [NamedTensors, NamedTensors];
    expectSame(outputs, expectedOutputs);
    expectSame(after, expectedAfter);
    expect(Array.from(after['a.running_mean']!.data)).not.toEqual(Array.from(state['a.running_mean']!.data));
  });

  it('group norm, modulated or not, agrees with tf.js in value and gradient', async () => {
    const layer = groupNorm('norm', 8, 4), weights = referenceTensors(layer.parameters);
    const inputs = { x: referenceImages([2, 8, 3, 5]), scale: referenceImages([2, 1, 1, 8]), shift: referenceImages([2, 1, 1, 8]) };
    const step: Parameters<typeof compile>[0] = (given, variables) => {
      const image = tf.transpose(given['x']!, [0, 2, 3, 1]) as tf.Tensor4D;
      const objective = (x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor): tf.Tensor => {
        const y = tf.add(layer.modulated(x as tf.Tensor4D, { scale: scale as tf.Tensor4D, shift: shift as tf.Tensor4D }, variables), layer.apply(x as tf.Tensor4D, variables, inference));
        return tf.sum(tf.mul(silu(y), tf.cos(tf.reshape(tf.range(0, 240), [2, 3, 5, 8]))));
      };
      const [x, scale, shift] = tf.grads(objective)([image, given['scale']!, given['shift']!]) as [tf.Tensor, tf.Tensor, tf.Tensor];
      return { x, scale, shift, weight: tf.variableGrads(() => objective(image, given['scale']!, given['shift']!) as tf.Scalar, [variables['norm.weight']!]).grads[variables['norm.weight']!.name]! };
    };
    expectSame((await outcome('onnxruntime', step, inputs, weights))[0]!, (await eagerly(step, inputs, weights))[0]!);
  });
});

describe('standardize', () => {
  it('does not change under shift and scale of its input', () => {
    const x = tf.randomNormal([3, 10], 0, 1, 'float32', 1);
    const plain = standardize(x, 1e-9).dataSync(), changed = standardize(tf.add(tf.mul(x, 4), 7), 1e-9).dataSync();
    plain.forEach((value, i) => expect(changed[i]).toBeCloseTo(value, 4));
  });
});
