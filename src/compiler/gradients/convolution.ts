import * as tf from '@tensorflow/tfjs';
import { backendName } from '../backend.ts';
import { spread } from './moving.ts';

const pair = (n: number | readonly number[] | undefined): [number, number] => (typeof n === 'object' ? [n[0]!, n[1]!] : [n ?? 1, n ?? 1]);

/** A filter [h, w, in, out] with its dilation written out as zeros. */
export const dilated = (filter: tf.Tensor, [rows, columns]: readonly [number, number]): tf.Tensor4D => spread(spread(filter, 0, rows), 1, columns) as tf.Tensor4D;

/** Convolutions with dilation. Our own kernels know it; other backends get the filter written out, and the gradient at its taps. */
function convolution(kernelName: 'Conv2D' | 'DepthwiseConv2dNative', inputKernel: string, filterKernel: string): tf.GradConfig {
  const original = tf.getGradient(kernelName);
  return {
    kernelName,
    inputsToSave: ['x', 'filter'],
    gradFunc: (dy, saved, attributes) => {
      const dilations = pair((attributes as unknown as tf.Conv2DAttrs).dilations);
      if (dilations.every((n) => n === 1)) return original.gradFunc(dy, saved, attributes);
      const [x, filter] = saved as [tf.Tensor, tf.Tensor], own = tf.getBackend() === backendName;
      const written = own ? filter : dilated(filter, dilations), known = own ? attributes : { ...attributes, dilations: [1, 1] };
      const run = (name: string, inputs: tf.NamedTensorMap, more: tf.NamedAttrMap): tf.Tensor => tf.engine().runKernel(name, inputs, { ...known, ...more });
      return {
        x: () => run(inputKernel, { dy: dy as tf.Tensor, filter: written }, { inputShape: x.shape }),
        filter: () => {
          const gradient = run(filterKernel, { x, dy: dy as tf.Tensor }, { filterShape: written.shape });
          return own ? gradient : tf.stridedSlice(gradient, [0, 0, 0, 0], written.shape, [...dilations, 1, 1]);
        },
      };
    },
  };
}

/** A function, because the gradients that tf.js has are read when it is called. */
export const convolutions = (): tf.GradConfig[] => [
  convolution('Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter'),
  convolution('DepthwiseConv2dNative', 'DepthwiseConv2dNativeBackpropInput', 'DepthwiseConv2dNativeBackpropFilter'),
];
