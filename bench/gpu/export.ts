import * as tf from '@tensorflow/tfjs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { GenViewError } from '../../src/errors.ts';
import { initialize, inference } from '../../src/nn/module.ts';
import { linear } from '../../src/nn/layers.ts';
import { encodeSafetensors } from '../../src/nn/safetensors.ts';
import { lossScalingState, withLossScaling, type Gradients, type ScalableStep } from '../../src/pretraining/optimizers/lossScaling.ts';
import { sgd } from '../../src/pretraining/optimizers/sgd.ts';
import { Random } from '../../src/random.ts';
import { createState, writeProgram } from '../../src/runtime/compile.ts';
import type { StepFunction } from '../../src/runtime/program.ts';
import { float32, int32, sizeOf, type NamedTensors } from '../../src/tensor.ts';
import { networks } from './networks.ts';

/**
 * `node --import tsx bench/gpu/export.ts --network resnet18 --out folder [--batch n] [--size pixels] [--classes n] [--precision p] [--steps k]`
 *
 * Writes a training step for bench.py: `step.onnx` (and its constants), `loop.onnx` (k steps), `state.safetensors` (first state, without the momentum, which is zero), `batches.safetensors`
 * (images [k, n, 3, s, s], labels [k, n]) and `program.json`. The step: cross entropy of a linear classifier, SGD with momentum 0.9 and weight
 * decay 1e-4, batch statistics. Needs no GPU and runs nothing.
 */
const { values } = parseArgs({
  options: {
    network: { type: 'string', default: 'resnet18' }, out: { type: 'string' }, batch: { type: 'string', default: '64' }, size: { type: 'string', default: '224' },
    classes: { type: 'string', default: '1000' }, precision: { type: 'string', default: 'float32' }, steps: { type: 'string', default: '10' },
  },
});
const count = (name: 'batch' | 'size' | 'classes' | 'steps'): number => {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1) throw new GenViewError('ArgumentsInvalid', `--${name} is "${values[name]}"; give a whole number of at least 1`);
  return value;
};
const { network: networkName, out, precision } = values;
const batch = count('batch'), size = count('size'), classes = count('classes'), steps = count('steps');
if (out === undefined) throw new GenViewError('ArgumentsInvalid', '--out is missing: the folder to write to');
if (precision !== 'float32' && precision !== 'float16' && precision !== 'bfloat16') throw new GenViewError('ArgumentsInvalid', `--precision is "${precision}"; give float32, float16 or bfloat16`);
const open = networks[networkName];
if (!open) throw new GenViewError('ArgumentsInvalid', `--network is "${networkName}"; give one of ${Object.keys(networks).join(', ')}`);

const { network, head } = open(size);
const classifier = linear(head, network.featureSize, classes);
const specs = [...network.parameters, ...classifier.parameters];
const trained = specs.filter(({ kind }) => kind === 'parameter').map(({ name }) => name);

const trainingStep: ScalableStep = ({ images, labels, learningRate }, state, gradients) => {
  const mode = { training: true, updateBuffer: (name: string, value: tf.Tensor): void => { state[name]!.assign(value); } };
  const { value, grads } = gradients(() => {
    const features = network.apply(tf.transpose(images!, [0, 2, 3, 1]) as tf.Tensor4D, state, mode);
    const logits = classifier.apply(features, state, inference);
    return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(labels as tf.Tensor1D, classes)), 1)));
  }, trained.map((name) => state[name]!));
  for (const name of trained) {
    const next = sgd(state[name]!, grads[name]!, state[`momentum/${name}`]!, learningRate!, { momentum: 0.9, weightDecay: 1e-4 });
    state[name]!.assign(next.parameter);
    state[`momentum/${name}`]!.assign(next.buffer);
  }
  return { loss: value };
};
const step: StepFunction = precision === 'float16' ? withLossScaling(trainingStep) : (inputs, state) => trainingStep(inputs, state, tf.variableGrads as Gradients);

const weights = initialize({ parameters: specs }, 1);
const kept: NamedTensors = { ...weights, ...(precision === 'float16' && lossScalingState()) };
const state: NamedTensors = {
  ...kept,
  ...Object.fromEntries(trained.map((name) => [`momentum/${name}`, float32(new Float32Array(sizeOf(weights[name]!.shape)), weights[name]!.shape)])),
};
const random = new Random('gpu bench');
const batches: NamedTensors = {
  images: float32(random.normals(steps * batch * 3 * size * size), [steps, batch, 3, size, size]),
  labels: int32(Int32Array.from({ length: steps * batch }, () => random.integer(classes)), [steps, batch]),
};

await mkdir(out, { recursive: true });
const inputs = { images: { shape: [batch, 3, size, size] }, labels: { shape: [batch], dtype: 'int32' }, learningRate: { shape: [] } } as const;
const options = { state: createState(state), precision, name: networkName } as const;
await writeProgram(path.join(out, 'step.onnx'), step, inputs, options);
await writeProgram(path.join(out, 'loop.onnx'), step, inputs, { ...options, steps });
await writeFile(path.join(out, 'state.safetensors'), encodeSafetensors(kept));
await writeFile(path.join(out, 'batches.safetensors'), encodeSafetensors(batches));
await writeFile(path.join(out, 'program.json'), `${JSON.stringify({ network: networkName, head, batch, size, classes, precision, steps, learningRate: 0.001 }, undefined, 2)}\n`);
