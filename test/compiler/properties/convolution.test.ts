import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { convolve } from '../../../src/nn/operations/convolution.ts';
import { expectAgreement, normal } from '../agreement.ts';
import { check, size } from './arbitraries.ts';

const two = (min: number, max: number): fc.Arbitrary<[number, number]> => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));

/** Geometries whose output has at least one pixel. */
const geometry = fc.record({
  batch: size(0, 3), inputs: size(1, 4), outputs: size(1, 4), image: two(1, 9), kernel: two(1, 3), stride: two(1, 3), dilation: two(1, 3),
  pad: fc.oneof(fc.constantFrom<'same' | 'valid'>('same', 'valid'), fc.integer({ min: 0, max: 3 }), fc.tuple(two(0, 3), two(0, 3)).map(([h, w]) => [[0, 0], h, w, [0, 0]] as [[number, number], [number, number], [number, number], [number, number]])),
}).filter(({ image, kernel, dilation, pad }) => pad === 'same' || [0, 1].every((i) => {
  const [before, after] = typeof pad === 'object' ? pad[i + 1]! : typeof pad === 'number' ? [pad, pad] : [0, 0];
  return image[i]! + before + after >= (kernel[i]! - 1) * dilation[i]! + 1;
}));

/** Padding of every side by itself: with one number tf.js measures the width with the height of kernel and stride. */
const everySide = <Pad>(pad: Pad | number): Pad => (typeof pad === 'number' ? [[0, 0], [pad, pad], [pad, pad], [0, 0]] as Pad : pad);

const rounding = (pad: unknown): 'floor' | undefined => (typeof pad === 'string' ? undefined : 'floor');

describe('convolutions agree with tf.js for random geometries, value and gradient', () => {
  it('conv2d with any stride or dilation and any padding', async () => {
    // tf.js refuses stride and dilation at once, and has no gradient with dilation: there the reference writes the filter out with zeros.
    await check(fc.tuple(geometry, fc.boolean()), 39, async ([c, dilate]) => {
      const stride: [number, number] = dilate ? [1, 1] : c.stride, dilation: [number, number] = dilate ? c.dilation : [1, 1];
      const conv = (pad: typeof c.pad) => (x: tf.Tensor, f: tf.Tensor): tf.Tensor => tf.conv2d(x as tf.Tensor4D, f as tf.Tensor4D, stride, pad, 'NHWC', dilation, rounding(pad));
      await expectAgreement(conv(everySide(c.pad)), [normal([c.batch, ...c.image, c.inputs]), normal([...c.kernel, c.inputs, c.outputs])], { tolerance: 2e-5 });
    });
  });

  it('depthwiseConv2d with any multiplier', async () => {
    await check(fc.tuple(geometry, fc.boolean(), fc.integer({ min: 1, max: 3 })), 26, async ([c, dilate, multiplier]) => {
      // TensorFlow and tf.js know one stride for both axes here.
      const stride: [number, number] = dilate ? [1, 1] : [c.stride[0], c.stride[0]], dilation: [number, number] = dilate ? c.dilation : [1, 1];
      const conv = (pad: typeof c.pad) => (x: tf.Tensor, f: tf.Tensor): tf.Tensor => tf.depthwiseConv2d(x as tf.Tensor4D, f as tf.Tensor4D, stride, pad as number, 'NHWC', dilation, rounding(pad));
      await expectAgreement(conv(everySide(c.pad)), [normal([c.batch, ...c.image, c.inputs]), normal([...c.kernel, c.inputs, multiplier])], { tolerance: 2e-5 });
    });
  });

  it('conv2dTranspose', async () => {
    await check(geometry, 26, async (c) => {
      const x = [c.batch, ...c.image, c.inputs] as [number, number, number, number];
      const { outHeight, outWidth } = tf.backend_util.computeConv2DInfo(x, [...c.kernel, c.inputs, c.outputs], c.stride, 1, everySide(c.pad), rounding(c.pad));
      if (outHeight < 1 || outWidth < 1) return;
      const conv = (pad: typeof c.pad) => (y: tf.Tensor, f: tf.Tensor): tf.Tensor => tf.conv2dTranspose(y as tf.Tensor4D, f as tf.Tensor4D, x, c.stride, pad, rounding(pad));
      await expectAgreement(conv(everySide(c.pad)), [normal([c.batch, outHeight, outWidth, c.outputs]), normal([...c.kernel, c.inputs, c.outputs])], { tolerance: 2e-5 });
    });
  });

  it('convolve: groups, stride and dilation at once', async () => {
    await check(fc.tuple(geometry, fc.integer({ min: 1, max: 4 })), 39, async ([c, groups]) => {
      const padding = typeof c.pad === 'number' ? c.pad : typeof c.pad === 'object' ? [...c.pad[1]!, ...c.pad[2]!] as unknown as [number, number, number, number] : 4;
      await expectAgreement((x, f) => convolve(x as tf.Tensor4D, f as tf.Tensor4D, { stride: c.stride, padding, dilation: c.dilation, groups }),
        [normal([c.batch, ...c.image, c.inputs * groups]), normal([...c.kernel, c.inputs, c.outputs * groups])], { tolerance: 2e-5 });
    });
  });

  it('fused with a bias and an activation', async () => {
    const activation = fc.constantFrom<tf.fused.Activation>('linear', 'relu', 'elu', 'relu6', 'sigmoid', 'leakyrelu', 'prelu');
    await check(fc.tuple(geometry, activation, fc.boolean()), 17, async ([c, name, depthwise]) => {
      const conv = { strides: c.stride[0], pad: everySide(c.pad) as 'same', dimRoundingMode: rounding(c.pad)!, activation: name, leakyreluAlpha: 0.3 };
      await expectAgreement((x, f, bias, slope) => {
        const more = { ...conv, x: x as tf.Tensor4D, filter: f as tf.Tensor4D, bias, ...(name === 'prelu' ? { preluActivationWeights: slope } : {}) };
        return depthwise ? tf.fused.depthwiseConv2d(more) : tf.fused.conv2d(more);
      }, [normal([Math.max(1, c.batch), ...c.image, c.inputs]), normal([...c.kernel, c.inputs, c.outputs]), normal([depthwise ? c.inputs * c.outputs : c.outputs]), normal([depthwise ? c.inputs * c.outputs : c.outputs])],
      { tolerance: 2e-5, gradient: false });
    });
  });
});
