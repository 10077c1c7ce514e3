import * as tf from '@tensorflow/tfjs';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inference as inferenceMode, initialize, scoped } from '../../src/nn/module.ts';
import { resnet } from '../../src/nn/resnet.ts';
import { sgd } from '../../src/pretraining/optimizers/sgd.ts';
import { Random } from '../../src/random.ts';
import { compile, compileInference, compileLoop, createState, writeProgram } from '../../src/runtime/compile.ts';
import type { Program } from '../../src/runtime/program.ts';
import { stack } from '../../src/runtime/repeated.ts';
import { float32, int32, scalar, sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';
import { batch, initialState, signature, step as smallStep } from '../runtime/smallStep.ts';
import { pythonWith } from './support/python.ts';

/** Checks a model and runs it; tensors travel as JSON. */
const program = `
import json, sys
import numpy, onnx, onnxruntime
file, inputs = sys.argv[1], json.load(open(sys.argv[2]))
onnx.checker.check_model(file, full_check=True)
session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
names = {node.name for node in session.get_inputs()}
feeds = {name: numpy.array(t['data'], dtype=t['dtype']).reshape(t['shape']) for name, t in inputs.items() if name in names}
outputs = session.run(None, feeds)
json.dump({node.name: {'shape': list(value.shape), 'data': value.ravel().astype('float64').tolist()} for node, value in zip(session.get_outputs(), outputs)}, open(sys.argv[3], 'w'))
`;

const found = pythonWith({ onnx: '1.23.2', onnxruntime: '1.32.0', numpy: '2.4.6' });
if ('missing' in found) console.warn(`skipped: ${found.missing}`);

let folder: string;
beforeAll(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'genview-saved-')); });
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

interface Returned { readonly shape: number[]; readonly data: number[] }

function inPython(file: string, inputs: NamedTensors): Record<string, Returned> {
  if (!('python' in found)) throw new Error(found.missing);
  const given = path.join(folder, 'inputs.json'), result = path.join(folder, 'outputs.json');
  writeFileSync(given, JSON.stringify(Object.fromEntries(Object.entries(inputs).map(([name, { shape, dtype, data }]) => [name, { shape, dtype, data: [...data] }]))));
  execFileSync(found.python, ['-c', program, file, given, result], { stdio: ['ignore', 'inherit', 'inherit'] });
  return JSON.parse(readFileSync(result, 'utf8')) as Record<string, Returned>;
}

function expectSame(found: Returned, expected: HostTensor, label: string): void {
  expect(found.shape, label).toEqual([...expected.shape]);
  const scale = Array.from(expected.data).reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
  const largest = found.data.reduce((most, v, i) => Math.max(most, Math.abs(v - expected.data[i]!)), 0);
  expect(largest / scale, label).toBeLessThan(1e-4);
}

const random = new Random('saved programs');
const normal = (shape: readonly number[]): HostTensor<'float32'> => float32(random.normals(sizeOf(shape)), shape);

const network = resnet({ stem: { width: 16, kernel: 3, stride: 1, pool: true }, stages: [{ width: 16, blocks: 1, stride: 1 }, { width: 32, blocks: 1, stride: 2 }], norm: 'batch' });
const classes = 5, images = [4, 20, 20, 3] as const;

/** Cross entropy of a linear layer behind the network; SGD with momentum. */
async function trainingProgram(): Promise<Program> {
  const weights: NamedTensors = { ...initialize(network, 1), head: normal([classes, network.featureSize]) };
  const trained = [...network.parameters.filter(({ kind }) => kind === 'parameter').map(({ name }) => name), 'head'];
  const momentum = Object.fromEntries(trained.map((name) => [`momentum/${name}`, float32(new Float32Array(sizeOf(weights[name]!.shape)), weights[name]!.shape)]));
  return compile((inputs, state) => {
    const mode = { training: true, updateBuffer: (name: string, value: tf.Tensor): void => { state[name]!.assign(value); } };
    const { value, grads } = tf.variableGrads(() => {
      const logits = tf.matMul(network.apply(inputs['images'] as tf.Tensor4D, state, mode), state['head'] as tf.Tensor2D, false, true);
      return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(inputs['labels'] as tf.Tensor1D, classes)), 1)));
    }, trained.map((name) => state[name]!));
    for (const name of trained) {
      const next = sgd(state[name]!, grads[name]!, state[`momentum/${name}`]!, inputs['learningRate']!, { momentum: 0.9, weightDecay: 1e-4 });
      state[name]!.assign(next.parameter);
      state[`momentum/${name}`]!.assign(next.buffer);
    }
    return { loss: value };
  }, { images: { shape: images }, labels: { shape: [images[0]], dtype: 'int32' }, learningRate: { shape: [] } }, { state: createState({ ...weights, ...momentum }), name: 'train', threads: 1 });
}

describe.skipIf('missing' in found)('onnx.checker and the onnxruntime of Python accept', () => {
  it.each([['in the file', undefined], ['beside it', 1000]])('a network, its weights %s', async (_where, externalAbove) => {
    const weights = initialize(network, 1), x = normal(images);
    const compiled = await compileInference(({ x: pixels }, w) => ({ features: network.apply(pixels as tf.Tensor4D, w, inferenceMode) }), { x: { shape: images } }, weights, { name: 'network', threads: 1 });
    const at = path.join(folder, `network-${externalAbove ?? 'whole'}`, 'network.onnx');
    mkdirSync(path.dirname(at));
    await compiled.save(at, externalAbove === undefined ? {} : { externalAbove });
    expect(readdirSync(path.dirname(at))).toHaveLength(externalAbove === undefined ? 1 : 2);
    if (externalAbove !== undefined) expect(statSync(at).size).toBeLessThan(50_000);
    expectSame(inPython(at, { x })['features']!, (await compiled.run({ x }))['features']!, 'features');
    await compiled.dispose();
  });

  it('a training step: its loss and all its new state are ours', async () => {
    const compiled = await trainingProgram(), at = path.join(folder, 'step.onnx');
    await compiled.save(at);
    const before = compiled.state.snapshot();
    const inputs: NamedTensors = { images: normal(images), labels: int32([0, 3, 1, 4], [4]), learningRate: scalar(0.1) };
    const outputs = inPython(at, { ...inputs, ...Object.fromEntries(Object.entries(before).map(([name, value]) => [`state/${name}`, value])) });
    const { loss } = await compiled.run(inputs);
    expectSame(outputs['loss']!, loss!, 'loss');
    const next = scoped(outputs, 'state/');
    expect(Object.keys(next)).toHaveLength(Object.keys(before).length);
    for (const [name, value] of Object.entries(next)) expectSame(value, compiled.state.get(name.replace(/:next$/, '')), name);
    await compiled.dispose();
  });

  it('three steps in one Loop', async () => {
    const looped = await compileLoop(smallStep, signature, { state: createState(initialState()), steps: 3, name: 'loop', threads: 1 }), at = path.join(folder, 'loop.onnx');
    await looped.save(at);
    const inputs = stack([0, 1, 2].map(batch));
    const outputs = inPython(at, { ...inputs, ...Object.fromEntries(Object.entries(looped.state.snapshot()).map(([name, value]) => [`state/${name}`, value])) });
    expectSame(outputs['loss']!, (await looped.run(inputs))['loss']!, 'losses');
    for (const name of looped.state.names()) expectSame(outputs[`state/${name}:next`]!, looped.state.get(name), name);
    await looped.dispose();
  });

  it('products in bfloat16, which only a GPU computes: checked, not run', async () => {
    const at = path.join(folder, 'brain.onnx');
    await writeProgram(at, smallStep, signature, { state: createState(initialState()), precision: 'bfloat16', name: 'brain' });
    if ('python' in found) execFileSync(found.python, ['-c', 'import onnx, sys; onnx.checker.check_model(sys.argv[1], full_check=True)', at], { stdio: ['ignore', 'inherit', 'inherit'] });
  });

  it('products in half precision', async () => {
    const narrow = await compile(smallStep, signature, { state: createState(initialState()), precision: 'float16', device: 'cpu', name: 'half', threads: 1 }), at = path.join(folder, 'half.onnx');
    await narrow.save(at);
    const state = Object.fromEntries(Object.entries(narrow.state.snapshot()).map(([name, value]) => [`state/${name}`, value]));
    const { loss } = inPython(at, { ...batch(0), ...state });
    expect(loss!.data[0]! / (await narrow.run(batch(0)))['loss']!.data[0]!).toBeCloseTo(1, 2);
    await narrow.dispose();
  });

  it('weights of more than 2 GB, which no .onnx file holds by itself', async () => {
    // Five tables of 450 MB; what is looked up in them depends on all.
    const rows = 440_000, width = 256;
    const tables: NamedTensors = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`table${i}`, float32(new Float32Array(rows * width).fill(i + 1), [rows, width])]));
    for (const { data } of Object.values(tables)) data[(rows - 1) * width] = 0.5;
    const compiled = await compileInference(({ row }, w) => ({ y: tf.concat(Object.values(w).map((table) => tf.gather(table, row as tf.Tensor1D)), 1) }), { row: { shape: [1], dtype: 'int32' } }, tables, { name: 'tables', threads: 1 });
    expect(() => compiled.toOnnx()).toThrow(/^tables: its weights take 2\.3 GB, an \.onnx file alone at most 2\.1; save\(\)/);
    const at = path.join(folder, 'large', 'tables.onnx');
    mkdirSync(path.dirname(at));
    await compiled.save(at);
    expect(statSync(at).size).toBeLessThan(5000);
    const row = int32([rows - 1], [1]), { y } = await compiled.run({ row });
    expect(Array.from({ length: 5 }, (_, i) => Array.from(y!.data.subarray(i * width, i * width + 2)))).toEqual([1, 2, 3, 4, 5].map((value) => [0.5, value]));
    expectSame(inPython(at, { row })['y']!, y!, 'y');
    await compiled.dispose();
  });
});

it('a session needs little more than one copy of the weights', async () => {
  // In a model of its own each would be copied three times: into the message, by the parser, and by the session.
  const side = 2000, count = 12, bytes = 4 * count * side * side;
  const weights: NamedTensors = Object.fromEntries(Array.from({ length: count }, (_, i) => [`w${i}`, float32(random.normals(side * side), [side, side])]));
  const before = process.memoryUsage().rss;
  const compiled = await compileInference(({ x }, w) => ({ y: Object.values(w).reduce((y, m) => tf.matMul(y as tf.Tensor2D, m as tf.Tensor2D, false, true), x!) }), { x: { shape: [1, side] } }, weights, { threads: 1 });
  await compiled.run({ x: float32(new Float32Array(side).fill(1), [1, side]) });
  const added = (process.memoryUsage().rss - before) / bytes;
  console.log(`weights ${(bytes / 1e6).toFixed(0)} MB; compiling and running them added ${added.toFixed(2)} times as much`);
  expect(added).toBeLessThan(1.6);
  await compiled.dispose();
});
