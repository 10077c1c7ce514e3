import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { kernels } from '../../../src/compiler/kernels/index.ts';

/** How the property tests reach a kernel, where it is not tf.<kernel name>: the operation, or the one whose gradient it is. */
const reachedBy: Readonly<Record<string, string>> = {
  Multiply: 'tf.mul', RealDiv: 'tf.div', Select: 'tf.where', IsNan: 'tf.isNaN', EluGrad: 'tf.elu', Step: 'tf.step',
  BatchMatMul: 'tf.matMul', _FusedMatMul: 'tf.fused.matMul', FusedConv2D: 'tf.fused.conv2d', FusedDepthwiseConv2D: 'tf.fused.depthwiseConv2d',
  Conv2D: 'tf.conv2d', Conv2DBackpropInput: 'tf.conv2dTranspose', Conv2DBackpropFilter: 'tf.conv2d', DepthwiseConv2dNative: 'tf.depthwiseConv2d',
  DepthwiseConv2dNativeBackpropInput: 'tf.depthwiseConv2d', DepthwiseConv2dNativeBackpropFilter: 'tf.depthwiseConv2d',
  GroupedConv2D: 'convolve', GroupedConv2DBackpropInput: 'convolve', GroupedConv2DBackpropFilter: 'convolve',
  MaxPoolGrad: 'tf.maxPool', AvgPoolGrad: 'tf.avgPool', PadV2: 'tf.pad', SplitV: 'tf.split', Pack: 'tf.stack', Unpack: 'tf.unstack', LinSpace: 'tf.linspace',
  GatherV2: 'tf.gather', GatherNd: 'tf.gatherND', ScatterNd: 'tf.scatterND', TopK: 'tf.topk', FlipLeftRight: 'tf.image.flipLeftRight',
  ResizeBilinear: 'tf.image.resizeBilinear', ResizeBilinearGrad: 'tf.image.resizeBilinear', ResizeNearestNeighbor: 'tf.image.resizeNearestNeighbor', ResizeNearestNeighborGrad: 'tf.image.resizeNearestNeighbor',
  FusedBatchNorm: 'tf.batchNorm', Standardize: 'standardize', NormalizeBatch: 'batchNorm', MultiHeadAttention: 'attention', LogSoftmax: "run('LogSoftmax', ", BroadcastTo: "run('BroadcastTo', ",
};

describe('property tests', () => {
  it('reach every kernel', () => {
    const sources = readdirSync(import.meta.dirname).filter((file) => file.endsWith('.test.ts') && file !== 'coverage.test.ts').map((file) => readFileSync(new URL(file, import.meta.url), 'utf8')).join('\n');
    const callOf = (kernel: string): string => reachedBy[kernel] ?? `tf.${kernel[0]!.toLowerCase()}${kernel.slice(1)}`;
    const called = (name: string): boolean => sources.includes(name.endsWith(' ') ? name : `${name}(`);
    expect(Object.keys(kernels).filter((kernel) => !called(callOf(kernel)))).toEqual([]);
    expect(Object.keys(reachedBy).filter((kernel) => !(kernel in kernels))).toEqual([]);
  });
});
