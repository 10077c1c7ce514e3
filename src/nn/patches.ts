import * as tf from '@tensorflow/tfjs';
import { buffer, parameter, weight, zeros, type Initializer } from './layers.ts';
import type { Module } from './module.ts';

export interface PatchOptions {
  /** @default true */
  readonly bias?: boolean;
  readonly initializer: Initializer;
  /** Not trained: the projection stays as it was initialised or loaded. @default false */
  readonly frozen?: boolean;
}

/**
 * Convolution whose stride is its kernel, without padding: [n, h, w, in] -> [n, h / size, w / size, out]; `<name>.weight` is
 * [out, in, size, size] as of any convolution. Computed as one matrix product of the patches, which leaves channels last, where
 * layer norm and linear layers want them, and makes the filter's gradient one product instead of one for each tap.
 */
export function patchConv2d(name: string, inputs: number, outputs: number, size: number, options: PatchOptions): Module<tf.Tensor4D, tf.Tensor4D> {
  const { bias = true, initializer, frozen = false } = options;
  const owned = frozen ? buffer : parameter;
  return {
    parameters: [owned(`${name}.weight`, [outputs, inputs, size, size], initializer), ...(bias ? [owned(`${name}.bias`, [outputs], zeros)] : [])],
    apply(x, weights) {
      const [n, h, w] = x.shape;
      if (h % size !== 0 || w % size !== 0) throw new RangeError(`${name}: ${h} x ${w} pixels do not divide into patches of ${size} x ${size}`);
      const rows = h / size, columns = w / size;
      const patches = tf.transpose(tf.reshape(x, [n, rows, size, columns, size, inputs]), [0, 1, 3, 5, 2, 4]);
      const filter = tf.reshape(weight(weights, `${name}.weight`), [outputs, inputs * size * size]) as tf.Tensor2D;
      const y = tf.matMul(tf.reshape(patches, [n * rows * columns, inputs * size * size]) as tf.Tensor2D, filter, false, true);
      return tf.reshape(bias ? tf.add(y, weight(weights, `${name}.bias`)) : y, [n, rows, columns, outputs]) as tf.Tensor4D;
    },
  };
}
