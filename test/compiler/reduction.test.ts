import * as tf from '@tensorflow/tfjs';
import { describe, it } from 'vitest';
import { booleans, distinct, expectAgreement, integers, normal, uniform } from './agreement.ts';

const axes: (number | number[] | undefined)[] = [undefined, 0, -1, 1, [0, 2], [-1, -3], [0, 1, 2]];

describe('reductions agree with the cpu backend, value and gradient', () => {
  it.each([['sum', tf.sum], ['mean', tf.mean], ['max', tf.max], ['min', tf.min]] as const)('%s over every choice of axes', async (_name, fn) => {
    for (const axis of axes) for (const keep of [false, true]) await expectAgreement((x) => fn(x, axis, keep), [distinct([3, 4, 5])]);
    await expectAgreement((x) => fn(x), [normal([])]);
    await expectAgreement((x) => fn(x, 0), [normal([1, 3])]);
  });

  it('prod, all, any', async () => {
    for (const axis of axes) {
      await expectAgreement((x) => tf.prod(x, axis), [uniform([3, 4, 2], 0.5, 1.5)], { gradient: false });
      await expectAgreement((x) => [tf.all(x, axis), tf.any(x, axis, true)], [booleans([3, 4, 2])]);
    }
    await expectAgreement((x) => [tf.sum(x, 1), tf.max(x, 0), tf.mean(x)], [integers([3, 4], -5, 9)], { gradient: false });
    await expectAgreement((x) => tf.sum(x), [booleans([3, 4])]);
  });

  it('argMax and argMin take the first of equal values', async () => {
    for (const axis of [0, 1, -1]) {
      await expectAgreement((x) => [tf.argMax(x, axis), tf.argMin(x, axis)], [distinct([3, 4, 5])]);
      await expectAgreement((x) => [tf.argMax(x, axis), tf.argMin(x, axis)], [integers([3, 4, 5], 0, 3)]);
    }
  });

  it('cumsum', async () => {
    for (const exclusive of [false, true]) for (const reverse of [false, true]) {
      await expectAgreement((x) => tf.cumsum(x, 1, exclusive, reverse), [normal([3, 5])]);
      await expectAgreement((x) => tf.cumsum(x, 0, exclusive, reverse), [normal([3, 5, 2])], { gradient: false });
    }
  });

  it('softmax, logSoftmax and logSumExp', async () => {
    await expectAgreement((x) => tf.softmax(x), [normal([3, 5], 4)]);
    await expectAgreement((x) => tf.softmax(x), [normal([2, 3, 5], 4)]);
    await expectAgreement((x) => tf.logSoftmax(x), [normal([3, 5], 4)]);
    await expectAgreement((x) => tf.logSumExp(x, 1), [normal([3, 5], 4)]);
  });

  it('moments, norms and batch normalization', async () => {
    await expectAgreement((x) => { const m = tf.moments(x, [0, 1, 2]); return [m.mean, m.variance]; }, [normal([2, 3, 4, 5])]);
    await expectAgreement((x) => tf.norm(x, 'euclidean', 1), [normal([3, 5])]);
    const channel = () => uniform([5], 0.5, 2);
    await expectAgreement((x, m, v, o, s) => tf.batchNorm(x as tf.Tensor4D, m as tf.Tensor1D, v as tf.Tensor1D, o as tf.Tensor1D, s as tf.Tensor1D, 1e-3),
      [normal([2, 3, 4, 5]), channel(), channel(), channel(), channel()]);
    await expectAgreement((x, m, v) => tf.batchNorm(x as tf.Tensor2D, m as tf.Tensor1D, v as tf.Tensor1D), [normal([4, 5]), channel(), channel()], { gradient: false });
  });
});
