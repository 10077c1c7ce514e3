import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { microsoftDomain } from '../../src/compiler/blocking.ts';
import { emit, readModel } from '../../src/compiler/emit.ts';
import { record } from '../../src/compiler/record.ts';
import { attention } from '../../src/nn/operations/attention.ts';
import { compile } from '../../src/runtime/compile.ts';

const inputs = { q: { shape: [2, 5, 6] }, k: { shape: [2, 4, 6] }, v: { shape: [2, 4, 6] } };
const forward = ({ q, k, v }: Record<string, tf.Tensor>): tf.Tensor => attention(q!, k!, v!, { heads: 3 });
const gradient = ({ q, k, v }: Record<string, tf.Tensor>): tf.Tensor => tf.grad((x: tf.Tensor) => tf.sum(tf.square(forward({ q: x, k: k!, v: v! }))))(q!);
const operators = (fn: (given: Record<string, tf.Tensor>) => tf.Tensor, fused: boolean): string[] =>
  readModel(emit('test', record((given) => ({ y: fn(given) }), { name: 'test', inputs }).outputs, { fused }).bytes).graph.node.map(({ op_type, domain }) => `${domain}${domain && ':'}${op_type}`);

describe('attention in a model', () => {
  it('is one operator of onnxruntime where nothing reads the probabilities', () => {
    expect(operators(forward, true)).toEqual([`${microsoftDomain}:MultiHeadAttention`]);
  });

  it('is made of standard operators where a gradient reads them', () => {
    const ops = operators(gradient, true);
    expect(ops.some((op) => op.includes(':'))).toBe(false);
    expect(ops.filter((op) => op === 'Softmax')).toHaveLength(1);
  });

  it('is made of standard operators in a saved program, which gives the same numbers', async () => {
    expect(operators(forward, false)).toEqual(['Mul', 'Reshape', 'Transpose', 'Reshape', 'Transpose', 'MatMul', 'Softmax', 'Reshape', 'Transpose', 'MatMul', 'Transpose', 'Reshape']);
    const program = await compile((given) => ({ y: forward(given) }), inputs, { threads: 1 });
    expect(readModel(program.toOnnx()).graph.node.some(({ domain }) => domain !== '')).toBe(false);
    await program.dispose();
  });

  it('says what shapes it needs', () => {
    const x = tf.zeros([2, 5, 6]);
    expect(() => attention(x, tf.zeros([2, 4, 5]), x, { heads: 3 })).toThrow('attention of queries [2, 5, 6], keys [2, 4, 5] and values [2, 5, 6]: give [n, s, d], [n, l, d] and [n, l, e]');
    expect(() => attention(x, x, x, { heads: 4 })).toThrow('6 and 6 channels do not divide into 4 heads');
  });
});
