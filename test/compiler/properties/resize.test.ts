import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { expectAgreement, normal } from '../agreement.ts';
import { check, size } from './arbitraries.ts';

const cases = fc.record({ n: size(1, 2), h: size(1, 6), w: size(1, 6), c: size(1, 2), height: size(1, 9), width: size(1, 9), mode: fc.constantFrom<[boolean, boolean]>([false, false], [true, false], [false, true]) });

describe('resizing agrees with tf.js for random sizes', () => {
  it('bilinear, value and gradient', async () => {
    // Height and width apart as products with the weights of each axis: the gradients of tf.js know no half-pixel centres and exchange the axes.
    await check(cases, 20, ({ n, h, w, c, height, width, mode }) => expectAgreement((x) => tf.image.resizeBilinear(x as tf.Tensor4D, [height, width], ...mode), [normal([n, h, w, c])], {
      tolerance: 2e-5,
      as: (x) => {
        /** [to, from]: what the resize makes of every unit vector. */
        const weights = (from: number, to: number): tf.Tensor2D => tf.transpose(tf.reshape(tf.image.resizeBilinear(tf.reshape(tf.eye(from), [from, from, 1, 1]) as tf.Tensor4D, [to, 1], ...mode), [from, to]));
        const rows = tf.matMul(weights(h, height), tf.reshape(tf.transpose(x!, [1, 0, 2, 3]), [h, n * w * c]));
        const columns = tf.matMul(weights(w, width), tf.reshape(tf.transpose(tf.reshape(rows, [height, n, w, c]), [2, 0, 1, 3]), [w, height * n * c]));
        return tf.transpose(tf.reshape(columns, [width, height, n, c]), [2, 1, 0, 3]);
      },
    }));
  });

  it('nearest neighbour, value and gradient', async () => {
    await check(cases, 20, ({ n, h, w, c, height, width, mode }) => expectAgreement((x) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, [height, width], ...mode), [normal([n, h, w, c])], {
      as: (x) => {
        const places = (from: number, to: number): tf.Tensor1D => tf.cast(tf.reshape(tf.image.resizeNearestNeighbor(tf.reshape(tf.range(0, from), [1, from, 1, 1]) as tf.Tensor4D, [to, 1], ...mode), [to]), 'int32');
        return tf.gather(tf.gather(x!, places(h, height), 1), places(w, width), 2);
      },
    }));
  });
});
