import * as tf from '@tensorflow/tfjs';
import { unbroadcast } from './broadcasting.ts';

const gatherNd: tf.GradConfig = {
  kernelName: 'GatherNd',
  inputsToSave: ['params', 'indices'],
  gradFunc: (dy, saved) => {
    const [params, indices] = saved as [tf.Tensor, tf.Tensor];
    return { params: () => tf.scatterND(indices, dy as tf.Tensor, params.shape as [number]) };
  },
};

const scatterNd: tf.GradConfig = {
  kernelName: 'ScatterNd',
  inputsToSave: ['indices'],
  gradFunc: (dy, saved) => ({ updates: () => tf.gatherND(dy as tf.Tensor, saved[0]!) }),
};

/** Where nothing was written, and what was (the last of equal indices: make them distinct). */
const scatterUpdate: tf.GradConfig = {
  kernelName: 'TensorScatterUpdate',
  inputsToSave: ['indices', 'updates'],
  gradFunc: (dy, saved) => {
    const [indices, updates] = saved as [tf.Tensor, tf.Tensor];
    return {
      tensor: () => tf.tensorScatterUpdate(dy as tf.Tensor, indices, tf.zerosLike(updates)),
      updates: () => tf.gatherND(dy as tf.Tensor, indices),
    };
  },
};

const sparseToDense: tf.GradConfig = {
  kernelName: 'SparseToDense',
  inputsToSave: ['sparseIndices', 'sparseValues'],
  gradFunc: (dy, saved) => {
    const [indices, values] = saved as [tf.Tensor, tf.Tensor];
    return { sparseValues: () => unbroadcast(tf.gatherND(dy as tf.Tensor, indices.rank < 2 ? tf.reshape(indices, [-1, 1]) : indices), values.shape) };
  },
};

/** A vector of indices for each sample: numbered through, they are rows of one matrix. */
const gatherSamples = (dy: tf.Tensor, x: tf.Tensor, indices: tf.Tensor, batchDims: number): tf.Tensor => {
  const n = x.shape[batchDims]!, batch = x.shape.slice(0, batchDims).reduce((a, b) => a * b, 1), each = indices.size / Math.max(batch, 1), inner = x.shape.slice(batchDims + 1);
  const rows = tf.add(tf.reshape(indices, [batch, each]), tf.mul(tf.reshape(tf.range(0, batch, 1, 'int32'), [batch, 1]), tf.scalar(n, 'int32')));
  const sums = tf.unsortedSegmentSum(tf.reshape(dy, [batch * each, ...inner]), tf.reshape(rows, [batch * each]) as tf.Tensor1D, batch * n);
  return tf.reshape(sums, x.shape);
};

function gather(): tf.GradConfig {
  const original = tf.getGradient('GatherV2');
  return {
    kernelName: 'GatherV2',
    inputsToSave: ['x', 'indices'],
    gradFunc: (dy, saved, attributes) => {
      const { batchDims } = attributes as unknown as tf.GatherV2Attrs, [x, indices] = saved as [tf.Tensor, tf.Tensor];
      if (batchDims === 0) return original.gradFunc(dy, saved, attributes);
      return { x: () => gatherSamples(dy as tf.Tensor, x, indices, batchDims) };
    },
  };
}

const topK: tf.GradConfig = {
  kernelName: 'TopK',
  inputsToSave: ['x'],
  outputsToSave: [false, true],
  gradFunc: (dys, saved) => {
    const [x, places] = saved as [tf.Tensor, tf.Tensor], [dy] = dys as tf.Tensor[];
    return { x: () => tf.sum(tf.mul(tf.cast(tf.equal(tf.expandDims(places, -1), tf.range(0, x.shape.at(-1)!, 1, 'int32')), 'float32'), tf.expandDims(dy!, -1)), -2) };
  },
};

const diagonal: tf.GradConfig = {
  kernelName: 'Diag',
  inputsToSave: ['x'],
  gradFunc: (dy, saved) => ({
    x: () => {
      const { size, shape } = saved[0]!;
      return tf.reshape(tf.sum(tf.mul(tf.reshape(dy as tf.Tensor, [size, size]), tf.eye(size)), 1), shape);
    },
  }),
};

export const indexing = (): tf.GradConfig[] => [gather(), gatherNd, scatterNd, scatterUpdate, sparseToDense, topK, diagonal];
