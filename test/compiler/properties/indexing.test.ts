import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { int32 } from '../../../src/tensor.ts';
import { distinct, expectAgreement, integers, normal } from '../agreement.ts';
import { axisOf, check, shape, size } from './arbitraries.ts';

/** Distinct index vectors into `dims`, as many as `wanted` but no more than there are. */
const places = (dims: readonly number[], wanted: number): fc.Arbitrary<number[][]> => {
  const all = dims.reduce<number[][]>((some, n) => some.flatMap((head) => Array.from({ length: n }, (_, i) => [...head, i])), [[]]);
  return fc.shuffledSubarray(all, { minLength: Math.min(1, all.length), maxLength: Math.max(1, Math.min(wanted, all.length)) });
};

/** As tf.oneHot, which refuses a depth of 1. */
const oneHot = (indices: tf.Tensor, depth: number): tf.Tensor => tf.cast(tf.equal(tf.expandDims(indices, -1), tf.range(0, depth, 1, 'int32')), 'float32');

describe('indexing agrees with tf.js for random shapes, value and gradient', () => {
  it('gather along any axis, indices of any rank, repeated ones included', async () => {
    const cases = fc.tuple(shape(1, 4, 1), shape(0, 3)).chain(([dims, indices]) => fc.record({ dims: fc.constant(dims), indices: fc.constant(indices), axis: axisOf(dims.length) }));
    await check(cases, 26, ({ dims, indices, axis }) => expectAgreement((x, i) => tf.gather(x, i, axis), [normal(dims), integers(indices, 0, dims.at(axis)!)], {
      // tf.js's gradient takes the indices' axes for one: the reference gathers with a vector and reshapes.
      as: (x, i) => {
        const place = axis < 0 ? axis + dims.length : axis;
        return tf.reshape(tf.gather(x!, tf.reshape(i!, [-1]), place), dims.toSpliced(place, 1, ...indices));
      },
      gradient: !indices.includes(0),
    }));
  });

  it('gather for each sample of a batch', async () => {
    const cases = fc.record({ batch: shape(1, 2, 1, 3), n: size(1), count: size(1), inner: shape(0, 2, 1, 3) });
    await check(cases, 13, ({ batch, n, count, inner }) => expectAgreement((x, i) => tf.gather(x, i, batch.length, batch.length), [normal([...batch, n, ...inner]), integers([...batch, count], 0, n)], {
      as: (x, i) => {
        const size = batch.reduce((a, b) => a * b, 1), picked = tf.matMul(tf.reshape(oneHot(i!, n), [size, count, n]), tf.reshape(x!, [size, n, inner.reduce((a, b) => a * b, 1)]));
        return tf.reshape(picked, [...batch, count, ...inner]);
      },
    }));
  });

  it('gatherND, scatterND, tensorScatterUpdate', async () => {
    const cases = fc.tuple(shape(1, 4, 1, 4), fc.integer({ min: 1, max: 3 })).chain(([dims, depth]) => {
      const used = Math.min(depth, dims.length);
      return fc.record({ dims: fc.constant(dims), used: fc.constant(used), at: places(dims.slice(0, used), 5) });
    });
    await check(cases, 20, async ({ dims, used, at }) => {
      const inner = dims.slice(used), indices = int32(at.flat(), [at.length, used]), total = dims.slice(0, used).reduce((a, b) => a * b, 1);
      const row = (vector: readonly number[]): number => vector.reduce((place, k, axis) => place * dims[axis]! + k, 0);
      /** [places, indices]: 1 where an index vector names a place. */
      const chosen = (): tf.Tensor2D => oneHot(tf.tensor1d(at.map(row), 'int32'), total) as tf.Tensor2D;
      const flat = (x: tf.Tensor, rows: number): tf.Tensor2D => tf.reshape(x, [rows, inner.reduce((a, b) => a * b, 1)]);
      await expectAgreement((x, i) => tf.gatherND(x, i), [normal(dims), indices], { as: (x) => tf.reshape(tf.matMul(chosen(), flat(x!, total)), [at.length, ...inner]) });
      await expectAgreement((u, i) => tf.scatterND(i as tf.Tensor, u, dims as [number]), [normal([at.length, ...inner]), indices], { as: (u) => tf.reshape(tf.matMul(chosen(), flat(u!, at.length), true), dims) });
      await expectAgreement((x, u, i) => tf.tensorScatterUpdate(x, i, u), [normal(dims), normal([at.length, ...inner]), indices], {
        as: (x, u) => tf.reshape(tf.add(tf.mul(flat(x!, total), tf.sub(1, tf.sum(chosen(), 0).reshape([total, 1]))), tf.matMul(chosen(), flat(u!, at.length), true)), dims),
      });
    });
  });

  it('one-hot, sums of segments, sorted places', async () => {
    await check(fc.tuple(shape(0, 3), size(2)), 10, async ([dims, depth]) => {
      await expectAgreement((i) => [tf.oneHot(i, depth), tf.oneHot(i, depth, 2.5, -1, 'float32'), tf.oneHot(i, depth, 1, 0, 'bool')], [integers(dims, -1, depth + 1)], { gradient: false });
    });
    await check(fc.tuple(size(1), size(1), shape(0, 2, 1)), 10, ([n, segments, inner]) => expectAgreement((x, i) => tf.unsortedSegmentSum(x, i as tf.Tensor1D, segments), [normal([n, ...inner]), integers([n], 0, segments)]));
    await check(fc.tuple(size(1, 3), size(1, 6), size(1, 6), fc.constantFrom<'left' | 'right'>('left', 'right')), 8, ([rows, n, m, side]) => {
      const sorted = integers([rows, n], 0, 6);
      for (let r = 0; r < rows; r++) sorted.data.subarray(r * n, (r + 1) * n).sort();
      return expectAgreement((s, v) => tf.searchSorted(s, v, side), [sorted, integers([rows, m], -1, 7)]);
    });
  });

  it('the k largest and where they were, value and gradient', async () => {
    const cases = shape(1, 4, 1).chain((dims) => fc.tuple(fc.constant(dims), fc.integer({ min: 1, max: dims.at(-1)! })));
    await check(cases, 13, async ([dims, k]) => {
      await expectAgreement((x) => { const { values, indices } = tf.topk(x, k); return [values, indices]; }, [distinct(dims)]);
      await expectAgreement((x) => tf.topk(x, k).values, [distinct(dims)], {
        as: (x) => tf.sum(tf.mul(oneHot(tf.topk(tf.tensor(x!.dataSync(), dims), k).indices, dims.at(-1)!), tf.expandDims(x!, -2)), -1),
      });
    });
  });

  it('sparse to dense', async () => {
    await check(shape(1, 3, 1, 4).chain((dims) => fc.tuple(fc.constant(dims), places(dims, 6))), 8, ([dims, at]) =>
      expectAgreement((v) => tf.sparseToDense(tf.tensor2d(at, [at.length, dims.length], 'int32'), v as tf.Tensor1D, dims, 0.5), [normal([at.length])], { gradient: false }));
  });
});
