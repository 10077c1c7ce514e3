import * as tf from '@tensorflow/tfjs';

/** The result, the mean and 1 / sqrt(variance + epsilon), the last axis of both kept as 1. */
function normalize(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, epsilon: number): [tf.Tensor, tf.Tensor, tf.Tensor] {
  if (tf.getKernel('LayerNorm', tf.getBackend())) return tf.engine().runKernel('LayerNorm', { x, scale, shift }, { epsilon }) as unknown as [tf.Tensor, tf.Tensor, tf.Tensor];
  const mean = tf.mean(x, -1, true), centred = tf.sub(x, mean), inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
  return [tf.add(tf.mul(tf.mul(centred, inverse), scale), shift), mean, inverse];
}

/**
 * Layer norm over the last axis (Ba et al. 2016), scale (x - mean) / sqrt(variance + epsilon) + shift: one operator forward, and a gradient
 * of two means and one multiply-add over x and dy.
 *
 * @param x [..., c]
 * @param scale [c]; `shift` too
 */
export function layerNorm<T extends tf.Tensor>(x: T, scale: tf.Tensor, shift: tf.Tensor, epsilon: number): T {
  const leading = x.shape.map((_, i) => i).slice(0, -1);
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, scaleIn, shiftIn, save] = args as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const [value, mean, inverse] = normalize(input, scaleIn, shiftIn, epsilon);
    save([input, scaleIn, mean, inverse]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [xs, factor, m, inv] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const xhat = tf.mul(tf.sub(xs, m), inv), slope = tf.mul(dy, factor);
        // dx = inv (slope - mean(slope) - xhat mean(slope xhat))
        const rest = tf.add(tf.mul(xhat, tf.mean(tf.mul(slope, xhat), -1, true)), tf.mean(slope, -1, true));
        return [tf.mul(inv, tf.sub(slope, rest)), tf.sum(tf.mul(dy, xhat), leading), tf.sum(dy, leading)];
      },
    };
  });
  return operation(x, scale, shift) as T;
}
