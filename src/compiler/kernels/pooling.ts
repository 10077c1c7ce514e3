import * as tf from '@tensorflow/tfjs';
import { sizeOf } from '../../tensor.ts';
import type { Graph, Value } from '../graph.ts';
import { arrange, logicalShape } from '../layout.ts';
import { geometry, imagePerm, pads, type Geometry } from './convolution.ts';
import type { Kernel } from './kernel.ts';

type PoolAttributes = tf.MaxPoolAttrs;

function poolGeometry(input: readonly number[], { filterSize, strides, pad, dimRoundingMode }: PoolAttributes): Geometry {
  return geometry(tf.backend_util.computePool2DInfo(input as [number, number, number, number], filterSize, strides, 1, pad, dimRoundingMode));
}

const onnxAttributes = (s: Geometry) => ({ kernel_shape: s.kernel, strides: s.stride, pads: pads(s) });
const outputShape = (s: Geometry): number[] => [s.batch, s.channels, ...s.output];

/** Largest value of each window and its place in the whole input. */
const maxima = (g: Graph, x: Value, s: Geometry): readonly [Value, Value] =>
  g.nodes('MaxPool', [x], onnxAttributes(s), [{ shape: outputShape(s), type: x.type }, { shape: outputShape(s), type: 'int64' }]) as unknown as readonly [Value, Value];

const maxPool: Kernel<'x', PoolAttributes> = (g, { x }, attributes) => {
  const s = poolGeometry(logicalShape(x), attributes);
  return { value: maxima(g, arrange(g, x, imagePerm), s)[0], perm: imagePerm };
};

/** Adds every gradient where the maximum came from (the first of equal ones). */
const maxPoolGrad: Kernel<'dy' | 'input', PoolAttributes> = (g, { dy, input }, attributes) => {
  const s = poolGeometry(logicalShape(input), attributes);
  const x = arrange(g, input, imagePerm);
  const places = maxima(g, x, s)[1];
  const size = sizeOf(x.shape), count = sizeOf(places.shape);
  const zeros = g.expand(g.reshape(g.scalar(0), [1]), [size]);
  const updates = g.reshape(arrange(g, dy, imagePerm), [count]);
  const sum = g.node('ScatterElements', [zeros, g.reshape(places, [count]), updates], { axis: 0, reduction: 'add' }, [size]);
  return { value: g.reshape(sum, x.shape), perm: imagePerm };
};

const avgPool: Kernel<'x', PoolAttributes> = (g, { x }, attributes) => {
  const s = poolGeometry(logicalShape(x), attributes);
  const value = g.node('AveragePool', [arrange(g, x, imagePerm)], { ...onnxAttributes(s), count_include_pad: 0 }, outputShape(s));
  return { value, perm: imagePerm };
};

/** 1 / number of input elements in each window, for one axis. */
function share(s: Geometry, axis: 0 | 1): number[] {
  return Array.from({ length: s.output[axis] }, (_, i) => {
    const begin = i * s.stride[axis] - s.before[axis];
    return 1 / (Math.min(s.input[axis], begin + s.kernel[axis]) - Math.max(0, begin));
  });
}

/** Spreads each gradient evenly over its window, as the product with one matrix per axis. */
const avgPoolGrad: Kernel<'dy' | 'input', PoolAttributes> = (g, { dy, input }, attributes) => {
  const s = poolGeometry(logicalShape(input), attributes);
  const gradient = arrange(g, dy, imagePerm);
  const spread = (axis: 0 | 1): number[][] => {
    const shares = share(s, axis);
    return shares.map((value, i) => Array.from({ length: s.input[axis] }, (_, k) => {
      const place = k - (i * s.stride[axis] - s.before[axis]);
      return place >= 0 && place < s.kernel[axis] ? value : 0;
    }));
  };
  return { value: separable(g, gradient, spread(0), spread(1)), perm: imagePerm };
};

/** Multiplies the rows and columns of images [N, C, H, W] by constant matrices [H, H'] and [W, W']. */
export function separable(g: Graph, x: Value, rows: readonly (readonly number[])[], columns: readonly (readonly number[])[]): Value {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const height = rows[0]!.length, width = columns[0]!.length;
  const right = g.constant(Float32Array.from(columns.flat()), [w, width], 'float32');
  const left = g.constant(Float32Array.from({ length: height * h }, (_, i) => rows[i % h]![Math.floor(i / h)]!), [height, h], 'float32');
  const wide = g.node('MatMul', [x, right], {}, [n, c, h, width]);
  return g.node('MatMul', [left, wide], {}, [n, c, height, width]);
}

export const pooling = { MaxPool: maxPool, MaxPoolGrad: maxPoolGrad, AvgPool: avgPool, AvgPoolGrad: avgPoolGrad };
