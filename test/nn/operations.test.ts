import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import { afterEach, describe, expect, it } from 'vitest';
import { gelu } from '../../src/nn/gelu.ts';
import { layerNorm } from '../../src/nn/layerNorm.ts';
import { batchNorm, groupNorm, l2Normalize, silu } from '../../src/nn/layers.ts';
import { inference } from '../../src/nn/module.ts';
import { attention } from '../../src/nn/operations/attention.ts';
import { convolve } from '../../src/nn/operations/convolution.ts';
import { crossEntropy } from '../../src/nn/operations/crossEntropy.ts';
import { compile } from '../../src/runtime/compile.ts';
import { float32, sizeOf, type HostTensor } from '../../src/tensor.ts';
import { expectClose, reference as eagerly } from '../compiler/agreement.ts';
import { noise } from './reference.ts';

interface Case {
  shapes: number[][]; output: { shape: number[]; data: number[] }; gradients: number[][];
  options?: { stride: number; padding: number; dilation?: number; groups?: number }; labels?: number[]; heads?: number; scale?: number;
}
const cases = JSON.parse(readFileSync(new URL('../fixtures/nn/operations.json', import.meta.url), 'utf8')) as Record<string, Case>;

const last = (x: tf.Tensor): tf.Tensor4D => tf.transpose(x, [0, 2, 3, 1]) as tf.Tensor4D, first = (x: tf.Tensor): tf.Tensor => tf.transpose(x, [0, 3, 1, 2]);
/** A function of NHWC images on NCHW ones. */
const onImages = (fn: (x: tf.Tensor4D) => tf.Tensor) => (x: tf.Tensor): tf.Tensor => first(fn(last(x)));
/** PyTorch's filters [out, in / groups, h, w] as tf.js has them. */
const filterOf = (w: tf.Tensor): tf.Tensor4D => tf.transpose(w, [2, 3, 1, 0]) as tf.Tensor4D;
const weightsOf = (name: string, w: tf.Tensor, b: tf.Tensor): Record<string, tf.Tensor> => ({ [`${name}.weight`]: w, [`${name}.bias`]: b });
const convolution = ({ options }: Case) => (x: tf.Tensor, w: tf.Tensor): tf.Tensor => first(convolve(last(x), filterOf(w), options));

type Operation = (...xs: tf.Tensor[]) => tf.Tensor;
/** The operation, and the factor and shift that operations.py gives its inputs. */
const operations: Record<string, (given: Case) => { fn: Operation; inputs?: ((v: number) => number)[] }> = {
  'convolution in groups': (given) => ({ fn: convolution(given) as Operation }),
  'convolution with stride and dilation': (given) => ({ fn: convolution(given) as Operation }),
  'depthwise convolution with dilation': (given) => ({ fn: convolution(given) as Operation }),
  'convolution in groups with stride and dilation': (given) => ({ fn: convolution(given) as Operation }),
  // PyTorch's [in, out, h, w] is tf.js's [h, w, out, in].
  'transposed convolution': ({ output: { shape: [n, c, h, w] } }) => ({ fn: (x, f) => first(tf.conv2dTranspose(last(x!), tf.transpose(f!, [2, 3, 1, 0]) as tf.Tensor4D, [n!, h!, w!, c!], 2, 1, 'floor')) }),
  'maximum of windows': () => ({ fn: onImages((x) => tf.maxPool(x, 3, 2, 1, 'floor')) as Operation }),
  'average of windows': () => ({ fn: onImages((x) => tf.avgPool(x, 3, 2, 1, 'floor')) as Operation }),
  'bilinear enlargement': () => ({ fn: onImages((x) => tf.image.resizeBilinear(x, [7, 5], false, true)) as Operation }),
  'nearest enlargement': ({ output: { shape: [, , h, w] } }) => ({ fn: onImages((x) => tf.image.resizeNearestNeighbor(x, [h!, w!])) as Operation }),
  'GELU': () => ({ fn: (x) => gelu(x!), inputs: [(v) => 4 * v] }),
  'SiLU': () => ({ fn: (x) => silu(x!), inputs: [(v) => 4 * v] }),
  'softmax': () => ({ fn: (x) => tf.softmax(x!), inputs: [(v) => 20 * v] }),
  'log-softmax': () => ({ fn: (x) => tf.logSoftmax(x!), inputs: [(v) => 20 * v] }),
  'cross-entropy': ({ labels }) => ({ fn: (x) => crossEntropy(x!, tf.tensor1d(labels!, 'int32')), inputs: [(v) => 30 * v] }),
  'cross-entropy of soft targets': ({ shapes: [shape] }) => ({ fn: (x) => crossEntropy(x!, tf.softmax(tf.tensor(Array.from({ length: sizeOf(shape!) }, (_, i) => 3 * noise(1, i)), shape))), inputs: [(v) => 5 * v] }),
  'length 1': () => ({ fn: (x) => l2Normalize(x!) }),
  'length 1 where all is zero': () => ({ fn: (x) => l2Normalize(x!), inputs: [() => 0] }),
  'batch norm in training': () => ({ fn: (x, w, b) => first(batchNorm('n', 3).apply(last(x!), weightsOf('n', w!, b!), { training: true })), inputs: [(v) => 3 * v + 1, (v) => 1 + v / 2] }),
  'layer norm': () => ({ fn: (x, w, b) => layerNorm('n', 6, 1e-6).apply(x!, weightsOf('n', w!, b!), inference), inputs: [(v) => 3 * v + 1, (v) => 1 + v / 2] }),
  'group norm': () => ({ fn: (x, w, b) => first(groupNorm('n', 6, 2).apply(last(x!), weightsOf('n', w!, b!), { training: true })), inputs: [(v) => 3 * v + 1, (v) => 1 + v / 2] }),
  'self-attention': ({ heads }) => ({ fn: (q, k, v) => attention(q!, k!, v!, { heads: heads! }), inputs: [(v) => 2 * v, (v) => 2 * v] }),
  'cross-attention': ({ heads, scale }) => ({ fn: (q, k, v) => attention(q!, k!, v!, { heads: heads!, scale: scale! }) }),
};

describe('operations agree with PyTorch in value and gradient', () => {
  const programs: { dispose(): Promise<void> }[] = [];
  afterEach(async () => { for (const program of programs.splice(0)) await program.dispose(); });

  it('every case of the fixture is here', () => { expect(Object.keys(operations).sort()).toEqual(Object.keys(cases).sort()); });

  it.each(Object.keys(cases))('%s', async (name) => {
    const given = cases[name]!, { fn, inputs = [] } = operations[name]!(given), { shape, data } = given.output;
    const named = Object.fromEntries(given.shapes.map((dims, k) => [`x${k}`, float32(Float32Array.from({ length: sizeOf(dims) }, (_, i) => (inputs[k] ?? ((v) => v))(noise(k, i))), dims)]));
    const order = Object.keys(named), weights = Float32Array.from({ length: data.length }, (_, i) => Math.cos(i));
    const step = (tensors: Record<string, tf.Tensor>): Record<string, tf.Tensor> => {
      const xs = order.map((key) => tensors[key]!);
      const gradients = tf.grads((...some: tf.Tensor[]) => tf.sum(tf.mul(fn(...some), tf.tensor(weights, shape))))(xs);
      return { output: fn(...xs), ...Object.fromEntries(gradients.map((gradient, k) => [`gradient of x${k}`, gradient])) };
    };
    const expected: Record<string, HostTensor> = { output: float32(data, shape), ...Object.fromEntries(given.gradients.map((gradient, k) => [`gradient of x${k}`, float32(gradient, given.shapes[k]!)])) };
    const program = await compile(step, Object.fromEntries(order.map((key) => [key, { shape: named[key]!.shape }])), { threads: 1 });
    programs.push(program);
    const compiled = await program.run(named);
    for (const [key, value] of Object.entries(expected)) expectClose(compiled[key]!, value, 3e-5, `compiled ${key}`);
    // tf.js's cpu backend has wrong gradients at the border of a window and of resizes.
    const valueOnly = ['average of windows', 'bilinear enlargement', 'nearest enlargement'].includes(name);
    const eager = eagerly(valueOnly ? (tensors) => ({ output: fn(...order.map((key) => tensors[key]!)) }) : step, named);
    for (const [key, value] of Object.entries(eager)) expectClose(value, expected[key]!, 3e-5, `eager ${key}`);
  });

  it('forward alone, as inference runs it', async () => {
    for (const name of ['self-attention', 'cross-attention', 'GELU', 'cross-entropy', 'convolution in groups']) {
      const given = cases[name]!, { fn, inputs = [] } = operations[name]!(given);
      const named = Object.fromEntries(given.shapes.map((dims, k) => [`x${k}`, float32(Float32Array.from({ length: sizeOf(dims) }, (_, i) => (inputs[k] ?? ((v) => v))(noise(k, i))), dims)]));
      const program = await compile((tensors) => ({ output: fn(...Object.keys(named).map((key) => tensors[key]!)) }), Object.fromEntries(Object.entries(named).map(([key, x]) => [key, { shape: x.shape }])), { threads: 1 });
      programs.push(program);
      expectClose((await program.run(named))['output']!, float32(given.output.data, given.output.shape), 1e-5, name);
    }
  });
});
