import * as tf from '@tensorflow/tfjs';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { expect, it, vi } from 'vitest';
import { Random } from '../../src/random.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
import type { StepFunction } from '../../src/runtime/program.ts';
import { float32, int32, sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';
import { nodeHeaders } from './support/nodeHeaders.ts';

const version = '4.22.0';
const tensorflow = '2.21.0';
const folder = path.join(os.tmpdir(), `genview-tfjs-node-${version}`);
const scope = path.join(folder, 'node_modules', '@tensorflow');
const engine = path.join(scope, 'tfjs-node');

/** What the addon needs of the Python package: the C interface's headers and the two libraries. */
const unpack = `
import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob('wheel/*.whl')[0])
headers = tuple('tensorflow/include/' + part for part in ('tensorflow/c/', 'tensorflow/core/platform/', 'tsl/platform/', 'xla/tsl/c/'))
libraries = ('tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2')
for name in wheel.namelist():
    if name in libraries or name.endswith('.h') and name.startswith(headers): wheel.extract(name)
`;

/**
 * Makes `@tensorflow/tfjs-node` in a folder of its own, once, and keeps it. Its prebuilt addon is on a host that cannot
 * be reached from everywhere, so the addon is built here, for the libtensorflow that PyPI's package holds.
 * @returns why not, when it cannot be had
 */
function install(): string | undefined {
  if (process.platform !== 'linux') return 'the addon is built on Linux only';
  let step = '';
  const run = (what: string, command: string, args: readonly string[]): void => {
    step = what;
    execFileSync(command, args, { cwd: folder, stdio: 'pipe', timeout: 600_000 });
  };
  try {
    if (!existsSync(path.join(folder, 'complete'))) {
      const headers = nodeHeaders();
      if (headers === undefined) return 'the headers of Node (node_api.h) are not installed';
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true });
      run('g++', 'g++', ['--version']);
      run('Python', 'python3', ['--version']);
      writeFileSync(path.join(folder, 'package.json'), '{"private":true}\n');
      run(`@tensorflow/tfjs-node ${version} from npm`, 'npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', `@tensorflow/tfjs-node@${version}`]);
      run(`tensorflow-cpu ${tensorflow} from PyPI`, 'python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', 'wheel', `tensorflow-cpu==${tensorflow}`]);
      run('the libraries of tensorflow-cpu', 'python3', ['-c', unpack]);
      rmSync(path.join(folder, 'wheel'), { recursive: true });
      const addon = path.join(engine, 'lib', 'napi-v8'), libraries = path.join(folder, 'tensorflow');
      mkdirSync(addon, { recursive: true });
      run('the addon', 'g++', [
        '-shared', '-fPIC', '-O1', '-std=c++17', '-DNAPI_VERSION=8', `-I${headers}`, `-I${path.join(libraries, 'include')}`,
        ...['backend', 'binding'].map((name) => path.join(engine, 'binding', `tfjs_${name}.cc`)), '-o', path.join(addon, 'tfjs_binding.node'),
        ...['cc', 'framework'].map((name) => path.join(libraries, `libtensorflow_${name}.so.2`)), `-Wl,-rpath,${libraries}`,
      ]);
      writeFileSync(path.join(folder, 'complete'), '');
    }
    // The backend registers with the tf.js that its package finds: that must be ours.
    step = 'links to tf.js';
    const ours = path.resolve(path.dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs/package.json')), '..');
    for (const name of readdirSync(ours)) {
      rmSync(path.join(scope, name), { recursive: true, force: true });
      symlinkSync(path.join(ours, name), path.join(scope, name));
    }
    return undefined;
  } catch (error) {
    const { message, stderr } = error as Error & { stderr?: Buffer };
    const said = stderr?.toString().trim().split('\n').at(-1);
    return `${step} cannot be had here: ${said || message.split('\n')[0]}`;
  }
}

const missing = install();
if (missing) console.warn(`skipped: ${missing}`);

const random = new Random('tensorflow executor');
const normal = (shape: readonly number[], scale = 1): HostTensor<'float32'> => float32(random.normals(sizeOf(shape)).map((v) => v * scale), shape);

const weightNames = ['conv1', 'depthwise', 'scale', 'shift', 'conv2', 'linear'];

/** Convolutions, batch statistics, pooling, cross entropy, momentum; `engines` hears which backend computes it. */
const trainingStep = (engines: Set<string>): StepFunction => (inputs, state) => {
  engines.add(tf.getBackend());
  const weights = weightNames.map((name) => state[name]!);
  const logits = (): tf.Tensor2D => {
    const first = tf.conv2d(inputs['images'] as tf.Tensor4D, state['conv1']! as tf.Tensor as tf.Tensor4D, 1, 1);
    const channels = tf.depthwiseConv2d(first as tf.Tensor4D, state['depthwise']! as tf.Tensor as tf.Tensor4D, 1, 1);
    const { mean, variance } = tf.moments(channels, [0, 1, 2]);
    const normalized = tf.add(tf.mul(tf.mul(tf.sub(channels, mean), tf.rsqrt(tf.add(variance, 1e-5))), state['scale']!), state['shift']!);
    const pooled = tf.maxPool(tf.relu(normalized) as tf.Tensor4D, 3, 2, 1);
    const second = tf.relu(tf.conv2d(pooled, state['conv2']! as tf.Tensor as tf.Tensor4D, 2, [[0, 0], [1, 1], [1, 1], [0, 0]]));
    return tf.matMul(tf.mean(second, [1, 2]) as tf.Tensor2D, state['linear']! as tf.Tensor as tf.Tensor2D);
  };
  const { value, grads } = tf.variableGrads(() => tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits()), tf.oneHot(inputs['labels']! as tf.Tensor1D, 5)), 1))), weights as tf.Variable[]);
  for (const name of weightNames) {
    state[`momentum/${name}`]!.assign(tf.add(tf.mul(state[`momentum/${name}`]!, 0.9), grads[name]!));
    state[name]!.assign(tf.sub(state[name]!, tf.mul(state[`momentum/${name}`]!, 0.05)));
  }
  return { loss: value, logits: logits() };
};

/** The largest difference, relative to the largest magnitude. */
function difference(a: HostTensor, b: HostTensor): number {
  expect(a.shape).toEqual(b.shape);
  let largest = 0, scale = 0;
  for (let i = 0; i < b.data.length; i++) { largest = Math.max(largest, Math.abs(a.data[i]! - b.data[i]!)); scale = Math.max(scale, Math.abs(b.data[i]!)); }
  expect(scale).toBeGreaterThan(0);
  return largest / scale;
}

it.skipIf(missing)('libtensorflow trains as onnxruntime does', async () => {
  vi.stubEnv('GENVIEW_TFJS_NODE', engine);
  vi.stubEnv('TF_CPP_MIN_LOG_LEVEL', '2');
  const weights: NamedTensors = { conv1: normal([3, 3, 3, 8], 0.3), depthwise: normal([3, 3, 8, 1], 0.3), scale: normal([8]), shift: normal([8], 0.1), conv2: normal([3, 3, 8, 12], 0.2), linear: normal([12, 5], 0.3) };
  const initial: NamedTensors = { ...weights, ...Object.fromEntries(Object.entries(weights).map(([name, { shape }]) => [`momentum/${name}`, float32(new Float32Array(sizeOf(shape)), shape)])) };
  const signature = { images: { shape: [6, 13, 12, 3] }, labels: { shape: [6], dtype: 'int32' } } as const;
  const backends = { onnxruntime: new Set<string>(), tensorflow: new Set<string>() };
  const [compiled, eager] = await Promise.all((['onnxruntime', 'tensorflow'] as const).map((executor) => compile(trainingStep(backends[executor]), signature, { state: createState(initial), executor })));
  try {
    for (let k = 0; k < 3; k++) {
      const inputs = { images: normal([6, 13, 12, 3]), labels: int32(Int32Array.from({ length: 6 }, () => random.integer(5)), [6]) };
      const [expected, found] = [await compiled!.run(inputs), await eager!.run(inputs)];
      for (const name of ['loss', 'logits']) expect(difference(found[name]!, expected[name]!), `${name} of step ${k}`).toBeLessThan(1e-4);
      for (const name of Object.keys(initial)) expect(difference(eager!.state.get(name), compiled!.state.get(name)), `${name} after step ${k}`).toBeLessThan(1e-4);
    }
    expect([...backends.tensorflow]).toEqual(['tensorflow']);
    expect([...backends.onnxruntime]).not.toContain('tensorflow');
  } finally {
    await Promise.all([compiled!.dispose(), eager!.dispose()]);
    vi.unstubAllEnvs();
  }
});
