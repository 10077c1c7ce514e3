import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { blockedDomain, writeNodes } from '../../src/compiler/blocking.ts';
import { emit, readModel, type EmitOptions } from '../../src/compiler/emit.ts';
import { Graph, type Node, type Value } from '../../src/compiler/graph.ts';
import { channelBlock } from '../../src/runtime/channelBlock.ts';
import { loadApi } from '../../src/runtime/native/api.ts';
import { NativeSession } from '../../src/runtime/native/session.ts';
import { emptyTensor } from '../../src/tensor.ts';
import { expectAgreement, normal } from './agreement.ts';

const attributes = { kernel_shape: [3, 3], strides: [1, 1], dilations: [1, 1], pads: [1, 1, 1, 1], group: 1 };
const conv = (g: Graph, x: Value, filter: Value): Value => g.node('Conv', [x, filter], attributes, [x.shape[0]!, filter.shape[0]!, ...x.shape.slice(2)]);
const opsOf = (nodes: readonly Node[], block: number): string[] =>
  writeNodes(nodes, naming, { block }).map(({ op, domain }) => (domain === blockedDomain ? `blocked ${op}` : op));

const reordered = ['Reshape', 'Transpose', 'Reshape', 'Transpose', 'Reshape', 'Transpose', 'Reshape'];
const naming = { of: (value: Value): string => value.name ?? `_${value.id}`, ints: (values: readonly number[]): string => values.join(), constant: (name: string): string => name };

describe('writeNodes', () => {
  it('reorders an image once for all convolutions that read it, and a filter once for all images', () => {
    const g = new Graph(), x = g.input('x', [1, 16, 8, 8], 'float32'), filter = g.input('f', [16, 16, 3, 3], 'float32'), other = g.input('h', [32, 16, 3, 3], 'float32');
    const first = conv(g, x, filter), second = conv(g, x, other), third = conv(g, first, filter);
    expect(opsOf([first.node!, second.node!, third.node!], 16)).toEqual([
      'blocked ReorderInput', ...reordered, 'blocked Conv', 'blocked ReorderOutput',
      ...reordered, 'blocked Conv', 'blocked ReorderOutput',
      'blocked ReorderInput', 'blocked Conv', 'blocked ReorderOutput',
    ]);
  });

  it('moves a filter whose channels are exchanged once', () => {
    const g = new Graph(), x = g.input('x', [1, 32, 8, 8], 'float32'), filter = g.input('f', [32, 16, 3, 3], 'float32');
    const gradient = conv(g, x, g.transpose(filter, [1, 0, 2, 3]));
    const reorder = writeNodes([gradient.node!], naming, { block: 16 }).filter(({ op }) => op === 'Reshape' || op === 'Transpose');
    expect(reorder.map(({ op }) => op)).toEqual(['Reshape', 'Transpose', 'Reshape', 'Transpose', 'Reshape']);
    expect(reorder[0]!.inputs).toEqual(['f', '32,16,9']);
  });

  it('rotates a filter as it moves it, and leaves out what only the unblocked convolution needed', () => {
    const g = new Graph(), x = g.input('x', [1, 32, 8, 8], 'float32'), filter = g.input('f', [32, 16, 3, 3], 'float32');
    const rotated = g.reshape(g.slice(g.reshape(filter, [32, 16, 9]), [0, 0, 8], [32, 16, 9], [1, 1, -1]), [32, 16, 3, 3]);
    const gradient = conv(g, x, g.transpose(rotated, [1, 0, 2, 3])), nodes = [rotated.node!.inputs[0]!.node!, rotated.node!, gradient.node!.inputs[1]!.node!, gradient.node!];
    const written = writeNodes(nodes, naming, { block: 16 }, [naming.of(gradient)]);
    expect(written.map(({ op }) => op)).toEqual(['ReorderInput', 'Reshape', 'Transpose', 'Slice', 'Reshape', 'Transpose', 'Reshape', 'Conv', 'ReorderOutput']);
    expect(written[1]!.inputs).toEqual(['f', '32,16,9']);
  });

  it('takes a filter whose rows alone are turned as it is', () => {
    const g = new Graph(), x = g.input('x', [1, 16, 8, 8], 'float32'), filter = g.input('f', [16, 16, 3, 3], 'float32');
    const turned = g.reshape(g.slice(g.reshape(filter, [16, 48, 3]), [0, 0, 2], [16, 48, 3], [1, 1, -1]), [16, 16, 3, 3]);
    const written = writeNodes([turned.node!.inputs[0]!.node!, turned.node!, conv(g, x, g.transpose(turned, [1, 0, 2, 3])).node!], naming, { block: 16 });
    expect(written.filter(({ op }) => op === 'Slice')).toHaveLength(1);
    expect(written.find(({ outputs }) => outputs[0]!.endsWith(':taps'))!.inputs[0]).toBe(naming.of(turned));
  });

  it('leaves alone what onnxruntime blocks itself, what does not divide into blocks, and everything when there are none', () => {
    const g = new Graph(), x = g.input('x', [1, 16, 8, 8], 'float32'), odd = g.input('odd', [24, 16, 3, 3], 'float32'), filter = g.input('f', [16, 16, 3, 3], 'float32');
    const constant = g.weight('w', [16, 16, 3, 3], 'float32', new Float32Array(16 * 16 * 9));
    expect(opsOf([conv(g, x, odd).node!, conv(g, x, constant).node!], 16)).toEqual(['Conv', 'Conv']);
    expect(opsOf([conv(g, x, odd).node!], 8)).toContain('blocked Conv');
    expect(opsOf([conv(g, x, filter).node!], 0)).toEqual(['Conv']);
    expect(opsOf([conv(g, x, g.input('point', [16, 16, 1, 1], 'float32')).node!], 16)).toEqual(['Conv']);
  });
});

describe('blocked convolutions', () => {
  it('agree with tf.js in value and gradient: strides, dilation, one-sided padding, kernels of 1 to 5', async () => {
    for (const [kernel, stride, dilation, pad] of [[3, 1, 1, 'same'], [3, 2, 1, 'same'], [1, 1, 1, 'valid'], [1, 2, 1, 'valid'], [5, 1, 1, 'same'], [3, 1, 2, 'same']] as const) {
      await expectAgreement((x, filter) => tf.conv2d(x as tf.Tensor4D, tf.transpose(filter!, [2, 3, 1, 0]) as tf.Tensor4D, stride, pad, 'NHWC', dilation),
        [normal([2, 7, 9, 32]), normal([16, 32, kernel, kernel], 0.2)], { tolerance: 2e-5, gradient: dilation === 1 }); // tf.js has no gradient with dilation
    }
  });

  it('are what this machine runs in training, and never what a saved program holds', async () => {
    const block = await channelBlock();
    expect([0, 8, 16]).toContain(block);
    const g = new Graph(), result = conv(g, g.input('x', [1, 16, 8, 8], 'float32'), g.input('f', [16, 16, 3, 3], 'float32'));
    const domains = (size: number): string[] => readModel(emit('test', { result }, { block: size }).bytes).graph.node.map(({ domain }) => domain);
    expect(domains(block).includes(blockedDomain)).toBe(block > 0);
    expect(domains(0)).toEqual(['']);
  });
});

it('constant filters blocked by us give what onnxruntime gives, and their former layout is not in the model', async (context) => {
  const block = await channelBlock();
  if (block === 0) { console.warn('skipped: onnxruntime has no blocked convolutions on this processor (it needs AVX2)'); context.skip(); }
  const g = new Graph(), x = g.input('x', [2, 32, 5, 7], 'float32'), weights = normal([48, 32, 3, 3]), y = conv(g, x, g.weight('w', weights.shape, 'float32', weights.data));
  const result = g.node('Relu', [y], {}, [2, 48, 5, 7]), image = normal([2, 32, 5, 7]), api = await loadApi();
  const run = async (options: EmitOptions): Promise<Float32Array> => {
    const session = NativeSession.create(api, emit('test', { result }, options).bytes, 1), out = emptyTensor('float32', result.shape);
    await session.run({ x: image }, { result: out });
    await session.dispose();
    return out.data as Float32Array;
  };
  const { graph } = readModel(emit('test', { result }, { block, compact: true }).bytes);
  expect(graph.initializer.map(({ name }) => name)).not.toContain('w');
  expect(graph.node.filter(({ domain }) => domain === blockedDomain).map(({ op_type }) => op_type)).toEqual(['ReorderInput', 'Conv', 'ReorderOutput']);
  const [ours, theirs] = [await run({ block, compact: true }), await run({})];
  expect(Math.max(...ours.map((v, i) => Math.abs(v - theirs[i]!)))).toBeLessThan(1e-4);
  expect(Math.max(...theirs)).toBeGreaterThan(1);
});
