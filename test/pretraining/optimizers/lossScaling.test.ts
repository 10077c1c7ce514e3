import * as tf from '@tensorflow/tfjs';
import { afterEach, describe, expect, it } from 'vitest';
import { lossScalingState, withLossScaling } from '../../../src/pretraining/optimizers/lossScaling.ts';
import { compile, compileLoop, createState } from '../../../src/runtime/compile.ts';
import type { CompileOptions, Program } from '../../../src/runtime/program.ts';
import { stack } from '../../../src/runtime/repeated.ts';
import { float32, scalar, type NamedTensors } from '../../../src/tensor.ts';
import { batch, initialState, scalableStep, signature, step } from '../../runtime/smallStep.ts';

const programs: Program[] = [];
const kept = async (program: Promise<Program>): Promise<Program> => { const p = await program; programs.push(p); return p; };
afterEach(async () => { await Promise.all(programs.splice(0).map((p) => p.dispose())); });

/** w -> w - 0.5 dL/dw with L = x w; the gradient is x. A counter counts the steps that were taken. */
const descend = (options: CompileOptions & { growthInterval?: number }, initial = 8): Promise<Program> => kept(compile(
  withLossScaling(({ x }, { w, taken }, gradients) => {
    const { value, grads } = gradients(() => tf.mul(w!, x!), [w!]);
    w!.assign(tf.sub(w!, tf.mul(grads['w']!, 0.5)));
    taken!.assign(tf.add(taken!, 1));
    return { loss: value };
  }, options),
  { x: { shape: [] } }, { ...options, state: createState({ w: scalar(3), taken: scalar(0), ...lossScalingState(initial) }), device: 'cpu', threads: 1 }));

const values = (program: Program): Record<string, number> => Object.fromEntries(Object.entries(program.state.snapshot()).map(([name, { data }]) => [name, data[0]!]));

describe.each(['onnxruntime', 'tensorflow'] as const)('loss scaling (%s)', (executor) => {
  it('changes neither loss nor update where nothing overflows', async () => {
    const program = await descend({ executor });
    const { loss, lossScale, skipped } = await program.run({ x: scalar(4) });
    expect([loss, lossScale, skipped].map((t) => t!.data[0])).toEqual([12, 8, 0]);
    expect(values(program)).toEqual({ w: 1, taken: 1, 'lossScale/scale': 8, 'lossScale/goodSteps': 1 });
  });

  it('skips the whole step and halves the scale when a gradient is not finite; doubles it after enough good steps', async () => {
    const program = await descend({ executor, growthInterval: 3 });
    await program.run({ x: scalar(4) });
    for (const [x, scale] of [[Infinity, 8], [NaN, 4], [1e38, 2]] as const) {
      const { lossScale, skipped } = await program.run({ x: scalar(x) });
      // 1e38 times the scale is beyond float32.
      expect([lossScale!.data[0], skipped!.data[0]]).toEqual([scale, x === 1e38 && scale < 3.4 ? 0 : 1]);
      if (skipped!.data[0] === 1) expect(values(program)).toEqual({ w: 1, taken: 1, 'lossScale/scale': scale / 2, 'lossScale/goodSteps': 0 });
    }
    program.state.restore({ w: scalar(1), taken: scalar(1), ...lossScalingState(2) });
    const scales: number[] = [];
    for (let k = 0; k < 7; k++) scales.push((await program.run({ x: scalar(0) }))['lossScale']!.data[0]!);
    expect(scales).toEqual([2, 2, 2, 4, 4, 4, 8]);
    expect(values(program)).toEqual({ w: 1, taken: 8, 'lossScale/scale': 8, 'lossScale/goodSteps': 1 });
  });
});

describe('a step in float16', () => {
  const withScale = (initial: number): NamedTensors => ({ ...initialState(), ...lossScalingState(initial) });
  const open = (initial: number, precision: 'float16' | 'float32'): Promise<Program> =>
    kept(compile(withLossScaling(scalableStep), signature, { state: createState(withScale(initial)), precision, device: 'cpu', threads: 1 }));

  it('begins with a scale that overflows, finds one that does not, and then trains as float32 does', async () => {
    const program = await open(2 ** 24, 'float16'), before = program.state.snapshot();
    let skippedSteps = 0;
    while ((await program.run(batch(0)))['skipped']!.data[0] === 1) {
      skippedSteps++;
      expect(skippedSteps).toBeLessThan(24);
      const now = program.state.snapshot();
      expect(now['lossScale/scale']!.data[0]).toBe(2 ** (24 - skippedSteps));
      for (const name of Object.keys(initialState())) expect(now[name], name).toEqual(before[name]);
    }
    expect(skippedSteps).toBeGreaterThan(2);
    const plain = await kept(compile(step, signature, { state: createState(initialState()), device: 'cpu', threads: 1 }));
    await plain.run(batch(0));
    for (let k = 1; k < 6; k++) {
      const [a, b] = [await program.run(batch(k)), await plain.run(batch(k))];
      expect(Math.abs(a['loss']!.data[0]! / b['loss']!.data[0]! - 1)).toBeLessThan(1e-2);
    }
  });

  it('keeps gradients that would vanish without a scale', async () => {
    // d/dw of 1e-9 x w, through a product in float16 whose smallest number is 6e-8.
    const tiny = (initial: number): Promise<Program> => kept(compile(withLossScaling(({ x }, { w }, gradients) => {
      const { grads } = gradients(() => tf.mul(tf.sum(tf.matMul(x as tf.Tensor2D, w! as tf.Tensor as tf.Tensor2D)), 1e-9), [w!]);
      return { gradient: grads['w']! };
    }), { x: { shape: [1, 2] } }, { state: createState({ w: float32([1, 1], [2, 1]), ...lossScalingState(initial) }), precision: 'float16', device: 'cpu', threads: 1 }));
    const x = float32([2, 3], [1, 2]);
    const [without, scaled] = [await (await tiny(1)).run({ x }), await (await tiny(2 ** 16)).run({ x })];
    expect([...without['gradient']!.data]).toEqual([0, 0]);
    expect(scaled['gradient']!.data[0]! / 2e-9).toBeCloseTo(1, 2);
    expect(scaled['gradient']!.data[1]! / 3e-9).toBeCloseTo(1, 2);
  });

  it('handles the scale inside a loop of steps as single steps do', async () => {
    const single = await open(2 ** 24, 'float16');
    const looped = await kept(compileLoop(withLossScaling(scalableStep), signature, { state: createState(withScale(2 ** 24)), steps: 8, precision: 'float16', device: 'cpu', threads: 1 }));
    const batches = Array.from({ length: 8 }, (_, k) => batch(k)), scales: number[] = [];
    for (const given of batches) scales.push((await single.run(given))['lossScale']!.data[0]!);
    expect((await looped.run(stack(batches)))['lossScale']).toEqual(float32(scales, [8]));
    expect(new Set(scales).size).toBeGreaterThan(1);
    expect(looped.state.snapshot()).toEqual(single.state.snapshot());
  });
});
