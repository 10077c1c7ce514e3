import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { gelu } from '../../src/nn/gelu.ts';
import { layerNorm } from '../../src/nn/layerNorm.ts';
import { inference } from '../../src/nn/module.ts';
import { compile } from '../../src/runtime/compile.ts';
import { float32, type NamedTensors } from '../../src/tensor.ts';
import { reference } from '../compiler/agreement.ts';
import { expectValues, networkReference } from './networkReference.ts';
import { referenceTensors } from './reference.ts';

const norm = layerNorm<tf.Tensor>('layer', 24, 1e-6);
const layers: Record<string, { weights: NamedTensors; apply: (x: tf.Tensor, weights: Record<string, tf.Tensor>) => tf.Tensor }> = {
  layerNorm: { weights: referenceTensors(norm.parameters), apply: (x, weights) => norm.apply(x, weights, inference) },
  gelu: { weights: {}, apply: (x) => gelu(x) },
};

describe.each([['layerNorm', [5, 24]], ['layerNorm', [1, 5, 1, 24]], ['gelu', [5, 24]]] as const)('%s of shape %j', (name, shape) => {
  const expected = networkReference(name) as unknown as { input: number[]; output: number[]; gradients: Record<string, number[]> };
  const { weights, apply } = layers[name]!;

  it.each(['onnxruntime', 'tf.js cpu'])('agrees with PyTorch in value and in the gradients of input, scale and shift (%s)', async (engine) => {
    const names = ['x', ...Object.keys(weights)];
    const step = (given: Record<string, tf.Tensor>): Record<string, tf.Tensor> => {
      const output = (values: tf.Tensor[]): tf.Tensor => apply(values[0]!, Object.fromEntries(names.map((key, i) => [key, values[i]!])));
      const inputs = names.map((key) => given[key]!);
      const gradients = tf.grads((...values) => tf.sum(tf.mul(tf.reshape(output(values), [-1]), tf.cos(tf.range(0, 120)))))(inputs);
      return { output: output(inputs), ...Object.fromEntries(gradients.map((gradient, i) => [`gradient ${names[i]!}`, gradient])) };
    };
    const inputs = { x: float32(expected.input, shape), ...weights };
    let results: NamedTensors;
    if (engine === 'tf.js cpu') results = reference(step, inputs);
    else {
      const program = await compile(step, Object.fromEntries(Object.entries(inputs).map(([key, t]) => [key, { shape: t.shape }])), { threads: 1 });
      results = await program.run(inputs);
      await program.dispose();
    }
    expectValues(results['output'], expected.output);
    // The nearly constant row has the steepest gradient, hence the scale: compare each row with its own.
    for (let row = 0; row < 5; row++) expectValues(results['gradient x'], expected.gradients['x']!.slice(24 * row, 24 * (row + 1)), 24 * row, 1e-3);
    for (const part of Object.keys(weights)) expectValues(results[`gradient ${part}`], expected.gradients[part.replace('layer.', '')]);
    expect(Object.keys(results)).toHaveLength(1 + names.length);
  });
});
