import * as tf from '@tensorflow/tfjs';
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { ParameterSpec } from '../../src/nn/module.ts';
import { compile, compileInference } from '../../src/runtime/compile.ts';
import type { HostTensor, NamedTensors } from '../../src/tensor.ts';
import { reference } from '../compiler/agreement.ts';
import { noise, referenceImages, referenceTensors } from './reference.ts';

/** What test/fixtures/nn/networks.py wrote about a network; further fields are outputs. */
export interface NetworkReference {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** [n, 3, h, w] */
  readonly images: readonly number[];
  /** Of each parameter's gradient: its norm, and its product with the noise of tensor number 2000. */
  readonly gradients: Readonly<Record<string, readonly [number, number]>>;
  readonly [output: string]: unknown;
}

const all = JSON.parse(readFileSync(new URL('../fixtures/nn/networks.json', import.meta.url), 'utf8')) as Record<string, NetworkReference>;

export function networkReference(name: string): NetworkReference { return all[name]!; }

/** The shapes that a network declares, as the reference lists them. */
export function declaredShapes({ parameters }: { readonly parameters: readonly ParameterSpec[] }): Record<string, number[]> {
  return Object.fromEntries(parameters.map(({ name, shape }) => [name, [...shape]]));
}

/** Outputs of a forward pass on images [n, h, w, 3], and the features whose sum times cos(0, 1, 2, ...) is differentiated. */
export type Forward = (x: tf.Tensor4D, weights: Record<string, tf.Tensor>) => { outputs: Record<string, tf.Tensor>; features: tf.Tensor };

export const engines = ['onnxruntime', 'onnxruntime, weights constant', 'tf.js cpu'] as const;

/** Outputs of the network with the reference's weights and images, and `gradient <name>` of each parameter (not with constant weights). */
export async function runNetwork(engine: typeof engines[number], { parameters }: { readonly parameters: readonly ParameterSpec[] }, shape: readonly number[], forward: Forward): Promise<NamedTensors> {
  const weights = referenceTensors(parameters), images = referenceImages(shape);
  const trained = parameters.filter((p) => p.kind === 'parameter').map((p) => p.name);
  const image = (given: Record<string, tf.Tensor>): tf.Tensor4D => tf.transpose(given['images']!, [0, 2, 3, 1]) as tf.Tensor4D;
  if (engine === 'onnxruntime, weights constant') {
    const program = await compileInference((given, constants) => forward(image(given), constants).outputs, { images: { shape } }, weights, { threads: 1 });
    try { return await program.run({ images }); } finally { await program.dispose(); }
  }
  const step = (given: Record<string, tf.Tensor>): Record<string, tf.Tensor> => {
    const { outputs } = forward(image(given), given);
    const gradients = tf.grads((...values: tf.Tensor[]) => {
      const { features } = forward(image(given), { ...given, ...Object.fromEntries(trained.map((name, i) => [name, values[i]!])) });
      return tf.sum(tf.mul(tf.reshape(features, [-1]), tf.cos(tf.range(0, features.size))));
    })(trained.map((name) => given[name]!));
    return { ...outputs, ...Object.fromEntries(gradients.map((gradient, i) => [`gradient ${trained[i]!}`, gradient])) };
  };
  const inputs = { images, ...weights };
  if (engine === 'tf.js cpu') return reference(step, inputs);
  const program = await compile(step, Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, { shape: t.shape }])), { threads: 1 });
  try { return await program.run(inputs); } finally { await program.dispose(); }
}

/** Compares values with `expected`, from element `from` on, relative to the largest expected magnitude. @default tolerance 1e-4 */
export function expectValues(actual: HostTensor | undefined, expected: unknown, from = 0, tolerance = 1e-4): void {
  const wanted = expected as number[], scale = Math.max(...wanted.map(Math.abs));
  expect(actual!.data.length).toBeGreaterThanOrEqual(from + wanted.length);
  wanted.forEach((value, i) => expect(Math.abs(actual!.data[from + i]! - value) / scale, `element ${from + i}: ${actual!.data[from + i]!} for ${value}`).toBeLessThan(tolerance));
}

/** Norm and direction of every parameter's gradient within 1e-3, gradients that are rounding errors only excepted. */
export function expectGradients(results: NamedTensors, { gradients }: NetworkReference): void {
  const largest = Math.max(...Object.values(gradients).map(([norm]) => norm));
  for (const [name, [norm, product]] of Object.entries(gradients)) {
    const actual = results[`gradient ${name}`]!.data as Float32Array;
    const scale = Math.max(norm, 1e-4 * largest);
    expect(Math.abs(Math.hypot(...actual) - norm) / scale, `norm of the gradient of ${name}`).toBeLessThan(1e-3);
    expect(Math.abs(actual.reduce((sum, g, i) => sum + g * noise(2000, i), 0) - product) / scale, `gradient of ${name} along a direction`).toBeLessThan(1e-3);
  }
}
