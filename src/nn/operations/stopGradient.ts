import * as tf from '@tensorflow/tfjs';

/** The same values as a constant: gradients neither pass nor are computed. Costs nothing. */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  // What tf.js's Identity kernel does, without the tape.
  tf.engine().backend.incRef(x.dataId);
  return tf.engine().makeTensorFromTensorInfo({ dataId: x.dataId, shape: x.shape, dtype: x.dtype }) as T;
}
