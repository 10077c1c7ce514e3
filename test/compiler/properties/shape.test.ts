import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { booleans, expectAgreement, integers, normal } from '../agreement.ts';
import { axesOf, axisOf, check, shape, size } from './arbitraries.ts';

const with_ = <T>(dims: fc.Arbitrary<number[]>, more: (dims: number[]) => fc.Arbitrary<T>): fc.Arbitrary<[number[], T]> => dims.chain((d) => fc.tuple(fc.constant(d), more(d)));
const each = <T>(dims: readonly number[], value: (n: number) => fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.tuple(...dims.map(value));
const orders = (dims: readonly number[]): fc.Arbitrary<number[]> => fc.shuffledSubarray(dims.map((_, i) => i), { minLength: dims.length });

describe('kernels that move data agree with tf.js for random shapes, value and gradient', () => {
  it('transpose and reshape: axes merged, split and of size 0 and 1, from any layout', async () => {
    const cases = with_(shape(1, 5, 0, 4), (dims) => fc.record({
      order: orders(dims), merged: fc.integer({ min: 0, max: dims.length - 1 }), ones: fc.integer({ min: 0, max: dims.length }),
    }));
    await check(cases, 20, ([dims, { order, merged, ones }]) => expectAgreement((x) => {
      const moved = tf.transpose(x, order), joined = [...moved.shape.slice(0, merged), moved.shape.slice(merged).reduce((a, b) => a * b, 1)];
      return [tf.square(moved), tf.square(tf.reshape(moved, joined)), tf.square(tf.reshape(moved, moved.shape.toSpliced(ones, 0, 1))), tf.expandDims(moved, -1), tf.squeeze(tf.expandDims(moved, ones), [ones])];
    }, [normal(dims)]));
  });

  it('slice, strided slice with steps of either sign, reverse', async () => {
    const cases = with_(shape(1, 4, 1), (dims) => fc.record({
      ranges: each(dims, (n) => fc.tuple(fc.integer({ min: 0, max: n }), fc.integer({ min: 0, max: n })).map(([a, b]) => [Math.min(a, b), Math.abs(a - b)] as const)),
      steps: each(dims, (n) => fc.tuple(fc.integer({ min: -n, max: n - 1 }), fc.integer({ min: -n - 1, max: n }), fc.constantFrom(-2, -1, 1, 2, 3))), axes: axesOf(dims.length),
    }));
    await check(cases, 26, async ([dims, { ranges, steps, axes }]) => {
      await expectAgreement((x) => [tf.slice(x, ranges.map(([b]) => b), ranges.map(([, n]) => n)), tf.reverse(x, axes)], [normal(dims)]);
      const [begin, end, strides] = [0, 1, 2].map((k) => steps.map((s) => s[k]!)) as [number[], number[], number[]];
      const { begin: from, end: to } = tf.slice_util.sliceInfo(dims, begin, end, strides, 0, 0, 0, 0, 0);
      const sizes = tf.slice_util.computeOutShape(from, to, strides).map((n) => Math.max(0, n));
      // tf.js has no gradient of it: the reference gathers along every axis.
      await expectAgreement((x) => tf.stridedSlice(x, begin, end, strides), [normal(dims)], {
        as: (x) => (sizes.includes(0) ? tf.slice(x!, dims.map(() => 0), sizes) : sizes.reduce((y: tf.Tensor, n, axis) => tf.gather(y, tf.tensor1d(Array.from({ length: n }, (_, i) => from[axis]! + i * strides[axis]!), 'int32'), axis), x!)),
      });
    });
  });

  it('pad, and pad with mirror images', async () => {
    const borders = with_(shape(1, 4), (dims) => each(dims, () => fc.tuple(fc.nat(3), fc.nat(3))));
    await check(borders, 10, ([dims, paddings]) => expectAgreement((x) => tf.pad(x, paddings, 1.5), [normal(dims)]));
    const mirrors = fc.constantFrom<'reflect' | 'symmetric'>('reflect', 'symmetric').chain((mode) => with_(shape(1, 4, 1), (dims) => each(dims, (n) => {
      const most = mode === 'reflect' ? n - 1 : n;
      return fc.tuple(fc.nat(most), fc.nat(most));
    })).map(([dims, paddings]) => ({ mode, dims, paddings })));
    // The gradient of tf.js leaves the mirror images out: the reference gathers.
    await check(mirrors, 17, ({ mode, dims, paddings }) => expectAgreement((x) => tf.mirrorPad(x, paddings, mode), [normal(dims)], {
      as: (x) => paddings.reduce((y: tf.Tensor, [before, after], axis) => {
        const n = dims[axis]!, shift = mode === 'reflect' ? 0 : 1;
        const places = Array.from({ length: before + n + after }, (_, i) => { const k = i - before; return k < 0 ? -k - shift : k >= n ? 2 * n - 2 - k + shift : k; });
        return tf.gather(y, tf.tensor1d(places, 'int32'), axis);
      }, x!),
    }));
  });

  it('tile and broadcast, to five axes', async () => {
    await check(with_(shape(1, 5, 1, 3), (dims) => each(dims, () => fc.integer({ min: 1, max: 3 }))), 13, ([dims, reps]) => expectAgreement((x) => tf.tile(x, reps), [normal(dims)], {
      as: (x) => reps.reduce((y: tf.Tensor, n, axis) => tf.concat(Array.from({ length: n }, () => y), axis), x!),
    }));
    await check(with_(shape(1, 5, 1, 3), (dims) => fc.tuple(each(dims, () => fc.boolean()), fc.nat(2))), 13, ([dims, [single, dropped]]) => expectAgreement((x) => tf.broadcastTo(x, dims), [normal(dims.map((n, i) => (single[i] ? 1 : n)).slice(dropped))],
      { as: (x) => tf.mul(x!, tf.ones(dims)) }));
  });

  it('concat, stack, unstack and split along any axis, empty parts included', async () => {
    const cases = with_(shape(1, 4, 1), (dims) => fc.record({ axis: axisOf(dims.length), sizes: fc.array(size(0, 3), { minLength: 1, maxLength: 4 }), place: fc.integer({ min: 0, max: dims.length }) }))
      .filter(([, { sizes }]) => sizes.some((n) => n > 0));
    await check(cases, 20, async ([dims, { axis, sizes, place }]) => {
      const along = (n: number): number[] => dims.with(axis, n);
      await expectAgreement((...xs) => tf.concat(xs, axis), sizes.map((n) => normal(along(n))));
      await expectAgreement((...xs) => tf.stack(xs, place), sizes.map(() => normal(dims)));
      await expectAgreement((x) => tf.split(x, sizes.filter((n) => n > 0), axis), [normal(along(sizes.reduce((a, b) => a + b, 0)))]);
      await expectAgreement((x) => tf.unstack(x, axis), [normal(dims)]);
    });
  });

  it('whole numbers and truth values move as floats do', async () => {
    await check(with_(shape(2, 4, 1, 3), (dims) => fc.record({ order: orders(dims), axis: axisOf(dims.length) })), 8, async ([dims, { order, axis }]) => {
      for (const x of [integers(dims, -5, 6), booleans(dims)]) {
        await expectAgreement((t) => [tf.transpose(t, order), tf.reverse(t, axis), tf.concat([t, tf.reverse(t, axis)], axis), tf.tile(t, dims.map((_, i) => 1 + i % 2)), tf.slice(t, dims.map(() => 0), dims.map((n) => Math.ceil(n / 2))), tf.reshape(t, [-1])], [x]);
      }
    });
  });

  it('space to batch, batch to space, depth to space', async () => {
    const cases = fc.record({ n: size(1, 3), h: size(1, 3), w: size(1, 3), c: size(1, 3), block: fc.tuple(size(1, 3), size(1, 3)), crop: fc.tuple(fc.nat(1), fc.nat(1)) });
    await check(cases, 10, async ({ n, h, w, c, block: [a, b], crop: [p, q] }) => {
      await expectAgreement((x) => tf.spaceToBatchND(x, [a, b], [[p, (a - ((h * a + p) % a)) % a], [q, (b - ((w * b + q) % b)) % b]]), [normal([n, h * a, w * b, c])]);
      const kept = [[Math.min(p, h * a - 1), 0], [0, Math.min(q, w * b - 1)]];
      await expectAgreement((x) => tf.batchToSpaceND(x, [a, b], kept), [normal([n * a * b, h, w, c])]);
      await expectAgreement((x) => tf.depthToSpace(x as tf.Tensor4D, Math.max(a, 2)), [normal([n, h, w, c * Math.max(a, 2) ** 2])], {
        as: (x) => {
          const k = Math.max(a, 2);
          return tf.reshape(tf.transpose(tf.reshape(x!, [n, h, w, k, k * c]), [0, 1, 3, 2, 4]), [n, h * k, w * k, c]);
        },
      });
      await expectAgreement((x) => tf.image.flipLeftRight(x as tf.Tensor4D), [normal([n, h, w, c])], { gradient: false });
    });
  });

  it('tensors that are made: filled, ranges, diagonals', async () => {
    await check(fc.record({ dims: shape(0, 3), value: fc.integer({ min: -9, max: 9 }), start: fc.integer({ min: -5, max: 5 }), steps: size(1, 7), by: fc.constantFrom(-2, -1, 1, 2, 3) }), 8, async ({ dims, value, start, steps, by }) => {
      await expectAgreement((x) => [tf.add(x, tf.fill(dims, value / 4)), tf.mul(x, tf.ones(dims)), tf.add(x, tf.zeros(dims))], [normal(dims)]);
      await expectAgreement((x) => [tf.add(x, tf.linspace(start, value, steps)), tf.add(x, tf.range(start, start + by * steps, by)), tf.matMul(tf.reshape(x, [1, steps]), tf.eye(steps))], [normal([steps])]);
      await expectAgreement((x) => tf.diag(x), [normal([steps])], { as: (x) => tf.mul(tf.expandDims(x!, 1), tf.eye(steps)) });
      await expectAgreement((i) => [tf.add(i, tf.fill(dims, value, 'int32')), tf.bitwiseAnd(i, tf.fill(dims, 5, 'int32'))], [integers(dims, 0, 16)]);
    });
  });
});
