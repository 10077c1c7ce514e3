import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import { unet } from '../src/nn/unet.ts';
import { compileInference } from '../src/runtime/compile.ts';
import type { Program } from '../src/runtime/program.ts';
import { float32, sizeOf, type NamedTensors } from '../src/tensor.ts';
import { pretraining } from './engine/rows.ts';

/** A graph, and the bytes of its weights (of a training step: of all its state). */
interface Opened { readonly program: Program; readonly bytes: number }

const bytesOf = (tensors: NamedTensors): number => Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);

/** A denoising U-Net of Stable Diffusion's size on latents of 32 x 32: 905 million parameters. */
async function denoiser(threads: number): Promise<Opened & { readonly inputs: NamedTensors }> {
  const network = unet({ channels: 4, patch: 1, widths: [384, 768, 1536, 1536], blocks: [2, 2, 2, 2], groups: 32, embedding: 1536, classLabels: 2048 });
  // Random numbers from a generator would take longer than what is measured.
  const weights = Object.fromEntries(network.parameters.map(({ name, shape }) => [name, float32(new Float32Array(sizeOf(shape)).map((_, i) => ((i * 2654435761) % 1009) / 50_000 - 0.01), shape)]));
  const inputs = { sample: { shape: [1, 32, 32, 4] }, timestep: { shape: [1] }, classLabels: { shape: [1, 2048] } };
  const given = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, float32(new Float32Array(sizeOf(shape)).fill(0.1), shape)]));
  clock = performance.now();
  const program = await compileInference((x, w) => ({ noise: network.apply({ sample: x['sample'] as tf.Tensor4D, timestep: x['timestep'] as tf.Tensor1D, classLabels: x['classLabels'] as tf.Tensor2D }, w, { training: false }) }), inputs, weights, { threads, name: 'U-Net' });
  return { program, bytes: bytesOf(weights), inputs: given };
}

const step = (text: string) => async (threads: number): Promise<Opened & { readonly inputs: NamedTensors }> => {
  clock = performance.now();
  const { program, inputs } = await pretraining(text)(threads);
  return { program, inputs, bytes: bytesOf(program.state.snapshot()) };
};

const graphs = {
  'resnet50': { label: 'ResNet-50, MoCo v3 step, batch 8', open: step('pretraining: { method: mocov3, backbone: { name: resnet50, stem: imagenet }, batch: 8, augmentation: { imageSize: 224 } }') },
  'vit-base': { label: 'ViT-B/16, MoCo v3 step, batch 2', open: step('pretraining: { method: mocov3, backbone: { name: vit-base }, batch: 2, augmentation: { imageSize: 224 } }') },
  'unet': { label: 'U-Net of 905 million parameters, inference', open: denoiser },
} as const;

/** When compiling began. */
let clock = 0;
const resident = (key: 'VmRSS' | 'VmHWM'): number => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;

/**
 * `npm run bench -- large [--graphs resnet50,vit-base,unet] [--threads 2]`: seconds to record a large graph and load it into onnxruntime, and the memory that takes beside the process's own
 * before, against the size of its weights or state. Each graph has a process of its own; Linux only.
 */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: { graphs: { type: 'string', default: Object.keys(graphs).join() }, threads: { type: 'string', default: '2' }, one: { type: 'boolean', default: false } } });
  const names = values.graphs.split(',') as (keyof typeof graphs)[], unknown = names.find((name) => !(name in graphs));
  if (unknown !== undefined) throw new GenViewError('OptionInvalid', `--graphs: there is no ${unknown}; graphs are ${Object.keys(graphs).join(', ')}`);
  if (!values.one) {
    console.log('| graph | weights and state | record and load | peak memory, compiled | after one run |\n| --- | --- | --- | --- | --- |');
    for (const name of names) {
      log.info(`${graphs[name].label}`);
      const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL('main.ts', import.meta.url)), 'large', '--one', '--graphs', name, '--threads', values.threads], { stdio: 'inherit' });
      await once(child, 'exit');
    }
    return;
  }
  const { label, open } = graphs[names[0]!], before = resident('VmRSS');
  const { program, bytes, inputs } = await open(Number(values.threads));
  const seconds = (performance.now() - clock) / 1000, compiled = resident('VmHWM') - before;
  await program.run(inputs);
  const megabytes = (n: number): string => `${(n / 1e6).toFixed(0)} MB`, against = (n: number): string => `${megabytes(n)}, ${(n / bytes).toFixed(2)}x`;
  console.log(`| ${label} | ${megabytes(bytes)} | ${seconds.toFixed(1)} s | ${against(compiled)} | ${against(resident('VmHWM') - before)} |`);
  await program.dispose();
}
