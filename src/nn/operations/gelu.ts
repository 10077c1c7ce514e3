import * as tf from '@tensorflow/tfjs';

/**
 * x Φ(x), Φ the normal distribution function: the exact GELU (Hendrycks and Gimpel 2016; torch's default), not the tanh approximation.
 * Written so that onnxruntime runs it as one operator where no gradient is taken; the gradient, Φ + x φ, needs one exponential more.
 */
export function gelu<T extends tf.Tensor>(x: T): T {
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const share = tf.add(tf.erf(tf.div(input, Math.SQRT2)), 1);
    save([input, share]);
    return {
      value: tf.mul(tf.mul(input, share), 0.5),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [xs, twice] = saved as [tf.Tensor, tf.Tensor];
        const density = tf.mul(tf.exp(tf.mul(tf.square(xs), -0.5)), 1 / Math.sqrt(2 * Math.PI));
        return tf.mul(dy, tf.add(tf.mul(twice, 0.5), tf.mul(xs, density)));
      },
    };
  });
  return operation(x) as T;
}
