import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import * as ort from 'onnxruntime-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compile, compileInference, compileLoop, createState, writeProgram } from '../../src/runtime/compile.ts';
import type { Program } from '../../src/runtime/program.ts';
import { float32, type NamedTensors } from '../../src/tensor.ts';
import { normal } from '../compiler/agreement.ts';
import { decodeModel } from './model.ts';
import { initialState, signature, step } from './smallStep.ts';

let folder: string;
beforeEach(() => { folder = mkdtempSync(path.join(tmpdir(), 'genview-save-')); });
afterEach(() => { rmSync(folder, { recursive: true }); });

const weights = (): NamedTensors => ({ first: normal([40, 24], 0.2), second: normal([24, 60], 0.2), bias: normal([60]) });
const inference = (given: NamedTensors): Promise<Program> => compileInference(
  ({ x }, w) => ({ y: tf.add(tf.matMul(tf.matMul(x as tf.Tensor2D, w['first'] as tf.Tensor2D), w['second'] as tf.Tensor2D), w['bias']!) }),
  { x: { shape: [3, 40] } }, given, { threads: 1 });

async function opened(file: string, x: ort.Tensor): Promise<Float32Array> {
  const session = await ort.InferenceSession.create(file);
  const { y } = await session.run({ x });
  await session.release();
  return y!.data as Float32Array;
}

describe('a saved program', () => {
  it('is one file where its constants are few', async () => {
    const program = await inference(weights()), file = path.join(folder, 'net.onnx');
    await program.save(file);
    expect(readdirSync(folder)).toEqual(['net.onnx']);
    expect(new Uint8Array(readFileSync(file))).toEqual(new Uint8Array(program.toOnnx()));
    await program.dispose();
  });

  it('has its constants in a file beside it, on pages of their own, above a limit', async () => {
    const given = weights(), program = await inference(given), file = path.join(folder, 'net.onnx');
    await program.save(file, { externalAbove: 5000 });
    const names = readdirSync(folder).toSorted();
    expect(names).toEqual([expect.stringMatching(/^net\.[0-9a-f]{12}\.data$/), 'net.onnx']);
    const { initializer } = decodeModel(readFileSync(file)).graph;
    const places = initializer.map(({ name, external_data, data_location }) => ({ name, data_location, ...Object.fromEntries(external_data.map(({ key, value }) => [key, value])) }));
    // 60 floats are too few to be worth a page.
    expect(places).toEqual([
      { name: 'first', data_location: 1, location: names[0], offset: '0', length: String(4 * 40 * 24) },
      { name: 'second', data_location: 1, location: names[0], offset: '4096', length: String(4 * 24 * 60) },
      { name: 'bias', data_location: 0 },
    ]);
    const data = readFileSync(path.join(folder, names[0]!));
    expect(data.length).toBe(3 * 4096);
    expect(new Float32Array(new Uint8Array(data.subarray(4096, 4096 + 4 * 24 * 60)).buffer)).toEqual(given['second']!.data);

    const x = normal([3, 40]);
    expect(await opened(file, new ort.Tensor('float32', x.data, [3, 40]))).toEqual((await program.run({ x }))['y']!.data);
    await program.dispose();
  });

  it('replaces an older one together with its constants, and leaves nothing else', async () => {
    const file = path.join(folder, 'net.onnx'), x = normal([3, 40]), saved: string[] = [];
    for (const given of [weights(), weights()]) {
      const program = await inference(given);
      await program.save(file, { externalAbove: 5000 });
      saved.push(...readdirSync(folder).filter((name) => name.endsWith('.data')));
      expect(await opened(file, new ort.Tensor('float32', x.data, [3, 40]))).toEqual((await program.run({ x }))['y']!.data);
      await program.save(file, { externalAbove: 5000 });
      expect(readdirSync(folder)).toHaveLength(2);
      await program.dispose();
    }
    expect(new Set(saved).size).toBe(2);
    const small = await inference(weights());
    await small.save(file);
    expect(readdirSync(folder)).toEqual(['net.onnx']);
    await expect(small.save(path.join(folder, 'missing', 'net.onnx'))).rejects.toThrow(/ENOENT/);
    await small.dispose();
  });

  it('of a training step reads and returns its state', async () => {
    const program = await compile(({ x }, s) => { s['w']!.assign(tf.add(s['w']!, x!)); return {}; }, { x: { shape: [2] } }, { state: createState({ w: float32([1, 2], [2]) }) });
    const file = path.join(folder, 'step.onnx');
    await program.save(file);
    const session = await ort.InferenceSession.create(file);
    const results = await session.run({ x: new ort.Tensor('float32', [3, 4], [2]), 'state/w': new ort.Tensor('float32', [10, 20], [2]) });
    expect([...(results['state/w:next']!.data as Float32Array)]).toEqual([13, 24]);
    await session.release();
    await program.dispose();
    const eager = await compile(({ x }) => ({ y: x! }), { x: { shape: [2] } }, { executor: 'tensorflow' });
    await expect(eager.save(file)).rejects.toMatchObject({ code: 'UnsupportedOperation' });
    expect(statSync(file).size).toBeGreaterThan(0);
  });
});

it('a step is written for another machine as it would be saved here', async () => {
  const at = (name: string): string => path.join(folder, `${name}.onnx`), state = createState(initialState());
  const [single, looped] = await Promise.all([compile(step, signature, { state, name: 'step' }), compileLoop(step, signature, { state, name: 'step', steps: 3, precision: 'float16', device: 'cpu' })]);
  await Promise.all([writeProgram(at('single'), step, signature, { state, name: 'step' }), writeProgram(at('looped'), step, signature, { state, name: 'step', steps: 3, precision: 'float16' })]);
  expect(readFileSync(at('single')).equals(single.toOnnx())).toBe(true);
  expect(readFileSync(at('looped')).equals(looped.toOnnx())).toBe(true);
  await Promise.all([single.dispose(), looped.dispose()]);
});

it('many weights are loaded from a mapped file and give the same results', async () => {
  const size = 2100, big: NamedTensors = Object.fromEntries(Array.from({ length: 4 }, (_, i) => {
    const data = new Float32Array(size * size);
    for (let k = 0; k < data.length; k++) data[k] = ((k * 7 + i * 13) % 101 - 50) / 5000;
    return [`w${i}`, float32(data, [size, size])];
  }));
  const rows = float32(Float32Array.from({ length: size }, (_, i) => (i % 5) - 2), [1, size]);
  const program = await compileInference(({ x }, w) => ({ y: Object.values(w).reduce((y, m) => tf.matMul(y as tf.Tensor2D, m as tf.Tensor2D), x!) }), { x: { shape: [1, size] } }, big, { threads: 1 });
  const { y } = await program.run({ x: rows });
  await program.dispose();
  let expected = Float64Array.from(rows.data);
  for (const { data } of Object.values(big)) {
    const next = new Float64Array(size);
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) next[j]! += expected[i]! * data[i * size + j]!;
    expected = next;
  }
  const scale = expected.reduce((largest, v) => Math.max(largest, Math.abs(v)), 0);
  expect(scale).toBeGreaterThan(0);
  expect(Math.max(...expected.map((v, i) => Math.abs(v - y!.data[i]!))) / scale).toBeLessThan(1e-4);
});
