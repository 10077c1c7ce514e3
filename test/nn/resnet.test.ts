import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { inference } from '../../src/nn/module.ts';
import { resnet, resnetConfig } from '../../src/nn/resnet.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
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
