import * as tf from '@tensorflow/tfjs';
import type { Graph, Value } from '../graph.ts';
import { arrange, logicalShape, plain, type Recorded } from '../layout.ts';
import type { Kernel } from './kernel.ts';
import { cost, largeTiles, winograd, winogradFilterGradient, winogradInputGradient, type Axes } from './winograd.ts';

/** Stored layouts, as the place of each logical axis: images NHWC stored as NCHW, filters HWIO stored as OIHW. */
export const imagePerm = [0, 2, 3, 1] as const;
const filterPerm = [2, 3, 1, 0] as const;

type Shape4 = [number, number, number, number];

/** Geometry of a convolution; `after` is the padding below and to the right that the output positions really use. */
export interface Geometry {
  readonly batch: number;
  readonly channels: number;
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly before: readonly [number, number];
  readonly after: readonly [number, number];
}

export function geometry(info: tf.backend_util.Conv2DInfo): Geometry {
  const input = [info.inHeight, info.inWidth] as const, output = [info.outHeight, info.outWidth] as const;
  const kernel = [info.filterHeight, info.filterWidth] as const, stride = [info.strideHeight, info.strideWidth] as const;
  const dilation = [info.dilationHeight, info.dilationWidth] as const, before = [info.padInfo.top, info.padInfo.left] as const;
  const after = (i: 0 | 1): number => Math.max(0, (output[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - input[i] - before[i]);
  return { batch: info.batchSize, channels: info.inChannels, input, output, kernel, stride, dilation, before, after: [after(0), after(1)] };
}

type Pad = tf.Conv2DAttrs['pad'];

/**
 * The geometry that `compute` finds for a padding. With one number tf.js measures the width with the height of window and stride;
 * where that differs from what the number says it is an error, not a picture of another size.
 */
export function paddedGeometry(pad: Pad, compute: (pad: Pad) => tf.backend_util.Conv2DInfo): Geometry {
  const found = geometry(compute(pad));
  if (typeof pad !== 'number') return found;
  const meant = geometry(compute([[0, 0], [pad, pad], [pad, pad], [0, 0]]));
  if (meant.output.some((n, i) => n !== found.output[i])) {
    throw new RangeError(`with padding ${pad} as one number tf.js measures the width with the height of the window [${meant.kernel.join(', ')}] and the stride [${meant.stride.join(', ')}]; use [[0, 0], [${pad}, ${pad}], [${pad}, ${pad}], [0, 0]]`);
  }
  return meant;
}

/**
 * Padding as ONNX has it, the same before and behind where that gives the same positions: cuDNN knows no other, and what is padded
 * too much behind is never read.
 */
export function pads({ input, output, kernel, stride, dilation, before, after }: Geometry): number[] {
  const positions = (i: 0 | 1): number => Math.floor((input[i] + 2 * before[i] - (kernel[i] - 1) * dilation[i] - 1) / stride[i]) + 1;
  return [...before, ...([0, 1] as const).map((i) => (positions(i) === output[i] ? before[i] : after[i]))];
}

interface ConvolutionAttributes {
  readonly strides: [number, number] | number;
  readonly pad: Pad;
  readonly dataFormat?: 'NHWC' | 'NCHW';
  readonly dilations?: [number, number] | number;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

function convolutionGeometry(input: readonly number[], filter: readonly number[], a: ConvolutionAttributes, depthwise = false): Geometry {
  if (a.dataFormat === 'NCHW') throw new RangeError('data format NCHW is not supported; use NHWC (it costs nothing: images are stored as NCHW in the graph)');
  return paddedGeometry(a.pad, (pad) => tf.backend_util.computeConv2DInfo(input as Shape4, filter as Shape4, a.strides, a.dilations ?? 1, pad, a.dimRoundingMode, depthwise));
}

const asImage = (g: Graph, x: Recorded): Value => arrange(g, x, imagePerm);
const asFilter = (g: Graph, x: Recorded): Value => arrange(g, x, filterPerm);
const image = (value: Value): Recorded => ({ value, perm: imagePerm });

function convolve(g: Graph, x: Value, filter: Value, s: Geometry, output: readonly [number, number], group = 1, padding = pads(s), stride = s.stride): Value {
  return g.node('Conv', [x, filter], { kernel_shape: s.kernel, strides: stride, dilations: s.dilation, pads: padding, group }, [x.shape[0]!, filter.shape[0]!, ...output]);
}

/** The two axes of a convolution that has Winograd's form, where that is worth it: less than nine tenths of the time. */
function winogradAxes(s: Geometry, outputs: number, instead: 'direct' | 'taps'): Axes | undefined {
  if (![...s.kernel].every((n) => n === 3) || ![...s.stride, ...s.dilation].every((n) => n === 1)) return undefined;
  const axis = (i: 0 | 1) => ({ input: s.input[i], output: s.output[i], before: s.before[i] }), axes = { rows: axis(0), columns: axis(1) };
  const times = cost(largeTiles, s.batch, s.channels, outputs, axes);
  return times.winograd < 0.9 * times[instead] ? axes : undefined;
}

const conv2d: Kernel<'x' | 'filter', tf.Conv2DAttrs> = (g, { x, filter }, attributes) => {
  const s = convolutionGeometry(logicalShape(x), logicalShape(filter), attributes), given = asImage(g, x), weights = asFilter(g, filter);
  const direct = convolve(g, given, weights, s, s.output);
  // What has constant filters, onnxruntime prepares itself when it loads the model.
  const axes = weights.data === undefined ? winogradAxes(s, weights.shape[0]!, 'direct') : undefined;
  return image(axes ? winograd(g, largeTiles, given, weights, axes, direct) : direct);
};

/** A filter [A, B, h, w] rotated by 180 degrees. */
function rotate(g: Graph, filter: Value): Value {
  const [a, b, h, w] = filter.shape as Shape4;
  if (h * w === 1) return filter;
  const flat = g.reshape(filter, [a, b, h * w]);
  return g.reshape(g.slice(flat, [0, 0, h * w - 1], flat.shape, [1, 1, -1]), filter.shape);
}

/**
 * Gradient with respect to the input [N, C, H, W]; `filter` is [O, C / group, h, w]. With stride 1 a convolution with
 * the rotated filter (twice as fast as ConvTranspose on the CPU), else ConvTranspose.
 */
function inputGradient(g: Graph, dy: Value, filter: Value, s: Geometry, group: number): Value {
  const perGroup = filter.shape[1]!;
  const shape = [s.batch, perGroup * group, ...s.input];
  const reach = (i: 0 | 1): number => (s.kernel[i] - 1) * s.dilation[i];
  if (s.stride[0] === 1 && s.stride[1] === 1) {
    const [o, , h, w] = filter.shape as Shape4;
    // [G O', C', h, w] -> [G C', O', h, w]
    const swapped = group === 1
      ? g.transpose(rotate(g, filter), [1, 0, 2, 3])
      : g.reshape(g.transpose(g.reshape(rotate(g, filter), [group, o / group, perGroup, h, w]), [0, 2, 1, 3, 4]), [group * perGroup, o / group, h, w]);
    const low = [reach(0) - s.before[0], reach(1) - s.before[1]];
    const high = [s.input[0] - s.output[0] + s.before[0], s.input[1] - s.output[1] + s.before[1]];
    if ([...low, ...high].every((n) => n >= 0)) {
      return convolve(g, dy, swapped, s, s.input, group, [...low, ...high]);
    }
  }
  // With the same padding on both sides, which a GPU needs (onnxruntime leaves a ConvTranspose with other padding to the CPU), rows that
  // the last position did not reach are `output_padding`: fewer than a stride.
  const short = ([0, 1] as const).map((i) => s.input[i] - (s.output[i] - 1) * s.stride[i] - reach(i) - 1 + 2 * s.before[i]);
  if (short.every((n, i) => n >= 0 && n < s.stride[i]!)) {
    return g.node('ConvTranspose', [dy, filter], { kernel_shape: s.kernel, strides: s.stride, dilations: s.dilation, pads: [...s.before, ...s.before], output_padding: short, group }, shape);
  }
  // The part of the padded input that the output positions reach; ConvTranspose crops the padding, rows that no position reached are zero.
  const reached = (i: 0 | 1): number => (s.output[i] - 1) * s.stride[i] + reach(i) + 1 - s.before[i];
  const crop = [Math.max(0, reached(0) - s.input[0]), Math.max(0, reached(1) - s.input[1])];
  const computed = [reached(0) - crop[0]!, reached(1) - crop[1]!];
  const value = g.node('ConvTranspose', [dy, filter],
    { kernel_shape: s.kernel, strides: s.stride, dilations: s.dilation, pads: [...s.before, ...crop], group }, [s.batch, perGroup * group, ...computed]);
  return g.pad(value, [0, 0, 0, 0], shape.map((n, i) => n - value.shape[i]!));
}

const conv2dBackpropInput: Kernel<'dy' | 'filter', tf.Conv2DBackpropInputAttrs> = (g, { dy, filter }, attributes) => {
  const s = convolutionGeometry(attributes.inputShape, logicalShape(filter), attributes);
  const given = asImage(g, dy), weights = asFilter(g, filter), direct = inputGradient(g, given, weights, s, 1);
  const axes = weights.data === undefined ? winogradAxes(s, weights.shape[0]!, 'direct') : undefined;
  return image(axes ? winogradInputGradient(g, largeTiles, given, weights, axes, direct) : direct);
};

/** For each tap of the filter, the elements of `x` [C, N, H, W] (already padded) that it met at the output positions. */
function taps(g: Graph, x: Value, s: Geometry): Value[] {
  const [a, b] = x.shape as Shape4;
  const result: Value[] = [];
  for (let row = 0; row < s.kernel[0]; row++) {
    for (let column = 0; column < s.kernel[1]; column++) {
      result.push(g.slice(x, [0, 0, row * s.dilation[0], column * s.dilation[1]], [a, b, ...s.output], [1, 1, ...s.stride]));
    }
  }
  return result;
}

const padded = (g: Graph, x: Value, s: Geometry): Value => g.pad(x, [0, 0, ...s.before], [0, 0, ...s.after]);

/** Where a tap of the filter finds its input along one axis: at stride * (output position + shift) + phase. */
interface TapStep { readonly phase: number; readonly shift: number }

function tapSteps(s: Geometry, axis: 0 | 1): TapStep[] {
  return Array.from({ length: s.kernel[axis] }, (_, tap) => {
    const offset = tap * s.dilation[axis] - s.before[axis], stride = s.stride[axis], phase = ((offset % stride) + stride) % stride;
    return { phase, shift: (offset - phase) / stride };
  });
}

/** Rows of `value` [m, n] with zeros added at both ends, or with elements taken away there (negative numbers). */
function extended(g: Graph, value: Value, before: number, after: number): Value {
  const [m, n] = value.shape as [number, number], length = n + before + after;
  return before + n <= 0 || before >= length ? g.filled(0, [m, length]) : g.pad(value, [0, before], [0, after]);
}

/** One column of the filter's taps: the output gradient [O, K], and the input [I, K] that each row of the column met, over common positions K. */
interface MetColumn { readonly gradient: Value; readonly met: readonly Value[] }

/**
 * What every tap met, over positions that are common to all taps of a column: rows of the output, and columns of the input (of one phase, where the stride is
 * larger than 1). The input is moved by rows, the output gradient by columns, with zeros where there is nothing: so h + w moved copies serve h w taps.
 * @param x [I, N, H, W]
 * @param dy [O, N, H', W']
 */
function metColumns(g: Graph, x: Value, dy: Value, s: Geometry): MetColumn[] {
  const [inputs, batch] = x.shape as Shape4, [outputs] = dy.shape as Shape4, [rows, columns] = s.output;
  const rowSteps = tapSteps(s, 0);
  return tapSteps(s, 1).map((column) => {
    const width = Math.max(0, Math.ceil((s.input[1] - column.phase) / s.stride[1])), positions = batch * rows * width;
    const gradient = extended(g, g.reshape(dy, [outputs * batch * rows, columns]), column.shift, width - columns - column.shift);
    return {
      gradient: g.reshape(gradient, [outputs, positions]),
      met: rowSteps.map((row) => {
        const height = Math.max(0, Math.ceil((s.input[0] - row.phase) / s.stride[0]));
        if (height * width === 0) return g.filled(0, [inputs, positions]);
        const source = g.reshape(g.slice(x, [0, 0, row.phase, column.phase], [inputs, batch, height, width], [1, 1, ...s.stride]), [inputs * batch, height * width]);
        return g.reshape(extended(g, source, -row.shift * width, (rows - height + row.shift) * width), [inputs, positions]);
      }),
    };
  });
}

/** Input channels below which the rows of a column of taps are multiplied together: a product with few columns is slow. */
const FEW = 32;

/** Positions from which on samples are multiplied one by one: shorter rows are not worth a product of their own. And the size up to which their products are kept for the sum, in elements. */
const LONG = 192, LARGEST = 2 ** 24;

/** Filter gradient of a 1 x 1 convolution without padding: the sum over samples of dy x^T, with no transposition of either. */
function pointwiseFilterGradient(g: Graph, x: Value, dy: Value, s: Geometry): Value {
  const positions = s.output[0] * s.output[1], inputs = x.shape[1]!, outputs = dy.shape[1]!;
  const met = taps(g, x, s)[0]!;
  const product = g.node('MatMul', [g.reshape(dy, [s.batch, outputs, positions]), g.transpose(g.reshape(met, [s.batch, inputs, positions]), [0, 2, 1])], {}, [s.batch, outputs, inputs]);
  return g.reshape(g.reduce('ReduceSum', product, [0]), [outputs, inputs, 1, 1]);
}

const conv2dBackpropFilter: Kernel<'x' | 'dy', tf.Conv2DBackpropFilterAttrs> = (g, { x, dy }, attributes) => {
  const s = convolutionGeometry(logicalShape(x), attributes.filterShape, attributes);
  const [h, w, inputs, outputs] = attributes.filterShape;
  if (s.batch === 0) return plain(g.filled(0, attributes.filterShape));
  const pointwise = h * w === 1 && [...s.before, ...s.after].every((n) => n === 0);
  if (pointwise && s.output[0] * s.output[1] >= LONG && s.batch * outputs * inputs <= LARGEST) return { value: pointwiseFilterGradient(g, asImage(g, x), asImage(g, dy), s), perm: filterPerm };
  const axes = winogradAxes(s, outputs, 'taps'), direct = tapProducts(g, asImage(g, x), asImage(g, dy), s);
  return { value: axes ? winogradFilterGradient(g, largeTiles, asImage(g, x), asImage(g, dy), axes, direct) : direct, perm: filterPerm };
};

/** Filter gradient [O, I, h, w]: for each tap one product of the output gradient [O, K] with the input [I, K] that it met there. */
function tapProducts(g: Graph, x: Value, dy: Value, s: Geometry): Value {
  const [h, w] = s.kernel, inputs = x.shape[1]!, outputs = dy.shape[1]!;
  const columns = metColumns(g, g.transpose(x, [1, 0, 2, 3]), g.transpose(dy, [1, 0, 2, 3]), s);
  const multiply = (gradient: Value, met: Value): Value => g.node('Gemm', [gradient, met], { transB: 1 }, [outputs, met.shape[0]!]);
  if (inputs < FEW && h > 1) {
    // [O, h I] a column of taps
    const products = columns.map(({ gradient, met }) => multiply(gradient, g.node('Concat', met, { axis: 0 }, [h * inputs, gradient.shape[1]!])));
    const side = products.map((product) => g.reshape(product, [1, outputs, h, inputs]));
    const stacked = side.length === 1 ? side[0]! : g.node('Concat', side, { axis: 0 }, [w, outputs, h, inputs]);
    return g.transpose(stacked, [1, 3, 2, 0]);
  }
  const products = Array.from({ length: h * w }, (_, tap) => {
    const { gradient, met } = columns[tap % w]!;
    return multiply(gradient, met[Math.floor(tap / w)]!);
  });
  if (products.length === 1) return g.reshape(products[0]!, [outputs, inputs, 1, 1]);
  const stacked = g.node('Concat', products, { axis: 0 }, [products.length * outputs, inputs]);
  return g.reshape(g.transpose(g.reshape(stacked, [products.length, outputs * inputs]), [1, 0]), [outputs, inputs, h, w]);
}

/** Depthwise filters [h, w, C, M] as ONNX wants them for C groups: [C M, 1, h, w]. */
function asDepthwiseFilter(g: Graph, filter: Recorded): Value {
  const [h, w, channels, multiplier] = logicalShape(filter) as Shape4;
  return g.reshape(arrange(g, filter, [2, 3, 0, 1]), [channels * multiplier, 1, h, w]);
}

const depthwiseConv2d: Kernel<'x' | 'filter', tf.DepthwiseConv2dNativeAttrs> = (g, { x, filter }, attributes) => {
  const s = convolutionGeometry(logicalShape(x), logicalShape(filter), attributes, true);
  return image(convolve(g, asImage(g, x), asDepthwiseFilter(g, filter), s, s.output, s.channels));
};

const depthwiseBackpropInput: Kernel<'dy' | 'filter', tf.DepthwiseConv2dNativeBackpropInputAttrs> = (g, { dy, filter }, attributes) => {
  const s = convolutionGeometry(attributes.inputShape, logicalShape(filter), attributes, true);
  return image(inputGradient(g, asImage(g, dy), asDepthwiseFilter(g, filter), s, s.channels));
};

const depthwiseBackpropFilter: Kernel<'x' | 'dy', tf.DepthwiseConv2dNativeBackpropFilterAttrs> = (g, { x, dy }, attributes) => {
  const s = convolutionGeometry(logicalShape(x), attributes.filterShape, attributes, true);
  const [h, w, channels, multiplier] = attributes.filterShape;
  const gradient = g.reshape(asImage(g, dy), [s.batch, channels, multiplier, s.output[0] * s.output[1]]);
  const sums = taps(g, padded(g, asImage(g, x), s), s).map((tap) => {
    const met = g.reshape(tap, [s.batch, channels, 1, s.output[0] * s.output[1]]);
    return g.reshape(g.reduce('ReduceSum', g.elementwise('Mul', [gradient, met]), [0, 3]), [1, channels, multiplier]);
  });
  const stacked = sums.length === 1 ? sums[0]! : g.node('Concat', sums, { axis: 0 }, [sums.length, channels, multiplier]);
  return { value: g.reshape(stacked, [h, w, channels, multiplier]), perm: [0, 1, 2, 3] };
};

interface GroupedAttributes extends ConvolutionAttributes { readonly groups: number }

/** Kernels of our own (src/nn/operations/convolution.ts): channels in groups that do not see each other, filter [h, w, in / groups, out]. */
const grouped: Kernel<'x' | 'filter', GroupedAttributes> = (g, { x, filter }, attributes) => {
  const s = convolutionGeometry(logicalShape(x), logicalShape(filter), attributes);
  return image(convolve(g, asImage(g, x), asFilter(g, filter), s, s.output, attributes.groups));
};

const groupedInputGradient: Kernel<'dy' | 'filter', GroupedAttributes & { inputShape: Shape4 }> = (g, { dy, filter }, attributes) => {
  const s = convolutionGeometry(attributes.inputShape, logicalShape(filter), attributes);
  return image(inputGradient(g, asImage(g, dy), asFilter(g, filter), s, attributes.groups));
};

/** As for one group, with a batch of products, one a group. */
const groupedFilterGradient: Kernel<'x' | 'dy', GroupedAttributes & { filterShape: Shape4 }> = (g, { x, dy }, attributes) => {
  const s = convolutionGeometry(logicalShape(x), attributes.filterShape, attributes), { groups } = attributes;
  const [h, w, inputs, outputs] = attributes.filterShape;
  if (s.batch === 0) return plain(g.filled(0, attributes.filterShape));
  const products = metColumns(g, g.transpose(asImage(g, x), [1, 0, 2, 3]), g.transpose(asImage(g, dy), [1, 0, 2, 3]), s).flatMap(({ gradient, met }) => {
    const positions = gradient.shape[1]!, rows = g.reshape(gradient, [groups, outputs / groups, positions]);
    return met.map((tap) => {
      const columns = g.transpose(g.reshape(tap, [groups, inputs, positions]), [0, 2, 1]);
      return g.reshape(g.node('MatMul', [rows, columns], {}, [groups, outputs / groups, inputs]), [1, outputs, inputs]);
    });
  });
  const stacked = products.length === 1 ? products[0]! : g.node('Concat', products, { axis: 0 }, [products.length, outputs, inputs]);
  return { value: g.transpose(g.reshape(stacked, [w, h, outputs, inputs]), [2, 3, 1, 0]), perm: filterPerm };
};

export const convolutions = {
  GroupedConv2D: grouped, GroupedConv2DBackpropInput: groupedInputGradient, GroupedConv2DBackpropFilter: groupedFilterGradient,
  Conv2D: conv2d, Conv2DBackpropInput: conv2dBackpropInput, Conv2DBackpropFilter: conv2dBackpropFilter,
  DepthwiseConv2dNative: depthwiseConv2d, DepthwiseConv2dNativeBackpropInput: depthwiseBackpropInput, DepthwiseConv2dNativeBackpropFilter: depthwiseBackpropFilter,
};
