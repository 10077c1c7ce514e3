import * as tf from '@tensorflow/tfjs';

/** The gradient of an operand that was broadcast: summed over the repeated axes. */
export function unbroadcast(gradient: tf.Tensor, shape: readonly number[]): tf.Tensor {
  const missing = gradient.rank - shape.length, axes = gradient.shape.map((_, i) => i).filter((i) => i < missing || shape[i - missing] !== gradient.shape[i]);
  return tf.reshape(axes.length > 0 ? tf.sum(gradient, axes) : gradient, [...shape]);
}

const binary = (kernelName: string, slopes: (a: tf.Tensor, b: tf.Tensor) => { a: () => tf.Tensor; b: () => tf.Tensor }): tf.GradConfig => ({
  kernelName,
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, saved) => {
    const [a, b] = saved as [tf.Tensor, tf.Tensor], slope = slopes(a, b);
    return { a: () => unbroadcast(tf.mul(dy as tf.Tensor, slope.a()), a.shape), b: () => unbroadcast(tf.mul(dy as tf.Tensor, slope.b()), b.shape) };
  },
});

const float = (mask: tf.Tensor): tf.Tensor => tf.cast(mask, 'float32');

const prelu: tf.GradConfig = {
  kernelName: 'Prelu',
  inputsToSave: ['x', 'alpha'],
  gradFunc: (dy, saved) => {
    const [x, alpha] = saved as [tf.Tensor, tf.Tensor], positive = tf.greater(x, 0), d = dy as tf.Tensor;
    return {
      x: () => unbroadcast(tf.where(positive, d, tf.mul(d, alpha)), x.shape),
      alpha: () => unbroadcast(tf.where(positive, tf.zerosLike(d), tf.mul(d, x)), alpha.shape),
    };
  },
};

const batchMatMul: tf.GradConfig = {
  kernelName: 'BatchMatMul',
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, saved, attributes) => {
    const [a, b] = saved as [tf.Tensor, tf.Tensor], d = dy as tf.Tensor;
    const { transposeA, transposeB } = attributes as unknown as tf.BatchMatMulAttrs;
    return {
      a: () => unbroadcast(transposeA ? tf.matMul(b, d, transposeB, true) : tf.matMul(d, b, false, !transposeB), a.shape),
      b: () => unbroadcast(transposeB ? tf.matMul(d, a, true, transposeA) : tf.matMul(a, d, !transposeA, false), b.shape),
    };
  },
};

/** Operations of two operands that broadcast: tf.js does not sum these gradients over the repeated axes. */
export const broadcasting: readonly tf.GradConfig[] = [
  binary('Maximum', (a, b) => ({ a: () => float(tf.greaterEqual(a, b)), b: () => float(tf.less(a, b)) })),
  binary('Minimum', (a, b) => ({ a: () => float(tf.lessEqual(a, b)), b: () => float(tf.greater(a, b)) })),
  binary('SquaredDifference', (a, b) => ({ a: () => tf.mul(tf.sub(a, b), 2), b: () => tf.mul(tf.sub(b, a), 2) })),
  prelu, batchMatMul,
];
