import * as tf from '@tensorflow/tfjs';
import { ones, parameter, standardized, weight, zeros } from './layers.ts';
import type { Module } from './module.ts';

/**
 * scale (x - mean) / sqrt(variance + epsilon) + shift over the last axis. The forward pass is one node where the backend has
 * it; the gradient standardises again instead of keeping the standardised rows, and takes its sums over rows as products
 * with vectors.
 * @param x [rows, size]
 */
function normalizeRows(x: tf.Tensor2D, scale: tf.Tensor1D, shift: tf.Tensor1D, epsilon: number): tf.Tensor2D {
  const size = x.shape[1];
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, scaleIn, shiftIn, save] = args as [tf.Tensor2D, tf.Tensor1D, tf.Tensor1D, tf.GradSaveFunc];
    save([input, scaleIn]);
    return {
      value: standardized(input, epsilon, { scale: scaleIn, shift: shiftIn })[0] as tf.Tensor2D,
      gradFunc: (dy: tf.Tensor2D, saved: tf.Tensor[]) => {
        const [xs, gamma] = saved as [tf.Tensor2D, tf.Tensor1D];
        const [normal, inverse] = standardized(xs, epsilon);
        const product = tf.mul(dy, normal);
        // dx = inverse (scale dy - mean(scale dy) - normal mean(scale dy normal))
        const share = tf.reshape(tf.div(gamma, -size), [size, 1]);
        const mean = (rows: tf.Tensor): tf.Tensor => tf.mul(inverse, tf.matMul(rows as tf.Tensor2D, share as tf.Tensor2D));
        const own = tf.mul(tf.mul(dy, gamma), inverse);
        return [tf.add(own, tf.add(tf.mul(normal, mean(product)), mean(dy))), tf.sum(product, 0), tf.sum(dy, 0)];
      },
    };
  });
  return operation(x, scale, shift) as tf.Tensor2D;
}

/** Layer norm (Ba et al. 2016) over the last axis of a tensor of any rank; `<name>.weight` and `<name>.bias` are [size]. PyTorch's own epsilon is 1e-5. */
export function layerNorm<T extends tf.Tensor>(name: string, size: number, epsilon: number): Module<T, T> {
  return {
    parameters: [parameter(`${name}.weight`, [size], ones), parameter(`${name}.bias`, [size], zeros)],
    apply(x, weights) {
      const rows = tf.reshape(x, [-1, size]) as tf.Tensor2D;
      const scale = weight(weights, `${name}.weight`) as tf.Tensor1D, shift = weight(weights, `${name}.bias`) as tf.Tensor1D;
      return tf.reshape(normalizeRows(rows, scale, shift, epsilon), x.shape) as T;
    },
  };
}
