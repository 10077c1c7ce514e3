import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compile } from '../../../src/runtime/compile.ts';
import { booleans, distinct, expectAgreement, integers, normal, uniform } from '../agreement.ts';
import { axesOf, axisOf, check, shape } from './arbitraries.ts';

const reducible = fc.tuple(shape(1, 5, 1, 3), fc.boolean()).chain(([dims, keep]) => fc.record({ dims: fc.constant(dims), keep: fc.constant(keep), axes: fc.oneof(fc.constant(undefined), axisOf(dims.length), axesOf(dims.length)) }));
const along = shape(1, 4, 1).chain((dims) => fc.record({ dims: fc.constant(dims), axis: axisOf(dims.length), exclusive: fc.boolean(), reverse: fc.boolean() }));

describe('reductions agree with tf.js for random shapes and axes', () => {
  it('sum, mean, maximum, minimum, product, norm and log-sum-exp, value and gradient', async () => {
    await check(reducible, 26, async ({ dims, axes, keep }) => {
      await expectAgreement((x) => [tf.sum(x, axes, keep), tf.mean(x, axes, keep), tf.max(x, axes, keep), tf.min(x, axes, keep), tf.logSumExp(x, axes, keep)], [distinct(dims)], { tolerance: 5e-5 });
      await expectAgreement((x) => [tf.sqrt(tf.sum(tf.square(x), axes, keep)), tf.norm(x, 'euclidean', Array.isArray(axes) ? axes.slice(0, 2) : axes, keep), tf.moments(x, axes, keep).variance], [uniform(dims, 0.5, 1.5)], { tolerance: 2e-5 });
    });
  });

  it('product, value and gradient', async () => {
    await check(reducible, 10, ({ dims, axes, keep }) => expectAgreement((x) => tf.prod(x, axes, keep), [uniform(dims, 0.8, 1.25)], {
      tolerance: 2e-5, as: (x) => tf.exp(tf.sum(tf.log(x!), axes, keep)),
    }));
  });

  it('whole numbers and truth values', async () => {
    await check(reducible, 10, async ({ dims, axes, keep }) => {
      await expectAgreement((x) => [tf.sum(x, axes, keep), tf.max(x, axes, keep), tf.min(x, axes, keep), tf.mean(x, axes, keep), tf.prod(x, axes, keep)], [integers(dims, -2, 3)], { gradient: false });
      await expectAgreement((x) => [tf.all(x, axes, keep), tf.any(x, axes, keep), tf.sum(x, axes, keep)], [booleans(dims)]);
    });
  });

  it('places of extremes, ties included', async () => {
    await check(along, 10, async ({ dims, axis }) => {
      await expectAgreement((x) => [tf.argMax(x, axis), tf.argMin(x, axis)], [distinct(dims)]);
      await expectAgreement((x) => [tf.argMax(x, axis), tf.argMin(x, axis)], [integers(dims, 0, 3)]);
    });
  });

  it('running sums and products', async () => {
    // tf.js transposes the gradient of an inner axis; the reference moves the axis to the end itself.
    const last = (x: tf.Tensor, axis: number, body: (moved: tf.Tensor) => tf.Tensor): tf.Tensor => {
      const order = Array.from({ length: x.rank }, (_, i) => i), place = axis < 0 ? axis + x.rank : axis;
      order.splice(place, 1); order.push(place);
      return tf.transpose(body(tf.transpose(x, order)), order.map((_, i) => order.indexOf(i)));
    };
    await check(along, 13, async ({ dims, axis, exclusive, reverse }) => {
      await expectAgreement((x) => tf.cumsum(x, axis, exclusive, reverse), [normal(dims)], { as: (x) => last(x!, axis, (moved) => tf.cumsum(moved, moved.rank - 1, exclusive, reverse)) });
      await expectAgreement((x) => tf.cumprod(x, axis, exclusive, reverse), [normal(dims)], { gradient: false, as: (x) => last(x!, axis, (moved) => tf.cumprod(moved, moved.rank - 1, exclusive, reverse)) });
    });
  });

  it('softmax and log-softmax of logits of any size', async () => {
    await check(fc.tuple(shape(1, 4), fc.constantFrom(1, 30)), 13, ([dims, scale]) => expectAgreement((x) => [tf.softmax(x), tf.logSoftmax(x)], [normal(dims, scale)], { tolerance: 2e-5 }));
  });

  it('kernels that tf.js composes of others: log-softmax along any axis, broadcast', async () => {
    const run = (name: string, inputs: tf.NamedTensorMap, attributes: tf.NamedAttrMap): tf.Tensor => tf.engine().runKernel(name, inputs, attributes);
    await check(along, 8, ({ dims, axis }) => expectAgreement((x) => [run('LogSoftmax', { logits: x! }, { axis }), run('BroadcastTo', { x: x! }, { shape: [2, ...dims], inputShape: dims })], [normal(dims, 3)], {
      gradient: false, as: (x) => [tf.sub(x!, tf.logSumExp(x!, axis, true)), tf.stack([x!, x!])], tolerance: 2e-5,
    }));
  });

  it('give the neutral element over no elements', async () => {
    const outputs = ({ x, b }: Record<string, tf.Tensor>): Record<string, tf.Tensor> => ({
      sum: tf.sum(x!, 1), product: tf.prod(x!, 1), mean: tf.mean(x!, 1), maximum: tf.max(x!, 1), minimum: tf.min(x!, -2), all: tf.all(b!, 0), any: tf.any(b!, 0), kept: tf.sum(x!, 1, true),
      gradient: tf.grad((t: tf.Tensor) => tf.sum(tf.add(t, 1)))(x!),
    });
    const program = await compile(outputs, { x: { shape: [2, 0, 3] }, b: { shape: [0], dtype: 'bool' } });
    const results = await program.run({ x: { shape: [2, 0, 3], dtype: 'float32', data: new Float32Array() }, b: { shape: [0], dtype: 'bool', data: new Uint8Array() } });
    const values = Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, [...new Set(data)]]));
    expect(values).toEqual({ sum: [0], product: [1], mean: [NaN], maximum: [-Infinity], minimum: [Infinity], all: [1], any: [0], kept: [0], gradient: [] });
    expect(results['kept']!.shape).toEqual([2, 1, 3]);
    expect(results['gradient']!.shape).toEqual([2, 0, 3]);
    await program.dispose();
  });
});
