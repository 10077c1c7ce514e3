import { setImmediate as tick } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/random.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
import type { Program, StepFunction } from '../../src/runtime/program.ts';
import { float32, int32, scalar, sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const names = ['conv', 'scale', 'linear'] as const;
const normal = (random: Random, shape: readonly number[], size: number): HostTensor => float32(random.normals(sizeOf(shape)).map((v) => v * size), shape);

/** A small classifier, its momentum, and the moving average of its weights. */
function initialState(): NamedTensors {
  const random = new Random('endurance');
  const weights: NamedTensors = { conv: normal(random, [8, 3, 3, 3], 0.3), scale: normal(random, [8], 1), linear: normal(random, [4, 8], 0.4) };
  return {
    ...weights,
    ...Object.fromEntries(names.map((name) => [`momentum/${name}`, float32(new Float32Array(weights[name]!.data.length), weights[name]!.shape)])),
    ...Object.fromEntries(names.map((name) => [`average/${name}`, weights[name]!])),
    queue: normal(random, [16, 8], 1),
  };
}

const step: StepFunction = ({ images, labels, rate }, state) => {
  const features = (): tf.Tensor2D => {
    const y = tf.conv2d(images as tf.Tensor4D, tf.transpose(state['conv']!, [2, 3, 1, 0]) as tf.Tensor4D, 2, 'same');
    const { mean, variance } = tf.moments(y, [0, 1, 2]);
    return tf.mean(tf.relu(tf.mul(tf.mul(tf.sub(y, mean), tf.rsqrt(tf.add(variance, 1e-5))), state['scale']!)), [1, 2]);
  };
  const { value, grads } = tf.variableGrads(() => {
    const logits = tf.matMul(features(), state['linear'] as tf.Tensor2D, false, true);
    return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(labels as tf.Tensor1D, 4)), 1)));
  }, names.map((name) => state[name]!));
  const kept = tf.slice(state['queue']!, [0, 0], [12, 8]);
  state['queue']!.assign(tf.concat([features(), kept], 0));
  for (const name of names) {
    state[`momentum/${name}`]!.assign(tf.add(tf.mul(state[`momentum/${name}`]!, 0.9), grads[name]!));
    state[name]!.assign(tf.sub(state[name]!, tf.mul(state[`momentum/${name}`]!, rate!)));
    state[`average/${name}`]!.assign(tf.add(tf.mul(state[`average/${name}`]!, 0.99), tf.mul(state[name]!, 0.01)));
  }
  return { loss: value };
};

const open = (threads: number): Promise<Program> =>
  compile(step, { images: { shape: [4, 8, 8, 3] }, labels: { shape: [4], dtype: 'int32' }, rate: { shape: [] } }, { state: createState(initialState()), threads, device: 'cpu' });

/** The batch of step k: the same in every run. */
function batch(k: number): NamedTensors {
  const random = new Random('endurance', k % 50);
  return { images: normal(random, [4, 8, 8, 3], 1), labels: int32([0, 1, 2, 3].map(() => random.integer(4)), [4]), rate: scalar(0.01) };
}
const batches = Array.from({ length: 50 }, (_, k) => batch(k));

async function train(program: Program, from: number, to: number): Promise<number[]> {
  const losses: number[] = [];
  for (let k = from; k < to; k++) losses.push((await program.run(batches[k % 50]!))['loss']!.data[0]!);
  return losses;
}

/** Bytes after everything unused has been collected. */
async function memory(): Promise<{ rss: number; buffers: number; heap: number }> {
  for (let i = 0; i < 3; i++) { collectGarbage(); await tick(); }
  const { rss, arrayBuffers, heapUsed } = process.memoryUsage();
  return { rss, buffers: arrayBuffers, heap: heapUsed };
}

describe('a training step', () => {
  it('needs no more memory after 10,000 steps than after 2,000', async () => {
    const program = await open(1);
    await train(program, 0, 2_000);
    const before = await memory(), tensors = tf.memory().numTensors;
    const losses = await train(program, 2_000, 10_000);
    const after = await memory();
    console.log(`8,000 steps: resident ${((after.rss - before.rss) / 1e6).toFixed(1)} MB, buffers ${((after.buffers - before.buffers) / 1e3).toFixed(1)} kB, heap ${((after.heap - before.heap) / 1e3).toFixed(1)} kB`);
    // The state alone (7 kB) would make 60 MB of arrays; a leak of one tensor or of one closure a step would show.
    expect(after.buffers - before.buffers).toBeLessThan(100e3);
    expect(after.heap - before.heap).toBeLessThan(2e6);
    expect(after.rss - before.rss).toBeLessThan(20e6);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(losses.every(Number.isFinite)).toBe(true);
    await program.dispose();
  });

  it('gives the same bytes in two runs of 300 steps, with one thread and with two', async () => {
    for (const threads of [1, 2]) {
      const runs: { losses: number[]; state: NamedTensors }[] = [];
      for (let i = 0; i < 2; i++) {
        const program = await open(threads);
        runs.push({ losses: await train(program, 0, 300), state: program.state.snapshot() });
        await program.dispose();
      }
      expect(runs[1]).toEqual(runs[0]);
    }
  });

  it('continues from a snapshot exactly as it would have without one', async () => {
    const program = await open(1);
    await train(program, 0, 40);
    const saved = program.state.snapshot();
    const losses = await train(program, 40, 80), end = program.state.snapshot();
    program.state.restore(saved);
    expect(program.state.snapshot()).toEqual(saved);
    expect(await train(program, 40, 80)).toEqual(losses);
    expect(program.state.snapshot()).toEqual(end);

    const other = await open(1);
    other.state.restore(saved);
    expect(await train(other, 40, 80)).toEqual(losses);
    await Promise.all([program.dispose(), other.dispose()]);
  });
});
