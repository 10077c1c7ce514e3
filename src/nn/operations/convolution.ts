import * as tf from '@tensorflow/tfjs';
import { dilated } from '../../compiler/gradients/convolution.ts';

export interface ConvolutionOptions {
  /** @default 1 */
  readonly stride?: number | readonly [number, number];
  /** Zeros on every side, or above, below, left and right of the image. @default 0 */
  readonly padding?: number | readonly [above: number, below: number, left: number, right: number];
  /** Distance of neighbouring taps. @default 1 */
  readonly dilation?: number | readonly [number, number];
  /** Groups of channels that do not see each other; as many as channels is a depthwise convolution. @default 1 */
  readonly groups?: number;
}

const pair = (n: number | readonly [number, number]): [number, number] => (typeof n === 'number' ? [n, n] : [n[0], n[1]]);

type ExplicitPadding = [[0, 0], [number, number], [number, number], [0, 0]];

/**
 * 2-D convolution as torch.nn.functional.conv2d has it: any stride, padding, dilation and number of groups, with its gradient
 * (tf.conv2d knows no groups, and not stride and dilation at once).
 *
 * @param x [n, h, w, in]
 * @param filter [kh, kw, in / groups, out]
 * @returns [n, h', w', out], h' = floor((h + padding - dilation (kh - 1) - 1) / stride) + 1
 * @throws RangeError when channels do not divide into the groups or do not fit the filter
 */
export function convolve(x: tf.Tensor4D, filter: tf.Tensor4D, options: ConvolutionOptions = {}): tf.Tensor4D {
  const { padding = 0, groups = 1 } = options, strides = pair(options.stride ?? 1), dilations = pair(options.dilation ?? 1);
  const [, , perGroup, outputs] = filter.shape, inputs = x.shape[3];
  if (inputs !== perGroup * groups || outputs % groups !== 0) {
    throw new RangeError(`a convolution of [${x.shape.join(', ')}] in ${groups} groups needs a filter [h, w, ${inputs / groups}, a multiple of ${groups}], not [${filter.shape.join(', ')}]`);
  }
  const [above, below, left, right] = typeof padding === 'number' ? [padding, padding, padding, padding] : padding;
  const pad: ExplicitPadding = [[0, 0], [above, below], [left, right], [0, 0]];
  const bothAbove1 = strides.some((n) => n > 1) && dilations.some((n) => n > 1);
  if (groups === 1 && !bothAbove1) return tf.conv2d(x, filter, strides, pad, 'NHWC', dilations, 'floor');
  if (groups === inputs && !bothAbove1) {
    const [h, w] = filter.shape, own: tf.Tensor4D = tf.reshape(filter, [h, w, inputs, outputs / inputs]);
    return tf.depthwiseConv2d(x, own, strides, pad as unknown as number, 'NHWC', dilations, 'floor');
  }
  if (tf.getKernel('GroupedConv2D', tf.getBackend())) return compiled(x, filter, { strides, pad, dilations, groups, dataFormat: 'NHWC', dimRoundingMode: 'floor' });
  const written = dilated(filter, dilations);
  if (groups === 1) return tf.conv2d(x, written, strides, pad, 'NHWC', 1, 'floor');
  const filters: tf.Tensor4D[] = tf.split(written, groups, 3), parts: tf.Tensor4D[] = tf.split(x, groups, 3);
  return tf.concat(parts.map((part, i) => tf.conv2d(part, filters[i]!, strides, pad, 'NHWC', 1, 'floor')), 3);
}

interface Attributes {
  readonly strides: [number, number];
  readonly pad: ExplicitPadding;
  readonly dilations: [number, number];
  readonly groups: number;
  readonly dataFormat: 'NHWC';
  readonly dimRoundingMode: 'floor';
}

/** With the compiler's own kernels. */
function compiled(x: tf.Tensor4D, filter: tf.Tensor4D, attributes: Attributes): tf.Tensor4D {
  const run = (name: string, inputs: tf.NamedTensorMap, more: object = {}): tf.Tensor => tf.engine().runKernel(name, inputs, { ...attributes, ...more } as unknown as tf.NamedAttrMap) as tf.Tensor;
  const operation = tf.customGrad((...args: unknown[]) => {
    const [images, taps, save] = args as [tf.Tensor4D, tf.Tensor4D, tf.GradSaveFunc];
    save([images, taps]);
    return {
      value: run('GroupedConv2D', { x: images, filter: taps }),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [xs, f] = saved as [tf.Tensor, tf.Tensor];
        return [
          run('GroupedConv2DBackpropInput', { dy, filter: f }, { inputShape: xs.shape }),
          run('GroupedConv2DBackpropFilter', { x: xs, dy }, { filterShape: f.shape }),
        ];
      },
    };
  });
  return operation(x, filter) as tf.Tensor4D;
}
