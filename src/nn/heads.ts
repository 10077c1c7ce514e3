import * as tf from '@tensorflow/tfjs';
import { batchNorm, lambda, linear, sequential } from './layers.ts';
import type { Module } from './module.ts';

const relu = lambda<tf.Tensor2D>((x) => tf.relu(x));
const norm = (name: string, width: number, affine = true): Module<tf.Tensor2D, tf.Tensor2D> => batchNorm(name, width, { affine }) as Module<tf.Tensor2D, tf.Tensor2D>;

/** MoCo v2: FC b - ReLU - FC b; no batch norm (spec §6.1). */
export function mocov2Projector(name: string, inputs: number, hidden: number, output: number): Module<tf.Tensor2D, tf.Tensor2D> {
  return sequential(linear(`${name}.fc1`, inputs, hidden), relu, linear(`${name}.fc2`, hidden, output));
}

/** MoCo v3 with a ResNet: FC nb - BN - ReLU - FC nb - BN without affine. `normalize: false` leaves batch norm out (exact comparisons of distributed runs). */
export function mocov3Projector(name: string, inputs: number, hidden: number, output: number, normalize = true): Module<tf.Tensor2D, tf.Tensor2D> {
  return sequential<tf.Tensor2D>(
    linear(`${name}.fc1`, inputs, hidden, { bias: !normalize }), ...(normalize ? [norm(`${name}.bn1`, hidden)] : []), relu,
    linear(`${name}.fc2`, hidden, output, { bias: !normalize }), ...(normalize ? [norm(`${name}.bn2`, output, false)] : []));
}

/** MoCo v3 with a ResNet: FC nb - BN - ReLU - FC nb. */
export function mocov3Predictor(name: string, inputs: number, hidden: number, output: number, normalize = true): Module<tf.Tensor2D, tf.Tensor2D> {
  return sequential<tf.Tensor2D>(
    linear(`${name}.fc1`, inputs, hidden, { bias: !normalize }), ...(normalize ? [norm(`${name}.bn1`, hidden)] : []), relu,
    linear(`${name}.fc2`, hidden, output, { bias: false }));
}
