import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { float32 } from '../../../src/tensor.ts';
import { booleans, distinct, expectAgreement, integers, normal, uniform } from '../agreement.ts';
import { broadcasting, check, shape } from './arbitraries.ts';

describe('element-wise kernels agree with tf.js for random shapes', () => {
  it('functions of any number, value and gradient', async () => {
    await check(shape(0, 5), 8, (dims) => expectAgreement((x) => [
      tf.abs(x), tf.asinh(x), tf.atan(x), tf.ceil(x), tf.cos(x), tf.cosh(x), tf.elu(x), tf.erf(x), tf.exp(x), tf.expm1(x), tf.floor(x), tf.neg(x), tf.relu(x), tf.relu6(tf.mul(x, 3)),
      tf.round(tf.add(x, 0.1)), tf.selu(x), tf.sigmoid(x), tf.sign(x), tf.sin(x), tf.sinh(x), tf.softplus(x), tf.square(x), tf.step(x, 0.3), tf.tanh(x), tf.leakyRelu(x, 0.3),
      tf.clipByValue(x, -0.52, 0.71), tf.logSigmoid(x), tf.clone(x), tf.mul(x, tf.onesLike(x)), tf.add(x, tf.zerosLike(x)),
    ], [distinct(dims)], { tolerance: 2e-5 }));
  });

  it('functions of part of the line, value and gradient', async () => {
    await check(shape(0, 4), 8, (dims) => expectAgreement((x) => [tf.log(x), tf.log1p(x), tf.reciprocal(x), tf.rsqrt(x), tf.sqrt(x), tf.pow(x, 1.7), tf.acosh(tf.add(x, 1))], [uniform(dims, 0.2, 4)], { tolerance: 3e-5 }));
    await check(shape(0, 4), 8, (dims) => expectAgreement((x) => [tf.acos(x), tf.asin(x), tf.atanh(x), tf.tan(x)], [uniform(dims, -0.9, 0.9)], { tolerance: 2e-5 }));
  });

  it('predicates and casts, for every type', async () => {
    await check(shape(0, 4), 8, async (dims) => {
      for (const x of [normal(dims, 3), integers(dims, -3, 4), booleans(dims)]) {
        await expectAgreement((t) => [tf.cast(t, 'float32'), tf.cast(t, 'int32'), tf.cast(t, 'bool'), tf.isNaN(tf.cast(t, 'float32')), tf.isFinite(tf.div(1, tf.cast(t, 'float32'))), tf.isInf(tf.div(1, tf.cast(t, 'float32')))], [x], { gradient: false });
      }
    });
  });

  it('two operands that broadcast, value and gradient', async () => {
    const all = (x: tf.Tensor, y: tf.Tensor): tf.Tensor[] => [tf.add(x, y), tf.sub(x, y), tf.mul(x, y), tf.div(x, y), tf.pow(x, y), tf.mod(x, y), tf.atan2(x, y)];
    await check(broadcasting(2, 5, 1), 20, ([a, b]) => expectAgreement((x, y) => all(x!, y!), [uniform(a!, 0.5, 2), uniform(b!, 0.6, 0.9)], { tolerance: 3e-5 }));
    // tf.js gives an operand of size 1 that meets a size of 0 no gradient.
    await check(broadcasting(2, 5), 10, ([a, b]) => expectAgreement((x, y) => all(x!, y!), [uniform(a!, 0.5, 2), uniform(b!, 0.6, 0.9)], { tolerance: 3e-5, gradient: false }));
  });

  it('atan2 in all four quadrants and on the axes', async () => {
    await check(fc.array(fc.constantFrom(-2, -0.5, 0, 0.5, 2), { minLength: 1, maxLength: 6 }), 8, (values) => expectAgreement((y, x) => tf.atan2(y, x),
      [float32(values, [values.length, 1]), float32([-1.5, -0.2, 0, 0.2, 1.5], [5])], { gradient: false }));
  });

  it('prelu with a slope that broadcasts either way', async () => {
    await check(broadcasting(2, 4, 1), 10, ([a, b]) => expectAgreement((x, y) => tf.prelu(x, y), [normal(a!), uniform(b!, 0.1, 0.4)], { as: (x, y) => tf.sub(tf.relu(x!), tf.mul(tf.relu(tf.neg(x!)), y!)) }));
  });

  it('maximum, minimum and squared difference that broadcast (tf.js sums no gradient: the reference broadcasts first)', async () => {
    await check(broadcasting(2, 4, 1), 20, async ([a, b]) => {
      const full = (x: tf.Tensor, y: tf.Tensor): [tf.Tensor, tf.Tensor] => {
        const dims = tf.broadcast_util.assertAndGetBroadcastShape(x.shape, y.shape);
        return [tf.broadcastTo(x, dims), tf.broadcastTo(y, dims)];
      };
      await expectAgreement((x, y) => [tf.maximum(x, y), tf.minimum(x, y), tf.squaredDifference(x, y)], [normal(a!), normal(b!)],
        { as: (x, y) => { const [p, q] = full(x!, y!); return [tf.add(tf.relu(tf.sub(p, q)), q), tf.sub(q, tf.relu(tf.sub(q, p))), tf.square(tf.sub(p, q))]; } });
    });
  });

  it('integer arithmetic, comparisons and logic that broadcast', async () => {
    await check(broadcasting(2, 4), 17, async ([a, b]) => {
      await expectAgreement((x, y) => [tf.add(x, y), tf.sub(x, y), tf.mul(x, y), tf.maximum(x, y), tf.minimum(x, y), tf.floorDiv(x, y), tf.mod(x, y), tf.equal(x, y), tf.less(x, y), tf.greaterEqual(x, y)],
        [integers(a!, -9, 10), integers(b!, 1, 5)]);
      await expectAgreement((x, y) => [tf.equal(x, y), tf.notEqual(x, y), tf.greater(x, y), tf.greaterEqual(x, y), tf.less(x, y), tf.lessEqual(x, y)], [integers(a!, 0, 3), integers(b!, 0, 3)]);
      await expectAgreement((x, y) => [tf.logicalAnd(x, y), tf.logicalOr(x, y), tf.logicalXor(x, y), tf.logicalNot(x), tf.equal(x, y), tf.notEqual(x, y)], [booleans(a!), booleans(b!)]);
    });
  });

  it('conditions on a number have a gradient of zero, so that a choice has its own (tf.js finds none)', async () => {
    await check(shape(0, 3), 8, (dims) => expectAgreement((x) => [tf.where(tf.less(x, 0.2), tf.mul(x, 3), tf.square(x)), tf.mul(x, tf.cast(tf.logicalOr(tf.greater(x, 0.5), tf.lessEqual(x, -0.5)), 'float32'))], [distinct(dims)], {
      as: (x) => { const data = x!.dataSync(), mask = (holds: (v: number) => boolean): tf.Tensor => tf.tensor(Float32Array.from(data, (v) => (holds(v) ? 1 : 0)), dims); return [
        tf.add(tf.mul(mask((v) => v < 0.2), tf.mul(x!, 3)), tf.mul(mask((v) => v >= 0.2), tf.square(x!))), tf.mul(x!, mask((v) => v > 0.5 || v <= -0.5)),
      ]; },
    }));
  });

  it('where with three operands that broadcast, and sums of many', async () => {
    await check(broadcasting(3, 4, 1), 13, ([c, a, b]) => expectAgreement((x, y, z) => tf.where(x, y, z), [booleans(c!), normal(a!), normal(b!)]));
    await check(shape(0, 4), 8, (dims) => expectAgreement((x, y, z) => [tf.where(x, y, z), tf.where(x, tf.greater(y, 0), tf.greater(z, 0))], [booleans(dims), normal(dims), normal(dims)], { gradient: false }));
    await check(fc.tuple(shape(0, 4), fc.integer({ min: 1, max: 5 })), 8, ([dims, count]) => expectAgreement((...xs) => tf.addN(xs), Array.from({ length: count }, () => normal(dims))));
  });
});
