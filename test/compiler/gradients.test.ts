import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/runtime/compile.ts';
import { float32, type HostTensor } from '../../src/tensor.ts';
import { reference } from './agreement.ts';

/** Values that tf.js returned wrongly or not at all; worked out by hand. */
interface Example {
  readonly name: string;
  readonly fn: (...xs: tf.Tensor[]) => tf.Tensor;
  readonly inputs: HostTensor<'float32'>[];
  /** Of the sum of the result times 1, 2, 3, …, with respect to each input. */
  readonly gradients: number[][];
}

const vector = (...values: number[]): HostTensor<'float32'> => float32(values, [values.length]);
const matrix = (...rows: number[][]): HostTensor<'float32'> => float32(rows.flat(), [rows.length, rows[0]!.length]);

const examples: Example[] = [
  { name: 'maximum with a scalar', fn: (x, c) => tf.maximum(x!, c!), inputs: [vector(1, 5, 2), float32([3], [])], gradients: [[0, 2, 0], [4]] },
  { name: 'minimum of a row and a column', fn: (x, y) => tf.minimum(x!, y!), inputs: [matrix([1, 4]), matrix([2], [3])], gradients: [[4, 0], [2, 4]] },
  { name: 'squared difference from a vector', fn: (x, y) => tf.squaredDifference(x!, y!), inputs: [matrix([1, 2], [3, 4]), vector(0, 1)], gradients: [[2, 4, 18, 24], [-20, -28]] },
  { name: 'prelu of a vector with a slope for each row', fn: (x, a) => tf.prelu(x!, a!), inputs: [vector(-1, 2), matrix([0.5], [0.25])], gradients: [[1.25, 6], [-1, -3]] },
  { name: 'product with a matrix that all samples share', fn: (x, y) => tf.matMul(x!, y!), inputs: [float32([1, 2], [2, 1, 1]), float32([3, 4], [1, 1, 2])], gradients: [[11, 25], [7, 10]] },
  { name: 'running sum along the first axis', fn: (x) => tf.cumsum(x!, 0), inputs: [matrix([1, 2, 3], [4, 5, 6])], gradients: [[5, 7, 9, 4, 5, 6]] },
  { name: 'product over a negative axis, with zeros', fn: (x) => tf.prod(x!, -1), inputs: [matrix([2, 0, 3], [0, 0, 4])], gradients: [[0, 6, 0, 0, 0, 0]] },
  { name: 'tile of five axes', fn: (x) => tf.tile(x!, [1, 2, 1, 1, 2]), inputs: [float32([1, 2], [1, 1, 1, 2, 1])], gradients: [[1 + 2 + 5 + 6, 3 + 4 + 7 + 8]] },
  { name: 'reflected border', fn: (x) => tf.mirrorPad(x!, [[2, 1]], 'reflect'), inputs: [vector(1, 2, 3)], gradients: [[3, 2 + 4 + 6, 1 + 5]] },
  { name: 'symmetric border', fn: (x) => tf.mirrorPad(x!, [[1, 2]], 'symmetric'), inputs: [vector(1, 2, 3)], gradients: [[1 + 2, 3 + 6, 4 + 5]] },
  { name: 'backward strides', fn: (x) => tf.stridedSlice(x!, [4], [0], [-2]), inputs: [vector(1, 2, 3, 4, 5)], gradients: [[0, 0, 2, 0, 1]] },
  { name: 'a split in one part', fn: (x) => tf.split(x!, [3])[0]!, inputs: [vector(1, 2, 3)], gradients: [[1, 2, 3]] },
  { name: 'one row unstacked', fn: (x) => tf.unstack(x!)[0]!, inputs: [matrix([1, 2])], gradients: [[1, 2]] },
  { name: 'a choice by a comparison', fn: (x) => tf.where(tf.less(x!, 2), tf.mul(x!, 10), x!), inputs: [vector(1, 3)], gradients: [[10, 2]] },
  { name: 'the largest two', fn: (x) => tf.topk(x!, 2).values, inputs: [vector(1, 5, 3)], gradients: [[0, 1, 2]] },
  { name: 'a gathered element', fn: (x) => tf.gatherND(x!, tf.tensor2d([[1, 0], [1, 0]], [2, 2], 'int32')), inputs: [matrix([1, 2], [3, 4])], gradients: [[0, 0, 3, 0]] },
  { name: 'an outer product as an Einstein sum', fn: (x, y) => tf.einsum('a,b->ab', x!, y!), inputs: [vector(1, 2), vector(3, 4)], gradients: [[11, 25], [7, 10]] },
  { name: 'dilated convolution', fn: (x, f) => tf.conv2d(tf.reshape(x!, [1, 1, 5, 1]) as tf.Tensor4D, tf.reshape(f!, [1, 2, 1, 1]), 1, 'valid', 'NHWC', [1, 3]), inputs: [vector(1, 2, 3, 4, 5), vector(6, 7)], gradients: [[6, 12, 0, 7, 14], [5, 14]] },
  { name: 'log-sigmoid, which reads a clone after it was disposed of', fn: (x) => tf.logSigmoid(x!), inputs: [vector(0)], gradients: [[0.5]] },
];

describe('gradients that tf.js lacks or gets wrong', () => {
  it.each(examples)('$name, eager and compiled', async ({ fn, inputs, gradients }) => {
    const named = Object.fromEntries(inputs.map((x, i) => [`x${i}`, x]));
    const step = (given: Record<string, tf.Tensor>): Record<string, tf.Tensor> => {
      const objective = (...xs: tf.Tensor[]): tf.Tensor => { const y = fn(...xs); return tf.sum(tf.mul(y, tf.reshape(tf.range(1, y.size + 1), y.shape))); };
      return Object.fromEntries(tf.grads(objective)(Object.values(given)).map((gradient, i) => [`x${i}`, gradient]));
    };
    const program = await compile((given) => Object.fromEntries(Object.entries(step(given)).map(([key, gradient]) => [`gradient ${key}`, gradient])), Object.fromEntries(Object.entries(named).map(([key, { shape }]) => [key, { shape }])), { threads: 1 });
    const compiled = await program.run(named), eager = reference(step, named);
    await program.dispose();
    gradients.forEach((expected, i) => {
      expect([...compiled[`gradient x${i}`]!.data], 'compiled').toEqual(expected.map((v) => expect.closeTo(v, 5) as number));
      expect([...eager[`x${i}`]!.data], 'eager').toEqual(expected.map((v) => expect.closeTo(v, 5) as number));
    });
  });
});

describe('tensors without elements', () => {
  it('have gradients of zero where nothing was computed', async () => {
    const program = await compile(({ x, a, f }) => {
      const [dx, df] = tf.grads((images: tf.Tensor, filter: tf.Tensor) => tf.sum(tf.conv2d(images as tf.Tensor4D, filter as tf.Tensor4D, 1, 'same')))([x!, f!]);
      return { dx: dx!, df: df!, product: tf.matMul(a!, tf.zeros([0, 2])), padded: tf.pad(a!, [[0, 0], [1, 1]], 3), none: tf.stridedSlice(f!, [0, 0, 0, 0], [0, 3, 1, 1], [1, 1, 1, 1]), joined: tf.concat([a!, a!, tf.ones([2, 1])], 1) };
    }, { x: { shape: [0, 4, 4, 1] }, a: { shape: [2, 0] }, f: { shape: [3, 3, 1, 1] } }, { threads: 1 });
    const results = await program.run({ x: float32([], [0, 4, 4, 1]), a: float32([], [2, 0]), f: float32(new Float32Array(9).fill(1), [3, 3, 1, 1]) });
    await program.dispose();
    expect(Object.fromEntries(Object.entries(results).map(([name, { shape, data }]) => [name, [shape, [...data]]]))).toEqual({
      dx: [[0, 4, 4, 1], []], df: [[3, 3, 1, 1], Array<number>(9).fill(0)], product: [[2, 2], [0, 0, 0, 0]], padded: [[2, 2], [3, 3, 3, 3]], none: [[0, 3, 1, 1], []], joined: [[2, 1], [1, 1]],
    });
  });
});
