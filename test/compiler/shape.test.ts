import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { booleans, expectAgreement, integers, normal } from './agreement.ts';

describe('shape operations agree with the cpu backend, value and gradient', () => {
  it('reshape, expandDims, squeeze, flatten', async () => {
    await expectAgreement((x) => tf.reshape(x, [6, -1]), [normal([2, 3, 4])]);
    await expectAgreement((x) => [tf.expandDims(x, 0), tf.expandDims(x, -1), tf.expandDims(x, 1)], [normal([2, 3])]);
    await expectAgreement((x) => [tf.squeeze(x), tf.squeeze(x, [1])], [normal([2, 1, 3, 1])]);
    await expectAgreement((x) => tf.reshape(x, []), [normal([1, 1])]);
  });

  it('reshapes of arbitrarily stored tensors', async () => {
    const shapes = fc.constantFrom<[number[], number[]]>([[2, 3, 4, 5], [2, 12, 5]], [[2, 12, 5], [2, 3, 4, 5]], [[2, 3, 4, 5], [6, 20]], [[2, 1, 4, 3], [2, 4, 3]], [[2, 4, 3], [1, 2, 4, 1, 3]], [[4, 6], [2, 2, 3, 2]], [[1, 1, 4], [4, 1]], [[3, 8], [4, 6]]);
    await fc.assert(fc.asyncProperty(shapes.chain(([from, to]) => fc.tuple(fc.constant(from), fc.constant(to), fc.shuffledSubarray(from.map((_, i) => i), { minLength: from.length }))), async ([from, to, order]) => {
      const undo = from.map((_, axis) => order.indexOf(axis));
      await expectAgreement((x) => tf.square(tf.reshape(tf.transpose(x, undo), to)), [normal(order.map((axis) => from[axis]!))]);
    }), { numRuns: 25, seed: 3 });
  });

  it('transpose', async () => {
    for (const perm of [[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]]) await expectAgreement((x) => tf.transpose(x, perm), [normal([2, 3, 4])]);
    await expectAgreement((x) => tf.transpose(tf.transpose(x, [0, 3, 1, 2]), [0, 2, 3, 1]), [normal([2, 3, 4, 5])]);
  });

  it('concat, stack, unstack, split', async () => {
    for (const axis of [0, 1, -1]) {
      await expectAgreement((a, b) => tf.concat([a, b], axis), [normal(axis === 0 ? [1, 3, 4] : [2, 3, 4]), normal([2, 3, 4])].map((x, i) => (axis === 0 || i === 0 ? x : normal([2, axis === 1 ? 5 : 3, axis === -1 ? 2 : 4]))));
      await expectAgreement((a, b, c) => tf.stack([a, b, c], axis), [normal([2, 3]), normal([2, 3]), normal([2, 3])]);
      await expectAgreement((x) => tf.unstack(x, axis), [normal([2, 3, 4])]);
      await expectAgreement((x) => tf.split(x, [1, 2, 1], axis), [normal([4, 4, 4])]);
      await expectAgreement((x) => tf.split(x, 2, axis), [normal([4, 4, 4])]);
    }
    // Operands stored in different layouts.
    await expectAgreement((a, b) => tf.concat([tf.transpose(a, [0, 2, 3, 1]), b], 3), [normal([2, 3, 4, 5]), normal([2, 4, 5, 2])]);
    await expectAgreement((a, b) => tf.concat([a, b], 0), [booleans([2, 3]), booleans([1, 3])]);
  });

  it('slice, stridedSlice, reverse', async () => {
    await expectAgreement((x) => tf.slice(x, [1, 0, 2], [1, 2, -1]), [normal([2, 3, 4])]);
    await expectAgreement((x) => tf.slice(x, 1), [normal([4, 3])]);
    await expectAgreement((x) => tf.stridedSlice(x, [0, 3, -1], [4, 0, -5], [2, -1, -2]), [normal([5, 4, 6])], { gradient: false });
    await expectAgreement((x) => tf.stridedSlice(x, [1, 0, 1], [2, 3, 4], [1, 1, 1], 2, 4, 0, 0, 1), [normal([5, 4, 6])], { gradient: false });
    await expectAgreement((x) => [tf.reverse(x, 0), tf.reverse(x, [1, -1]), tf.reverse(x)], [normal([2, 3, 4])]);
  });

  it('pad and mirrorPad', async () => {
    await expectAgreement((x) => tf.pad(x, [[1, 0], [0, 2], [3, 1]], 1.5), [normal([2, 3, 4])]);
    await expectAgreement((x) => [tf.mirrorPad(x, [[1, 0], [0, 2], [3, 1]], 'reflect'), tf.mirrorPad(x, [[1, 2], [3, 2], [4, 1]], 'symmetric')], [normal([2, 3, 4])], { gradient: false });
  });

  it('tile and broadcastTo', async () => {
    await expectAgreement((x) => tf.tile(x, [2, 1, 3]), [normal([2, 3, 2])]);
    await expectAgreement((x) => tf.broadcastTo(x, [4, 2, 3]), [normal([2, 1])]);
    await expectAgreement((x) => tf.tile(x, [2, 2]), [booleans([2, 3])]);
  });

  it('created tensors: fill, ones, range, linspace, eye', async () => {
    await expectAgreement((x) => [
      tf.add(x, tf.fill([2, 3], 2.5)), tf.mul(x, tf.ones([2, 1])), tf.add(x, tf.zeros([3])), tf.add(x, tf.range(0, 3)), tf.mul(x, tf.linspace(-1, 1, 3)), tf.matMul(x, tf.eye(3)),
      tf.add(x, tf.scalar(3)), tf.div(x, 7), tf.add(x, tf.tensor2d([[1, 2, 3], [4, 5, 6]])),
    ], [normal([2, 3])]);
    await expectAgreement((x) => tf.add(x, tf.range(0, 6, 2, 'int32')), [integers([2, 3], 0, 9)]);
  });

  it('depthToSpace', async () => {
    await expectAgreement((x) => tf.depthToSpace(x as tf.Tensor4D, 2, 'NHWC'), [normal([2, 3, 4, 8])], { gradient: false });
  });
});
