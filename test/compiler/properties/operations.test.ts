import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { gelu } from '../../../src/nn/gelu.ts';
import { layerNorm } from '../../../src/nn/layerNorm.ts';
import { batchNorm, groupNorm, l2Normalize, silu, standardize } from '../../../src/nn/layers.ts';
import { inference } from '../../../src/nn/module.ts';
import { attention } from '../../../src/nn/operations/attention.ts';
import { crossEntropy } from '../../../src/nn/operations/crossEntropy.ts';
import { topKAccuracy } from '../../../src/nn/operations/topKAccuracy.ts';
import { expectAgreement, integers, normal, uniform } from '../agreement.ts';
import { check, shape, size } from './arbitraries.ts';

const images = fc.record({ n: size(1, 3), h: size(1, 4), w: size(1, 4), groups: size(1, 3), each: size(1, 3) });

/** (x - mean) / sqrt(variance + epsilon) over `axes`, as tf.js composes and differentiates it. */
const plainly = (x: tf.Tensor, axes: number[], epsilon: number): tf.Tensor => {
  const { mean, variance } = tf.moments(x, axes, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, epsilon)));
};

describe('operations with gradients of their own agree with plain compositions for random shapes, value and gradient', () => {
  it('batch norm of images and matrices', async () => {
    await check(fc.tuple(shape(1, 3, 1, 4), size(1)), 13, ([batch, c]) => {
      if (batch.reduce((a, b) => a * b, 1) < 2) return Promise.resolve();
      return expectAgreement((x, w, b) => batchNorm('n', c, { epsilon: 0.01 }).apply(x, { 'n.weight': w, 'n.bias': b, 'n.running_mean': b, 'n.running_var': w }, { training: true }),
        [normal([...batch, c]), uniform([c], 0.5, 2), normal([c])], { tolerance: 1e-4, as: (x, w, b) => tf.add(tf.mul(plainly(x!, batch.map((_, i) => i), 0.01), w!), b!) });
    });
  });

  it('batch norm with given statistics, of vectors for the last axis or of whole shapes', async () => {
    await check(fc.tuple(shape(2, 4, 1, 4), fc.boolean()), 10, ([dims, vectors]) => {
      const own = vectors ? dims.slice(-1) : dims;
      return expectAgreement((x, m, v, o, s) => tf.batchNorm(x, m as tf.Tensor1D, v as tf.Tensor1D, o as tf.Tensor1D, s as tf.Tensor1D, 0.01), [normal(dims), normal(own), uniform(own, 0.5, 2), normal(own), uniform(own, 0.5, 2)],
        { tolerance: 2e-5, as: (x, m, v, o, s) => tf.add(tf.mul(tf.div(tf.sub(x!, m!), tf.sqrt(tf.add(v!, 0.01))), s!), o!) });
    });
  });

  it('layer norm, with and without scale and shift', async () => {
    await check(fc.tuple(shape(0, 3), size(2, 6)), 12, async ([outer, c]) => {
      if (outer.includes(0)) return;
      await expectAgreement((x) => standardize(x, 0.01), [normal([...outer, c])], { tolerance: 1e-4, as: (x) => plainly(x!, [outer.length], 0.01) });
      await expectAgreement((x, w, b) => layerNorm('n', c, 0.01).apply(x, { 'n.weight': w, 'n.bias': b }, inference), [normal([...outer, c]), uniform([c], 0.5, 2), normal([c])], { tolerance: 1e-4, as: (x, w, b) => tf.add(tf.mul(plainly(x!, [outer.length], 0.01), w!), b!) });
    });
  });

  it('group norm, with and without modulation', async () => {
    await check(images, 13, ({ n, h, w, groups, each }) => {
      const c = groups * each, norm = groupNorm('n', c, groups, 0.01);
      const weights = (g: tf.Tensor, b: tf.Tensor): Record<string, tf.Tensor> => ({ 'n.weight': g, 'n.bias': b });
      const one = (x: tf.Tensor, g: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.add(tf.mul(tf.reshape(plainly(tf.reshape(x, [n, h * w, groups, each]), [1, 3], 0.01), [n, h, w, c]), g), b);
      return expectAgreement((x, g, b, scale, shift) => [
        norm.apply(x as tf.Tensor4D, weights(g!, b!), { training: true }), norm.modulated(x as tf.Tensor4D, { scale: scale as tf.Tensor4D, shift: shift as tf.Tensor4D }, weights(g!, b!)),
      ], [normal([n, h, w, c]), uniform([c], 0.5, 2), normal([c]), uniform([n, 1, 1, c], -0.5, 0.5), normal([n, 1, 1, c])],
      { tolerance: 1e-4, as: (x, g, b, scale, shift) => { const y = one(x!, g!, b!); return [y, tf.add(tf.mul(y, tf.add(scale!, 1)), shift!)]; } });
    });
  });

  it('GELU, SiLU and length 1', async () => {
    await check(shape(0, 4), 10, (dims) => expectAgreement((x) => [gelu(x), silu(x)], [normal(dims, 3)], {
      tolerance: 2e-5, as: (x) => [tf.mul(x!, tf.mul(tf.add(tf.erf(tf.mul(x!, Math.SQRT1_2)), 1), 0.5)), tf.mul(x!, tf.sigmoid(x!))],
    }));
    await check(shape(1, 3, 1), 10, (dims) => expectAgreement((x) => l2Normalize(x), [uniform(dims, 0.5, 2)], { tolerance: 2e-5, as: (x) => tf.div(x!, tf.norm(x!, 'euclidean', -1, true)) }));
  });

  it('cross-entropy of classes and of soft targets', async () => {
    await check(fc.tuple(shape(1, 3, 1, 4), size(1, 6), fc.constantFrom(1, 20)), 13, async ([batch, classes, scale]) => {
      const targets = (l: tf.Tensor): tf.Tensor => tf.cast(tf.equal(tf.expandDims(l, -1), tf.range(0, classes, 1, 'int32')), 'float32');
      const plain = (x: tf.Tensor, t: tf.Tensor): tf.Tensor => tf.sub(tf.mul(tf.logSumExp(x, -1), tf.sum(t, -1)), tf.sum(tf.mul(x, t), -1));
      await expectAgreement((x, l) => crossEntropy(x!, l!), [normal([...batch, classes], scale), integers(batch, 0, classes)], { tolerance: 2e-5, as: (x, l) => plain(x!, targets(l!)) });
      const soft = uniform([...batch, classes], 0, 1);
      await expectAgreement((x) => crossEntropy(x!, tf.tensor(soft.data, [...soft.shape])), [normal([...batch, classes], scale)], { tolerance: 2e-5, as: (x) => plain(x!, tf.tensor(soft.data, [...soft.shape])) });
    });
  });

  it('attention, as one operator and in standard ones', async () => {
    await check(fc.record({ n: size(0, 3), s: size(1), l: size(1), heads: size(1, 3), d: size(1, 4), e: size(1, 4), scale: fc.constantFrom(undefined, 0.3, 2) }), 17, async ({ n, s, l, heads, d, e, scale }) => {
      const inputs = [normal([n, s, heads * d]), normal([n, l, heads * d]), normal([n, l, heads * e])];
      const head = (x: tf.Tensor, h: number): tf.Tensor => tf.slice(x, [0, 0, h * (x.shape[2]! / heads)], [-1, -1, x.shape[2]! / heads]);
      const plain = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor => tf.concat(Array.from({ length: heads }, (_, h) =>
        tf.matMul(tf.softmax(tf.mul(tf.matMul(head(q, h), head(k, h), false, true), scale ?? 1 / Math.sqrt(d))), head(v, h))), 2);
      const own = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor => attention(q, k, v, { heads, ...(scale === undefined ? {} : { scale }) });
      await expectAgreement(own as never, inputs, { gradient: false, as: plain as never });
      if (n > 0) await expectAgreement(own as never, inputs, { tolerance: 2e-5, as: plain as never });
    });
  });

  it('accuracy among the k largest', async () => {
    await check(fc.tuple(size(1, 6), size(1, 6)).chain(([n, classes]) => fc.tuple(fc.constant(n), fc.constant(classes), fc.integer({ min: 1, max: classes }))), 10, ([n, classes, k]) =>
      expectAgreement((x, l) => topKAccuracy(x as tf.Tensor2D, l as tf.Tensor1D, k), [{ ...integers([n, classes], 0, 4), dtype: 'float32', data: Float32Array.from(integers([n, classes], 0, 4).data) }, integers([n], 0, classes)], {
        gradient: false, as: (x, l) => tf.cast(tf.any(tf.equal(tf.topk(x!, k).indices, tf.expandDims(l!, 1)), 1), 'float32'),
      }));
  });
});
