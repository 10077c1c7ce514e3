import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import { currentDevice, parseDevice } from '../../src/runtime/device.ts';
import { sessionOptions, threadCount } from '../../src/runtime/onnxruntime.ts';
import { sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';

/**
 * `node --import tsx bench/gpu/time.ts --folder folder [--device cpu|cuda[:n]] [--runs n] [--warmup n]`
 *
 * Runs step.onnx and loop.onnx of export.ts in onnxruntime-node, the state going in and out of every run as in `Program`, and prints
 * one line of JSON: for each the losses of all steps and the seconds of every run behind the warm-up.
 */
const { values } = parseArgs({ options: { folder: { type: 'string', default: '.' }, device: { type: 'string' }, runs: { type: 'string', default: '20' }, warmup: { type: 'string', default: '5' } } });
const { device, reason } = await currentDevice(parseDevice(values.device, '--device'));
const program = JSON.parse(await readFile(path.join(values.folder, 'program.json'), 'utf8')) as { steps: number; learningRate: number };
const tensors = async (name: string): Promise<NamedTensors> => decodeSafetensors(await readFile(path.join(values.folder, `${name}.safetensors`)), name).tensors;
const initial = await tensors('state'), batches = await tensors('batches');

const prefix = 'state/momentum/';
const tensorOf = ({ dtype, data, shape }: HostTensor): ort.Tensor => new ort.Tensor(dtype, data, shape);
const learningRates = (shape: readonly number[]): ort.Tensor => new ort.Tensor('float32', new Float32Array(sizeOf(shape)).fill(program.learningRate), shape);
const batchOf = (k: number): Record<string, ort.Tensor> => ({
  ...Object.fromEntries(Object.entries(batches).map(([name, { dtype, data, shape }]) => {
    const one = shape.slice(1), length = sizeOf(one);
    return [name, new ort.Tensor(dtype, data.subarray(k * length, (k + 1) * length), one)];
  })),
  learningRate: learningRates([]),
});
const everything = { ...Object.fromEntries(Object.entries(batches).map(([name, tensor]) => [name, tensorOf(tensor)])), learningRate: learningRates([program.steps]) };

async function time(file: string, inputsOf: (run: number) => Record<string, ort.Tensor>, runs: number, warmup: number): Promise<{ losses: number[]; seconds: number[]; load: number }> {
  const begun = performance.now();
  const session = await ort.InferenceSession.create(path.join(values.folder, file), sessionOptions(threadCount(), device));
  const load = (performance.now() - begun) / 1000;
  const known = new Set(session.inputNames), losses: number[] = [], seconds: number[] = [];
  // Momentum begins at zero and is not in the file.
  const momentum = session.inputNames.filter((name) => name.startsWith(prefix)).map((name) => {
    const { dtype, data, shape } = initial[name.slice(prefix.length)]!;
    return [name, new ort.Tensor(dtype, new Float32Array(data.length), shape)] as const;
  });
  let state: Record<string, ort.Tensor> = { ...Object.fromEntries(Object.entries(initial).map(([name, tensor]) => [`state/${name}`, tensorOf(tensor)])), ...Object.fromEntries(momentum) };
  for (let run = 0; run < runs + warmup; run++) {
    const start = performance.now();
    const results = await session.run(Object.fromEntries(Object.entries({ ...inputsOf(run), ...state }).filter(([name]) => known.has(name))));
    if (run >= warmup) seconds.push((performance.now() - start) / 1000);
    losses.push(...results['loss']!.data as Float32Array);
    state = Object.fromEntries(Object.entries(state).map(([name, tensor]) => [name, results[`${name}:next`] ?? tensor]));
  }
  await session.release();
  return { losses, seconds, load };
}

const runs = Number(values.runs), warmup = Number(values.warmup);
const single = await time('step.onnx', (run) => batchOf(run % program.steps), runs, warmup);
const looped = await time('loop.onnx', () => everything, Math.max(1, Math.round(runs / program.steps)), Math.ceil(warmup / program.steps));
console.log(JSON.stringify({ engine: `onnxruntime-node ${ort.env.versions.node}`, device, reason, single, looped }));
