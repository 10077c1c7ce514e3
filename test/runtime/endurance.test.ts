import { setImmediate as tick } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { compile, createState } from '../../src/runtime/compile.ts';
import type { Program } from '../../src/runtime/program.ts';
import type { NamedTensors } from '../../src/tensor.ts';
import { batch, initialState, signature, step } from './smallStep.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const open = (threads: number): Promise<Program> => compile(step, signature, { state: createState(initialState()), threads, device: 'cpu' });

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
    // The state alone (14 kB) would make 110 MB of arrays; a leak of one tensor or of one closure a step would show.
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
