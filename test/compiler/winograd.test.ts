import * as tf from '@tensorflow/tfjs';
import { expect, it } from 'vitest';
import { emit, readModel } from '../../src/compiler/emit.ts';
import { Graph, type Value } from '../../src/compiler/graph.ts';
import { cost, largeTiles, winograd, winogradFilterGradient, winogradInputGradient } from '../../src/compiler/kernels/winograd.ts';
import { loadApi } from '../../src/runtime/native/api.ts';
import { NativeSession } from '../../src/runtime/native/session.ts';
import { emptyTensor, type NamedTensors } from '../../src/tensor.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
import { normal } from './agreement.ts';

const api = await loadApi();

async function evaluate(value: Value, feeds: NamedTensors, fused: boolean): Promise<Float32Array> {
  const { bytes, inputs } = emit('test', { value }, { fused }), session = NativeSession.create(api, bytes, 1), result = emptyTensor('float32', value.shape);
  await session.run(Object.fromEntries(inputs.map((name) => [name, feeds[name]!])), { value: result });
  await session.dispose();
  return result.data as Float32Array;
}

const relativeError = (found: Float32Array, expected: Float32Array): number =>
  found.reduce((worst, v, i) => Math.max(worst, Math.abs(v - expected[i]!)), 0) / expected.reduce((largest, v) => Math.max(largest, Math.abs(v)), 0);

it('the transforms are those of a correlation with three taps', () => {
  const { tile, input, output, filter } = largeTiles, d = [0.3, -1, 2, 0.7, -0.2, 1.1], g = [0.5, -0.25, 2];
  const products = input.map((row, k) => row.reduce((sum, b, j) => sum + b * d[j]!, 0) * filter[k]!.reduce((sum, c, j) => sum + c * g[j]!, 0));
  for (let i = 0; i < tile; i++) {
    expect(output[i]!.reduce((sum, a, k) => sum + a * products[k]!, 0)).toBeCloseTo(g.reduce((sum, v, j) => sum + v * d[i + j]!, 0), 12);
  }
});

for (const [h, w, top, left, bottom, right] of [[8, 8, 1, 1, 1, 1], [7, 5, 0, 0, 0, 0], [6, 9, 2, 0, 1, 2], [1, 3, 1, 1, 1, 1], [4, 10, 2, 2, 2, 2]] as const) {
  it(`a map of ${h} x ${w} with padding ${[top, left, bottom, right].join(', ')}: output and both gradients equal those of standard operators`, async () => {
    const n = 2, inputs = 3, outputs = 5, rows = { input: h, output: h + top + bottom - 2, before: top }, columns = { input: w, output: w + left + right - 2, before: left };
    const g = new Graph(), x = g.input('x', [n, inputs, h, w], 'float32'), filter = g.input('filter', [outputs, inputs, 3, 3], 'float32'), dy = g.input('dy', [n, outputs, rows.output, columns.output], 'float32');
    const attributes = { strides: [1, 1], dilations: [1, 1], group: 1 }, low = [2 - top, 2 - left, 2 - bottom, 2 - right];
    const conv = g.node('Conv', [x, filter], { ...attributes, kernel_shape: [3, 3], pads: [top, left, bottom, right] }, dy.shape);
    const inputGradient = g.node('ConvTranspose', [dy, filter], { ...attributes, kernel_shape: [3, 3], pads: [top, left, bottom, right] }, x.shape);
    // The filter's gradient is a convolution of x with dy, over samples in place of channels.
    const exchanged = g.node('Conv', [g.transpose(x, [1, 0, 2, 3]), g.transpose(dy, [1, 0, 2, 3])], { ...attributes, kernel_shape: [rows.output, columns.output], pads: [top, left, bottom, right] }, [inputs, outputs, 3, 3]);
    const feeds = { x: normal(x.shape, 1), filter: normal(filter.shape, 2), dy: normal(dy.shape, 3) };
    expect(Math.min(...low)).toBeGreaterThanOrEqual(0);
    for (const value of [
      winograd(g, largeTiles, x, filter, { rows, columns }, conv),
      winogradInputGradient(g, largeTiles, dy, filter, { rows, columns }, inputGradient),
      winogradFilterGradient(g, largeTiles, x, dy, { rows, columns }, g.transpose(exchanged, [1, 0, 2, 3])),
    ]) {
      const fast = await evaluate(value, feeds, true), standard = await evaluate(value, feeds, false);
      expect(Buffer.from(fast.buffer).equals(Buffer.from(standard.buffer))).toBe(false);
      expect(relativeError(fast, standard)).toBeLessThan(1e-5);
    }
  });
}

it('a training step has it for many channels on small maps, and computes what its standard operators compute', async () => {
  const shape = [8, 8, 8, 256], axis = { input: 8, output: 8, before: 1 };
  const { winograd: fast, direct } = cost(largeTiles, 8, 256, 256, { rows: axis, columns: axis });
  expect(fast).toBeLessThan(0.9 * direct);
  const program = await compile(({ x, dy }, { filter }) => {
    const convolve = (image: tf.Tensor, weights: tf.Tensor): tf.Tensor => tf.conv2d(image as tf.Tensor4D, tf.transpose(weights, [2, 3, 1, 0]) as tf.Tensor4D, 1, 'same');
    const [dx, dfilter] = tf.grads((image, weights) => convolve(image!, weights!))([x!, filter!], dy);
    return { y: convolve(x!, filter!), dx: dx!, dfilter: dfilter! };
  }, { x: { shape }, dy: { shape } }, { state: createState({ filter: normal([256, 256, 3, 3]) }), threads: 1 });
  const inputs = { x: normal(shape), dy: normal(shape) }, found = await program.run(inputs);
  const session = NativeSession.create(api, program.toOnnx(), 1), expected = Object.fromEntries(Object.entries(found).map(([name, { dtype, shape: size }]) => [name, emptyTensor(dtype, size)]));
  await session.run({ ...inputs, 'state/filter': program.state.get('filter') }, expected);
  for (const name of ['y', 'dx', 'dfilter']) {
    const error = relativeError(found[name]!.data as Float32Array, expected[name]!.data as Float32Array);
    expect(error, name).toBeGreaterThan(0);
    expect(error, name).toBeLessThan(1e-5);
  }
  await Promise.all([program.dispose(), session.dispose()]);
});

it('a model of standard operators keeps the convolution', () => {
  const g = new Graph(), x = g.input('x', [1, 4, 8, 8], 'float32'), filter = g.input('filter', [4, 4, 3, 3], 'float32'), axis = { input: 8, output: 8, before: 1 };
  const conv = g.node('Conv', [x, filter], { kernel_shape: [3, 3], strides: [1, 1], dilations: [1, 1], pads: [1, 1, 1, 1], group: 1 }, x.shape);
  const value = winograd(g, largeTiles, x, filter, { rows: axis, columns: axis }, conv);
  const operators = (fused: boolean): string[] => readModel(emit('test', { value }, { fused }).bytes).graph.node.map(({ op_type }) => op_type);
  expect(operators(false)).toContain('Conv');
  expect(operators(false)).not.toContain('MatMul');
  expect(operators(true)).not.toContain('Conv');
});
