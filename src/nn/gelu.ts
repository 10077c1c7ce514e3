import * as tf from '@tensorflow/tfjs';

/**
 * Gaussian error linear unit x Φ(x) with the exact (erf) distribution function (Hendrycks and Gimpel 2016; PyTorch's `GELU()`).
 * Written as onnxruntime's fusion expects it, which makes one node of the forward pass where no gradient is taken.
 */
export function gelu<T extends tf.Tensor>(x: T): T {
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const twice = tf.add(tf.erf(tf.div(input, Math.SQRT2)), 1);
    save([input, twice]);
    return {
      value: tf.mul(tf.mul(input, twice), 0.5),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [xs, distribution] = saved as [tf.Tensor, tf.Tensor];
        // Φ(x) + x φ(x), φ the density of the standard normal distribution.
        const density = tf.mul(tf.exp(tf.mul(tf.square(xs), -0.5)), 1 / Math.sqrt(2 * Math.PI));
        return tf.mul(dy, tf.add(tf.mul(distribution, 0.5), tf.mul(xs, density)));
      },
    };
  });
  return operation(x) as T;
}
