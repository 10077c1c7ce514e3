import * as tf from '@tensorflow/tfjs';
import { describe, it } from 'vitest';
import { expectAgreement, normal } from './agreement.ts';

type Pad = 'same' | 'valid' | number | [[number, number], [number, number], [number, number], [number, number]];
const explicit: Pad = [[0, 0], [1, 2], [0, 1], [0, 0]];

describe('convolutions agree with the cpu backend, value and gradient', () => {
  const conv = (stride: number | [number, number], pad: Pad, dilation = 1) => (x: tf.Tensor, w: tf.Tensor) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, stride, pad, 'NHWC', dilation, typeof pad === 'string' ? undefined : 'floor');

  it.each<[number, Pad]>([[1, 'same'], [1, 'valid'], [2, 'same'], [2, 'valid'], [3, 'same'], [1, 1], [2, 1], [1, explicit], [2, explicit], [1, 0]])('conv2d with stride %s, padding %s', async (stride, pad) => {
    for (const [h, w] of [[7, 8], [6, 5]]) {
      for (const kernel of [[3, 3], [1, 1], [2, 3]]) {
        await expectAgreement(conv(stride, pad), [normal([2, h!, w!, 3]), normal([...kernel, 3, 4])]);
      }
    }
  });

  it('1 x 1 filters on large and small maps', async () => {
    for (const stride of [1, 2]) {
      await expectAgreement(conv(stride, 'valid'), [normal([3, 29, 14, 5]), normal([1, 1, 5, 4])]);
      await expectAgreement(conv(stride, 1), [normal([2, 15, 14, 3]), normal([1, 1, 3, 2])]);
    }
  });

  it('small maps with many channels', async () => {
    await expectAgreement(conv(1, 'same'), [normal([2, 3, 3, 4]), normal([3, 3, 4, 160], 0.3)]);
  });

  it('more padding than the kernel reaches', async () => {
    await expectAgreement(conv(1, 3), [normal([1, 5, 5, 2]), normal([2, 2, 2, 3])]);
  });

  it('unequal strides, large kernels, single pixels', async () => {
    await expectAgreement(conv([1, 2], 'same'), [normal([2, 5, 6, 2]), normal([3, 3, 2, 3])]);
    await expectAgreement(conv(4, 'valid'), [normal([2, 8, 8, 3]), normal([4, 4, 3, 5])]);
    await expectAgreement(conv(2, 3), [normal([1, 11, 9, 3]), normal([7, 7, 3, 2])]);
    await expectAgreement(conv(1, 'valid'), [normal([2, 1, 1, 3]), normal([1, 1, 3, 4])]);
  });

  it('dilation (tf.js has no gradient for it)', async () => {
    await expectAgreement(conv(1, 'same', 2), [normal([2, 7, 8, 3]), normal([3, 3, 3, 4])], { gradient: false });
    await expectAgreement(conv(1, 'valid', 3), [normal([1, 9, 8, 3]), normal([3, 2, 3, 4])], { gradient: false });
  });

  it('filters kept as [O, I, h, w]', async () => {
    await expectAgreement((x, w) => conv(1, 'same')(x, tf.transpose(w, [2, 3, 1, 0])), [normal([2, 6, 5, 3]), normal([4, 3, 3, 3])]);
  });

  it.each<[number, Pad]>([[1, 'same'], [2, 'same'], [2, 'valid'], [2, 1]])('conv2dTranspose with stride %s, padding %s', async (stride, pad) => {
    const size = pad === 'valid' ? 4 * stride + 1 : pad === 1 ? 4 * stride - 1 : 4 * stride;
    await expectAgreement((x, w) => tf.conv2dTranspose(x as tf.Tensor4D, w as tf.Tensor4D, [2, size, size, 3], stride, pad as number, pad === 1 ? 'floor' : undefined), [normal([2, 4, 4, 5]), normal([3, 3, 3, 5])]);
  });

  it.each<[number, Pad]>([[1, 'same'], [1, 'valid'], [2, 'same'], [2, 1]])('depthwiseConv2d with stride %s, padding %s', async (stride, pad) => {
    for (const multiplier of [1, 2]) {
      await expectAgreement((x, w) => tf.depthwiseConv2d(x as tf.Tensor4D, w as tf.Tensor4D, stride, pad as number, 'NHWC', 1, pad === 1 ? 'floor' : undefined), [normal([2, 7, 6, 3]), normal([3, 2, 3, multiplier])]);
    }
  });

  it('conv1d and separableConv2d', async () => {
    await expectAgreement((x, w) => tf.conv1d(x as tf.Tensor3D, w as tf.Tensor3D, 2, 'same'), [normal([2, 9, 3]), normal([3, 3, 4])]);
    await expectAgreement((x, d, p) => tf.separableConv2d(x as tf.Tensor4D, d as tf.Tensor4D, p as tf.Tensor4D, 1, 'same'), [normal([2, 6, 5, 3]), normal([3, 3, 3, 2]), normal([1, 1, 6, 4])]);
  });
});
