import * as tf from '@tensorflow/tfjs';
import * as ort from 'onnxruntime-node';
import { afterEach, describe, expect, it } from 'vitest';
import { emit } from '../../src/compiler/emit.ts';
import type { Precision } from '../../src/compiler/precision.ts';
import { record } from '../../src/compiler/record.ts';
import { compile, compileInference, compileLoop, createState } from '../../src/runtime/compile.ts';
import type { Program } from '../../src/runtime/program.ts';
import { stack } from '../../src/runtime/repeated.ts';
import { float32, type HostTensor } from '../../src/tensor.ts';
import { normal } from '../compiler/agreement.ts';
import { countOperators, decodeModel, type ModelMessage } from './model.ts';
import { batch, initialState, signature, step } from './smallStep.ts';

const programs: Program[] = [];
const kept = async (program: Promise<Program>): Promise<Program> => { const p = await program; programs.push(p); return p; };
afterEach(async () => { await Promise.all(programs.splice(0).map((p) => p.dispose())); });

const half = 10, brain = 16, full = 1;
const products = ['MatMul', 'Gemm', 'Conv', 'ConvTranspose'];

/** The types that casts of a graph cast to, by the name of the result. */
const casts = (graph: ModelMessage['graph']): Map<string, number> =>
  new Map(graph.node.filter(({ op_type }) => op_type === 'Cast').map(({ output, attribute }) => [output[0]!, attribute[0]!.i as number]));

/** Nearest number with 11 bits of mantissa; the values are far from the limits of the exponent. */
const rounded = (x: number): number => { const unit = 2 ** (Math.floor(Math.log2(Math.abs(x))) - 10); return x === 0 ? 0 : Math.round(x / unit) * unit; };

function difference(a: HostTensor, b: HostTensor): number {
  expect(a.shape).toEqual(b.shape);
  let largest = 0, scale = 0;
  for (let i = 0; i < b.data.length; i++) { largest = Math.max(largest, Math.abs(a.data[i]! - b.data[i]!)); scale = Math.max(scale, Math.abs(b.data[i]!)); }
  return largest / scale;
}

const model = (fn: (x: tf.Tensor, w: Record<string, tf.Tensor>) => tf.Tensor, shapes: Record<string, number[]>, precision: Precision) => {
  const inputs = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { shape }]));
  const { outputs } = record((given) => ({ y: fn(given['x']!, given) }), { name: 'test', inputs });
  return decodeModel(emit('test', outputs, { precision }).bytes).graph;
};

describe('half precision', () => {
  it('rounds a weight once, keeps a chain of products narrow, and returns float32', () => {
    const { node, output } = model((x, { w }) => {
      const first = tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D);
      return tf.matMul(tf.relu(first), w as tf.Tensor2D);
    }, { x: [3, 4], w: [4, 4] }, 'float16');
    expect(node.map(({ op_type, input }) => `${op_type} ${input.join(' ')}`)).toEqual(['Cast x', 'Cast w', 'Gemm x:half w:half', expect.stringMatching(/^Relu #\d+:half$/), expect.stringMatching(/^Gemm #\d+:half w:half$/), 'Cast y:half']);
    expect(node.filter(({ op_type }) => op_type === 'Cast').map(({ attribute }) => attribute[0]!.i)).toEqual([half, half, full]);
    expect(output[0]!.name).toBe('y');
  });

  it('widens what anything else reads, and moves data narrow only where products alone read it', () => {
    const { node } = model((x, { w }) => {
      const y = tf.matMul(tf.transpose(tf.slice(x, [0, 0], [2, 4]), [1, 0]) as tf.Tensor2D, w as tf.Tensor2D);
      const moved = tf.slice(x, [1, 0], [2, 4]);
      return tf.add(tf.sum(tf.exp(y)), tf.add(tf.sum(tf.matMul(moved as tf.Tensor2D, w as tf.Tensor2D, true)), tf.sum(moved)));
    }, { x: [3, 4], w: [2, 5] }, 'float16');
    const inputsOf = (op: string): string[] => node.filter(({ op_type }) => op_type === op).map(({ input }) => input[0]!.replace(/\d+/, 'n'));
    expect(inputsOf('Slice')).toEqual(['x:half', 'x']);
    expect(inputsOf('Exp')).toEqual(['#n']);
    expect(inputsOf('Gemm')).toEqual(['#n:half', '#n:half']);
  });

  it('bfloat16 leaves convolutions alone, which ONNX does not have in it', () => {
    const shapes = { x: [1, 4, 4, 8], filter: [1, 1, 8, 8], w: [8, 3] };
    const fn = (x: tf.Tensor, { filter, w }: Record<string, tf.Tensor>): tf.Tensor =>
      tf.matMul(tf.reshape(tf.conv2d(x as tf.Tensor4D, filter as tf.Tensor4D, 1, 'same'), [16, 8]) as tf.Tensor2D, w as tf.Tensor2D);
    for (const [precision, convolution, code] of [['float16', true, half], ['bfloat16', false, brain]] as const) {
      const graph = model(fn, shapes, precision);
      for (const { op_type, input } of graph.node.filter((n) => products.includes(n.op_type))) {
        expect(input.every((name) => name.endsWith(':half')), `${precision} ${op_type}`).toBe(op_type === 'Conv' ? convolution : true);
      }
      expect(new Set(casts(graph).values())).toEqual(new Set([code, full]));
    }
  });

  it('gives products to 11 bits', async () => {
    const a = normal([5, 7]), b = normal([7, 6]);
    const program = await kept(compileInference(({ x }, { w }) => ({ y: tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D) }), { x: { shape: [5, 7] } }, { w: b }, { precision: 'float16', device: 'cpu' }));
    const { y } = await program.run({ x: a });
    for (let i = 0; i < 30; i++) {
      const terms = Array.from({ length: 7 }, (_, k) => rounded(a.data[Math.floor(i / 6) * 7 + k]!) * rounded(b.data[k * 6 + i % 6]!));
      const exact = terms.reduce((sum, term) => sum + term, 0), size = terms.reduce((sum, term) => sum + Math.abs(term), 0);
      // The CPU rounds sums on the way, or leaves a rounding out, as its kernels have it.
      expect(Math.abs(y!.data[i]! - exact)).toBeLessThan(size * 2 ** -10);
    }
  });

  it('trains as float32 does, to the accuracy of its numbers; the state stays float32', async () => {
    const [whole, narrow] = await Promise.all((['float32', 'float16'] as const).map((precision) => kept(compile(step, signature, { state: createState(initialState()), precision, device: 'cpu', threads: 1 }))));
    for (let k = 0; k < 10; k++) {
      const [a, b] = [await narrow!.run(batch(k)), await whole!.run(batch(k))];
      expect(difference(a['loss']!, b['loss']!), `loss of step ${k}`).toBeLessThan(1e-2);
    }
    for (const name of whole!.state.names()) expect(difference(narrow!.state.get(name), whole!.state.get(name)), name).toBeLessThan(name.startsWith('momentum') ? 0.15 : 1e-2);
    expect([...narrow!.state.get('conv').data].some((v) => v !== rounded(v))).toBe(true);
    expect(countOperators(narrow!.toOnnx())['Cast']).toBeGreaterThan(countOperators(whole!.toOnnx())['Cast'] ?? 0);
  });

  it('works inside a loop of steps, and in a saved program', async () => {
    const looped = await kept(compileLoop(step, signature, { state: createState(initialState()), steps: 3, precision: 'float16', device: 'cpu', threads: 1 }));
    const single = await kept(compile(step, signature, { state: createState(initialState()), precision: 'float16', device: 'cpu', threads: 1 }));
    const batches = [0, 1, 2].map(batch), losses: number[] = [];
    for (const given of batches) losses.push((await single.run(given))['loss']!.data[0]!);
    expect((await looped.run(stack(batches)))['loss']).toEqual(float32(losses, [3]));
    expect(looped.state.snapshot()).toEqual(single.state.snapshot());
    const session = await ort.InferenceSession.create(single.toOnnx(), { logSeverityLevel: 3 });
    expect(session.inputMetadata.every((input) => input.isTensor && (input.type === 'float32' || input.type === 'int32'))).toBe(true);
    await session.release();
  });

  it('is refused where it cannot be had', async () => {
    const options = { state: createState(initialState()), name: 'train' };
    await expect(compile(step, signature, { ...options, precision: 'bfloat16', device: 'cpu' })).rejects.toMatchObject({ code: 'PrecisionUnsupported', message: 'train: the CPU computes nothing in bfloat16; choose float32, or a GPU' });
    await expect(compile(step, signature, { ...options, precision: 'float16', executor: 'tensorflow' })).rejects.toMatchObject({ code: 'PrecisionUnsupported' });
  });
});
