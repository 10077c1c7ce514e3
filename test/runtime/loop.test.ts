import * as tf from '@tensorflow/tfjs';
import { afterEach, describe, expect, it } from 'vitest';
import { compile, compileLoop, createState } from '../../src/runtime/compile.ts';
import type { Program } from '../../src/runtime/program.ts';
import { stack } from '../../src/runtime/repeated.ts';
import { float32, int32, scalar, type NamedTensors } from '../../src/tensor.ts';
import { expectClose } from '../compiler/agreement.ts';
import { countOperators, decodeModel } from './model.ts';
import { batch, initialState, signature, step } from './smallStep.ts';

const programs: Program[] = [];
const kept = async (program: Promise<Program>): Promise<Program> => { const p = await program; programs.push(p); return p; };
afterEach(async () => { await Promise.all(programs.splice(0).map((p) => p.dispose())); });

describe('K steps in one program', () => {
  it('equal K programs of one step, bit for bit: losses and state, with one thread and with two', async () => {
    for (const threads of [1, 2]) {
      const single = await kept(compile(step, signature, { state: createState(initialState()), threads }));
      const looped = await kept(compileLoop(step, signature, { state: createState(initialState()), threads, steps: 5 }));
      for (let round = 0; round < 2; round++) {
        const batches = Array.from({ length: 5 }, (_, k) => batch(5 * round + k)), losses: number[] = [];
        for (const given of batches) losses.push((await single.run(given))['loss']!.data[0]!);
        const { loss } = await looped.run(stack(batches));
        expect(loss).toEqual(float32(losses, [5]));
        expect(looped.state.snapshot()).toEqual(single.state.snapshot());
      }
    }
  });

  it('are one Loop around the step, whose images are taken one after another', async () => {
    const looped = await kept(compileLoop(step, signature, { state: createState(initialState()), steps: 3, name: 'train' }));
    expect(countOperators(looped.toOnnx())).toEqual({ Loop: 1 });
    const { input, output, node } = decodeModel(looped.toOnnx()).graph;
    expect(looped.inputs).toEqual({ images: { shape: [3, 4, 8, 8, 3] }, labels: { shape: [3, 4], dtype: 'int32' }, rate: { shape: [3] } });
    expect(input.map(({ name }) => name)).toEqual(expect.arrayContaining(['images', 'labels', 'rate', 'state/conv', 'state/queue']));
    expect(output.map(({ name }) => name)).toEqual([...Object.keys(initialState()).map((name) => `state/${name}:next`), 'loss']);
    const body = node[0]!.attribute[0]!.g!;
    expect(body.node.filter(({ op_type }) => op_type === 'Gather').map(({ input: read }) => read[0])).toEqual(expect.arrayContaining(['images', 'labels', 'rate']));
    expect(body.output).toHaveLength(1 + output.length);
  });

  it('read state that they do not change, assign state that they do not read, and return inputs and whole numbers', async () => {
    const initial: NamedTensors = { frozen: float32([2, 3], [2]), last: float32([0, 0], [2]), count: int32([7], [1]), idle: scalar(1) };
    const looped = await kept(compileLoop(({ x, flag }, s) => {
      s['last']!.assign(tf.mul(x!, s['frozen']!));
      s['count']!.assign(tf.add(s['count']!, tf.scalar(1, 'int32')));
      return { x: x!, count: s['count']!, both: tf.logicalAnd(flag!, tf.greater(x!, 1)), constant: tf.scalar(4) };
    }, { x: { shape: [2] }, flag: { shape: [2], dtype: 'bool' } }, { state: createState(initial), steps: 2 }));
    const results = await looped.run({ x: float32([1, 2, 3, 4], [2, 2]), flag: { shape: [2, 2], dtype: 'bool', data: Uint8Array.of(1, 1, 0, 1) } });
    expect(results).toEqual({
      x: float32([1, 2, 3, 4], [2, 2]), count: int32([8, 9], [2, 1]),
      both: { shape: [2, 2], dtype: 'bool', data: Uint8Array.of(0, 1, 0, 1) }, constant: float32([4, 4], [2]),
    });
    expect(looped.state.snapshot()).toEqual({ ...initial, last: float32([6, 12], [2]), count: int32([9], [1]) });
  });

  it('do the same eagerly', async () => {
    const looped = await kept(compileLoop(step, signature, { state: createState(initialState()), steps: 3 }));
    const eager = await kept(compileLoop(step, signature, { state: createState(initialState()), steps: 3, executor: 'tensorflow' }));
    const inputs = stack([0, 1, 2].map(batch));
    expect(eager.inputs).toEqual(looped.inputs);
    expectClose((await eager.run(inputs))['loss']!, (await looped.run(inputs))['loss']!, 1e-4, 'loss');
    for (const name of looped.state.names()) expectClose(eager.state.get(name), looped.state.get(name), 1e-4, name);
    expect(() => eager.toOnnx()).toThrow(/has no ONNX form/);
  });

  it('refuse inputs that are not stacked, and a number of steps that is none', async () => {
    const looped = await kept(compileLoop(step, signature, { state: createState(initialState()), steps: 2, name: 'train' }));
    await expect(looped.run(batch(0))).rejects.toMatchObject({ code: 'ProgramInput', message: 'train: input "images" is float32[4, 8, 8, 3], expected float32[2, 4, 8, 8, 3]' });
    await expect(compileLoop(step, signature, { state: createState(initialState()), steps: 0, name: 'train' })).rejects.toMatchObject({ code: 'ProgramInput', message: 'train: steps is 0; give a whole number of at least 1' });
    expect(() => stack([batch(0), {}])).toThrow(/"images" of step 1 is not like that of step 0/);
  });
});
