import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import * as tf from '@tensorflow/tfjs';
import { compile } from '../../src/runtime/compile.ts';
import { loadApi } from '../../src/runtime/native/api.ts';
import { NativeSession } from '../../src/runtime/native/session.ts';
import { emit } from '../../src/compiler/emit.ts';
import { Graph } from '../../src/compiler/graph.ts';
import { emptyTensor, float32 } from '../../src/tensor.ts';

async function steps(binding: string): Promise<{ losses: { loss: number[] }[]; state: Record<string, number[]> }> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('bindingStep.ts', import.meta.url))],
    { env: { ...process.env, GENVIEW_BINDING: binding, GENVIEW_EXECUTOR: 'onnxruntime', GENVIEW_DEVICE: 'cpu' } });
  return JSON.parse(stdout) as Awaited<ReturnType<typeof steps>>;
}

it('training through the C API, in place, gives the bytes that onnxruntime-node gives', async () => {
  const [native, node] = [await steps('native'), await steps('node')];
  expect(native.losses.map(({ loss }) => Number.isFinite(loss[0]))).toEqual([true, true, true]);
  expect(new Set(native.losses.map(({ loss }) => loss[0])).size).toBe(3);
  expect(native).toEqual(node);
});

it('a result is written into the array that is given for it, also over the input it replaces', async () => {
  const graph = new Graph(), x = graph.input('x', [2, 3], 'float32');
  const session = NativeSession.create(await loadApi(), emit('double', { y: graph.node('Add', [x, x], {}, [2, 3]) }).bytes, 1);
  const values = float32([1, 2, 3, 4, 5, 6], [2, 3]);
  await session.run({ x: values }, { y: values });
  expect([...values.data]).toEqual([2, 4, 6, 8, 10, 12]);
  const result = emptyTensor('float32', [2, 3]);
  await session.run({ x: values }, { y: result });
  expect([...result.data]).toEqual([4, 8, 12, 16, 20, 24]);
  await session.dispose();
});

it('what onnxruntime refuses is an error with its message', async () => {
  const api = await loadApi();
  expect(() => NativeSession.create(api, Uint8Array.of(1, 2, 3), 1)).toThrow(/protobuf/i);
  const graph = new Graph(), x = graph.input('x', [2], 'float32');
  const session = NativeSession.create(api, emit('negate', { y: graph.node('Neg', [x], {}, [2]) }).bytes, 1);
  await expect(session.run({ x: float32([1, 2, 3], [3]) }, { y: emptyTensor('float32', [2]) })).rejects.toThrow(/invalid dimensions/i);
  await session.dispose();
});

it('denormal results become zero', async () => {
  const program = await compile(({ x, y }) => ({ product: tf.mul(x!, y!) }), { x: { shape: [2] }, y: { shape: [2] } }, { threads: 1 });
  const { product } = await program.run({ x: float32([1e-30, 1e-30], [2]), y: float32([1e-10, 1], [2]) });
  expect([...product!.data]).toEqual([0, Math.fround(1e-30)]);
  await program.dispose();
});

it('timers get their turn between runs', async () => {
  const program = await compile(({ x }) => ({ y: tf.neg(x!) }), { x: { shape: [1] } }, { threads: 1 });
  let ticks = 0;
  const timer = setInterval(() => { ticks++; }, 1), before = process.cpuUsage();
  // 60 ms of work, however long that takes on a busy machine.
  for (let used = process.cpuUsage(before); used.user + used.system < 60_000; used = process.cpuUsage(before)) await program.run({ x: float32([1], [1]) });
  clearInterval(timer);
  expect(ticks).toBeGreaterThan(5);
  await program.dispose();
});

it('a program that has been disposed of says so, and can be disposed of again', async () => {
  const program = await compile(({ x }) => ({ y: tf.neg(x!) }), { x: { shape: [1] } }, { threads: 1 });
  const pending = program.run({ x: float32([1], [1]) });
  await program.dispose();
  await expect(pending).rejects.toThrow(/disposed/);
  await program.dispose();
  await expect(program.run({ x: float32([1], [1]) })).rejects.toThrow(/disposed/);
});

it('the memory of programs that are disposed of is given back', async () => {
  const resident = async (): Promise<number> => { await new Promise((resolve) => { setTimeout(resolve, 20); }); return process.memoryUsage().rss / 2 ** 20; };
  const before = await resident();
  for (const side of [2000, 2300, 2600]) {
    const program = await compile(({ x }) => ({ y: tf.sum(tf.mul(tf.exp(tf.reshape(x!, [side, 1])), tf.sin(tf.reshape(x!, [1, side])))) }), { x: { shape: [side] } }, { threads: 1 });
    await program.run({ x: float32(new Float32Array(side).fill(0.1), [side]) });
    await program.dispose();
  }
  // The largest result between takes 26 MiB, all three 62.
  expect(await resident() - before).toBeLessThan(40);
});
