import * as tf from '@tensorflow/tfjs';

/** log softmax over the last axis, without gradient: one node where the backend has it (tf.logSoftmax is five). */
function logSoftmax(x: tf.Tensor): tf.Tensor {
  return tf.getKernel('LogSoftmax', tf.getBackend()) ? tf.engine().runKernel('LogSoftmax', { logits: x }, { axis: -1 }) : tf.logSoftmax(x);
}

/**
 * -Σ labels log softmax(logits) over the last axis, one number a sample; finite for logits of any size. Its gradient is
 * (softmax Σ labels - labels) dy: nothing to cancel, however wrong or right a prediction is.
 *
 * @param logits [..., classes]
 * @param labels [...] int32: the class of each sample; or [..., classes]: one-hot or soft targets, taken as constants
 * @returns [...]
 * @throws RangeError when the shapes do not fit
 */
export function crossEntropy(logits: tf.Tensor, labels: tf.Tensor): tf.Tensor {
  const targets = labels.rank === logits.rank ? tf.cast(labels, 'float32') : tf.cast(tf.equal(tf.expandDims(labels, -1), tf.range(0, logits.shape.at(-1)!, 1, 'int32')), 'float32');
  if (targets.shape.join() !== logits.shape.join()) {
    throw new RangeError(`logits [${logits.shape.join(', ')}] need labels [${logits.shape.slice(0, -1).join(', ')}] or [${logits.shape.join(', ')}], not [${labels.shape.join(', ')}]`);
  }
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const logarithms = logSoftmax(input);
    save([logarithms, targets]);
    return {
      value: tf.neg(tf.sum(tf.mul(logarithms, targets), -1)),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [logarithm, target] = saved as [tf.Tensor, tf.Tensor];
        const total = tf.sum(target, -1, true);
        return tf.mul(tf.sub(tf.mul(tf.exp(logarithm), total), target), tf.expandDims(dy, -1));
      },
    };
  });
  return operation(logits);
}
