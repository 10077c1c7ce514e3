import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { distinct, expectAgreement } from '../agreement.ts';
import { check, size } from './arbitraries.ts';

const two = (min: number, max: number): fc.Arbitrary<[number, number]> => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));

const windows = fc.record({ batch: size(0, 3), channels: size(1, 3), image: two(1, 8), kernel: two(1, 4), stride: two(1, 3), pad: fc.oneof(fc.constantFrom<'same' | 'valid'>('same', 'valid'), fc.integer({ min: 0, max: 3 })) })
  // Every window needs a pixel, hence padding below the size of the kernel.
  .filter(({ image, kernel, pad }) => pad === 'same' || [0, 1].every((i) => (typeof pad === 'number' ? pad < kernel[i]! : true) && image[i]! + 2 * (typeof pad === 'number' ? pad : 0) >= kernel[i]!));

const rounding = (pad: unknown): 'floor' | undefined => (typeof pad === 'string' ? undefined : 'floor');

/** Padding of every side by itself: with one number tf.js measures the width with the height of the window. */
const everySide = (pad: 'same' | 'valid' | number): 'valid' => (typeof pad === 'number' ? [[0, 0], [pad, pad], [pad, pad], [0, 0]] as unknown as 'valid' : pad as 'valid');

describe('pooling agrees with tf.js for random windows, value and gradient', () => {
  it('maximum', async () => {
    await check(windows, 26, ({ batch, channels, image, kernel, stride, pad }) => expectAgreement((x) => tf.maxPool(x as tf.Tensor4D, kernel, stride, everySide(pad), rounding(pad)),
      [distinct([batch, ...image, channels])]));
  });

  it('average over the pixels of each window that exist', async () => {
    await check(windows, 26, async ({ batch, channels, image, kernel, stride, pad }) => {
      // The gradient of tf.js's cpu backend divides by the whole window at the border: the reference sums with a convolution.
      const sums = (x: tf.Tensor4D): tf.Tensor4D => tf.conv2d(tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [x.shape[0] * channels, ...image, 1]) as tf.Tensor4D, tf.ones([...kernel, 1, 1]), stride, everySide(pad), 'NHWC', 1, rounding(pad));
      await expectAgreement((x) => tf.avgPool(x as tf.Tensor4D, kernel, stride, everySide(pad), rounding(pad)), [distinct([Math.max(1, batch), ...image, channels])], {
        tolerance: 2e-5,
        as: (x) => {
          const means = tf.div(sums(x as tf.Tensor4D), sums(tf.onesLike(x as tf.Tensor4D))), [, h, w] = means.shape as number[];
          return tf.transpose(tf.reshape(means, [x!.shape[0]!, channels, h!, w!]), [0, 2, 3, 1]);
        },
      });
    });
  });

  it('of windows with gaps', async () => {
    await check(windows, 8, ({ channels, image: [h, w], kernel }) => expectAgreement((x) => tf.pool(x as tf.Tensor4D, kernel, 'max', 'valid', [2, 2]), [distinct([2, h + 2 * kernel[0], w + 2 * kernel[1], channels])], { gradient: false }));
  });

  it('of the whole image', async () => {
    await check(windows, 8, ({ batch, channels, image }) => expectAgreement((x) => [tf.mean(x, [1, 2]), tf.max(x, [1, 2]), tf.mean(x, [-3, -2], true)], [distinct([batch, ...image, channels])]));
  });
});
