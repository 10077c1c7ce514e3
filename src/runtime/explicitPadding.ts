import * as tf from '@tensorflow/tfjs';

type Pads = [number, number][];
interface Attributes { pad: unknown; strides: number; dilations?: number; dimRoundingMode?: 'floor' | 'round' | 'ceil'; filterShape: number[]; inputShape: number[]; filterSize: number }
type Inputs = Record<string, tf.Tensor4D>;
/** The operation on a padded image, without padding; undefined when the padding is one that libtensorflow's binding knows. */
type Rewrite = (inputs: Inputs, attrs: Attributes) => tf.TensorInfo | undefined;

/** Below every activation; an infinity would make NaN of 0 x pad. */
const lowest = -3.4e38;

const padsOf = ({ padInfo }: { padInfo: { type: string; top: number; bottom: number; left: number; right: number } }): Pads | undefined =>
  padInfo.type === 'VALID' || padInfo.type === 'SAME' ? undefined : [[0, 0], [padInfo.top, padInfo.bottom], [padInfo.left, padInfo.right], [0, 0]];

const convPads = (shape: readonly number[], filter: readonly number[], { strides, dilations = 1, pad, dimRoundingMode }: Attributes, depthwise = false): Pads | undefined =>
  padsOf(tf.backend_util.computeConv2DInfo(shape as [number, number, number, number], filter as [number, number, number, number], strides, dilations, pad as 'valid', dimRoundingMode, depthwise));
const poolPads = (shape: readonly number[], { filterSize, strides, pad, dimRoundingMode }: Attributes): Pads | undefined =>
  padsOf(tf.backend_util.computePool2DInfo(shape as [number, number, number, number], filterSize, strides, 1, pad as 'valid', dimRoundingMode));

const padded = (shape: readonly number[], pads: Pads): number[] => shape.map((n, i) => n + pads[i]![0] + pads[i]![1]);
const inner = (x: tf.Tensor, pads: Pads, shape: readonly number[]): tf.Tensor => tf.slice(x, pads.map(([before]) => before), [...shape]);
const unpadded = (kernel: string, inputs: Inputs, attrs: Attributes): tf.Tensor => tf.engine().runKernel(kernel, inputs, { ...attrs, pad: 'valid' } as unknown as tf.NamedAttrMap);

const rewrites: Record<string, Rewrite> = {
  Conv2D({ x, filter }, attrs) {
    const pads = convPads(x!.shape, filter!.shape, attrs);
    return pads && unpadded('Conv2D', { x: tf.pad(x!, pads), filter: filter! }, attrs);
  },
  Conv2DBackpropInput(inputs, attrs) {
    const pads = convPads(attrs.inputShape, inputs['filter']!.shape, attrs);
    return pads && inner(unpadded('Conv2DBackpropInput', inputs, { ...attrs, inputShape: padded(attrs.inputShape, pads) }), pads, attrs.inputShape);
  },
  Conv2DBackpropFilter({ x, dy }, attrs) {
    const pads = convPads(x!.shape, attrs.filterShape, attrs);
    return pads && unpadded('Conv2DBackpropFilter', { x: tf.pad(x!, pads), dy: dy! }, attrs);
  },
  DepthwiseConv2dNative({ x, filter }, attrs) {
    const pads = convPads(x!.shape, filter!.shape, attrs, true);
    return pads && unpadded('DepthwiseConv2dNative', { x: tf.pad(x!, pads), filter: filter! }, attrs);
  },
  DepthwiseConv2dNativeBackpropInput(inputs, attrs) {
    const pads = convPads(attrs.inputShape, inputs['filter']!.shape, attrs, true);
    return pads && inner(unpadded('DepthwiseConv2dNativeBackpropInput', inputs, { ...attrs, inputShape: padded(attrs.inputShape, pads) }), pads, attrs.inputShape);
  },
  DepthwiseConv2dNativeBackpropFilter({ x, dy }, attrs) {
    const pads = convPads(x!.shape, attrs.filterShape, attrs, true);
    return pads && unpadded('DepthwiseConv2dNativeBackpropFilter', { x: tf.pad(x!, pads), dy: dy! }, attrs);
  },
  MaxPool({ x }, attrs) {
    const pads = poolPads(x!.shape, attrs);
    return pads && unpadded('MaxPool', { x: tf.pad(x!, pads, lowest) }, attrs);
  },
  MaxPoolGrad({ input, ...others }, attrs) {
    const pads = poolPads(input!.shape, attrs);
    return pads && inner(unpadded('MaxPoolGrad', { ...others, input: tf.pad(input!, pads, lowest) }, attrs), pads, input!.shape);
  },
};

/**
 * Lets backend `tensorflow` convolve, pool and differentiate with padding given in numbers: `@tensorflow/tfjs-node` 4.22
 * refuses that (dist/kernels/Conv2D.js, Conv2DBackpropInput.js and their neighbours), and every encoder here pads explicitly.
 */
export function supportExplicitPadding(): void {
  for (const [kernelName, rewrite] of Object.entries(rewrites)) {
    const original = tf.getKernel(kernelName, 'tensorflow');
    tf.unregisterKernel(kernelName, 'tensorflow');
    tf.registerKernel({
      ...original,
      kernelFunc(given) {
        // What a kernel is given are tensors, though its type says less.
        return rewrite(given.inputs as unknown as Inputs, given.attrs as unknown as Attributes) ?? original.kernelFunc(given);
      },
    });
  }
}
