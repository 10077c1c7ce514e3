import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { inference } from '../../src/nn/module.ts';
import { resnet, resnetConfig } from '../../src/nn/resnet.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
import { declaredShapes, engines, expectGradients, expectValues, networkReference, runNetwork } from './networkReference.ts';
import { reference, referenceImages, referenceTensors } from './reference.ts';

describe.each(['cifar', 'imagenet'] as const)('ResNet-18 with the %s stem', (stem) => {
  const expected = reference[`resnet18-${stem}`];
  const network = resnet(resnetConfig({ name: 'resnet18', stem, width: 64, norm: 'batch' }));

  it('owns the tensors that torchvision names', () => {
    expect(Object.fromEntries(network.parameters.map((p) => [p.name, [...p.shape]]))).toEqual(expected.shapes);
  });

  it('agrees with torchvision in features, running statistics and gradients', async () => {
    const trained = network.parameters.filter((p) => p.kind === 'parameter').map((p) => p.name);
    const state = createState(referenceTensors(network.parameters));
    const program = await compile((inputs, variables) => {
      const x = tf.transpose(inputs['images']!, [0, 2, 3, 1]) as tf.Tensor4D;
      const outputs: Record<string, tf.Tensor> = { evaluation: network.apply(x, variables, inference) };
      const { grads } = tf.variableGrads(() => {
        const features = network.apply(x, variables, { training: true, updateBuffer: (name, value) => { outputs[name] = tf.keep(value); } });
        outputs['training'] = tf.keep(features);
        return tf.sum(tf.mul(features, tf.cos(tf.range(0, 512)))) as tf.Scalar;
      }, trained.map((name) => variables[name]!));
      for (const name of trained) outputs[`norm ${name}`] = tf.norm(grads[variables[name]!.name]!);
      return outputs;
    }, { images: { shape: [8, 3, expected.size, expected.size] } }, { state });
    const result = await program.run({ images: referenceImages([8, 3, expected.size, expected.size]) });
    await program.dispose();

    const close = (name: string, wanted: number[], from: number, tolerance: number): void => {
      wanted.forEach((value, i) => expect(Math.abs(result[name]!.data[from + i]! - value), `${name} ${i}`).toBeLessThan(tolerance * Math.max(1, Math.abs(value))));
    };
    close('evaluation', expected.evaluation, 512, 1e-4);
    close('training', expected.training, 512, 1e-3);
    close('layer2.0.bn1.running_mean', expected.runningMean, 0, 1e-4);
    close('layer2.0.bn1.running_var', expected.runningVar, 0, 1e-4);
    for (const [name, norm] of Object.entries(expected.gradientNorms as Record<string, number>)) {
      expect(Math.abs(result[`norm ${name}`]!.data[0]! - norm) / norm, name).toBeLessThan(2e-3);
    }
  });
});

describe.each(['cifar', 'imagenet'] as const)('bottleneck blocks with the %s stem', (stem) => {
  const expected = networkReference(`resnet-bottleneck-${stem}`);
  const network = resnet({
    stem: stem === 'cifar' ? { width: 8, kernel: 3, stride: 1, pool: false } : { width: 8, kernel: 7, stride: 2, pool: true },
    stages: [2, 1, 2, 1].map((blocks, i) => ({ width: 8 * 2 ** i, blocks, stride: i === 0 ? 1 : 2 })), block: 'bottleneck', norm: 'batch',
  });

  it('own the tensors that torchvision names', () => {
    expect(declaredShapes(network)).toEqual(expected.shapes);
    expect(network.featureSize).toBe(256);
  });

  it.each(engines)('agree with torchvision in features, running statistics and gradients (%s)', async (engine) => {
    const results = await runNetwork(engine, network, expected.images, (x, weights) => {
      const outputs: Record<string, tf.Tensor> = { evaluation: network.apply(x, weights, inference) };
      const features = network.apply(x, weights, { training: true, updateBuffer: (name, value) => { outputs[`updated ${name}`] = value; } });
      return { outputs: { ...outputs, training: features }, features };
    });
    expectValues(results['evaluation'], expected['evaluation'], 256);
    expectValues(results['training'], expected['training'], 256);
    for (const [name, values] of Object.entries(expected['buffers'] as Record<string, number[]>)) expectValues(results[`updated ${name}`], values);
    if (engine !== 'onnxruntime, weights constant') expectGradients(results, expected);
  });
});

it('ResNet-50 has the parameters of torchvision\'s without classifier', () => {
  const { parameters, featureSize } = resnet(resnetConfig({ name: 'resnet50', stem: 'imagenet', width: 64, norm: 'batch' }));
  expect(featureSize).toBe(2048);
  expect(parameters.filter((p) => p.kind === 'parameter').reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(23_508_032);
});
