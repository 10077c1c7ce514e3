import * as tf from '@tensorflow/tfjs';
import { batchNorm, lambda, linear, sequential } from './layers.ts';
import type { Module } from './module.ts';

const relu = lambda<tf.Tensor2D>((x) => tf.relu(x));
const norm = (name: string, width: number, affine = true): Module<tf.Tensor2D, tf.Tensor2D> => batchNorm(name, width, { affine }) as Module<tf.Tensor2D, tf.Tensor2D>;

/** MoCo v2: FC b - ReLU - FC b; no batch norm (spec §6.1). */
export function mocov2Projector(name: string, inputs: number, hidden: number, output: number): Module<tf.Tensor2D, tf.Tensor2D> {
  return sequential(linear(`${name}.fc1`, inputs, hidden), relu, linear(`${name}.fc2`, hidden, output));
}

export interface Mocov3HeadOptions {
  /** `false` leaves batch norm out (exact comparisons of distributed runs). @default true */
  readonly normalize?: boolean;
  /** The heads of a Vision Transformer: one hidden layer more in the projector, and a batch norm behind the predictor. @default false */
  readonly transformer?: boolean;
}

/** Linear layers `fc1`, `fc2`, … through the given widths, each but the last followed by BN and ReLU, the last by BN without affine where `last` says so. Biases stand in for BN where there is none. */
function normalizedMlp(name: string, widths: readonly number[], normalize: boolean, last: boolean): Module<tf.Tensor2D, tf.Tensor2D> {
  return sequential<tf.Tensor2D>(...widths.slice(1).flatMap((width, i) => {
    const final = i === widths.length - 2, followed = !final || last;
    return [
      linear(`${name}.fc${i + 1}`, widths[i]!, width, { bias: followed && !normalize }),
      ...(followed && normalize ? [norm(`${name}.bn${i + 1}`, width, !final)] : []),
      ...(final ? [] : [relu]),
    ];
  }));
}

/** MoCo v3: FC nb - BN - ReLU (twice for a Vision Transformer) - FC nb - BN without affine (spec §6.1). */
export function mocov3Projector(name: string, inputs: number, hidden: number, output: number, { normalize = true, transformer = false }: Mocov3HeadOptions = {}): Module<tf.Tensor2D, tf.Tensor2D> {
  return normalizedMlp(name, [inputs, hidden, ...(transformer ? [hidden] : []), output], normalize, true);
}

/** MoCo v3: FC nb - BN - ReLU - FC nb; for a Vision Transformer then BN without affine (spec §6.1). */
export function mocov3Predictor(name: string, inputs: number, hidden: number, output: number, { normalize = true, transformer = false }: Mocov3HeadOptions = {}): Module<tf.Tensor2D, tf.Tensor2D> {
  return normalizedMlp(name, [inputs, hidden, output], normalize, transformer);
}
