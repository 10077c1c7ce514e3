import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/runtime/compile.ts';
import { float32 } from '../../src/tensor.ts';
import { booleans, distinct, expectAgreement, integers, normal, uniform } from './agreement.ts';

describe('unary operations agree with the cpu backend, value and gradient', () => {
  const positive = () => uniform([3, 5], 0.1, 4), any = () => distinct([3, 5]), inside = () => uniform([3, 5], -0.9, 0.9);
  const cases: [string, (x: tf.Tensor) => tf.Tensor, () => ReturnType<typeof uniform>][] = [
    ['abs', tf.abs, any], ['acos', tf.acos, inside], ['acosh', tf.acosh, () => uniform([3, 5], 1.1, 4)], ['asin', tf.asin, inside], ['asinh', tf.asinh, any],
    ['atan', tf.atan, any], ['atanh', tf.atanh, inside], ['ceil', tf.ceil, any], ['cos', tf.cos, any], ['cosh', tf.cosh, any], ['elu', tf.elu, any],
    ['erf', tf.erf, any], ['exp', tf.exp, any], ['expm1', tf.expm1, any], ['floor', tf.floor, any], ['log', tf.log, positive], ['log1p', tf.log1p, positive],
    ['neg', tf.neg, any], ['reciprocal', tf.reciprocal, positive], ['relu', tf.relu, any], ['relu6', (x) => tf.relu6(tf.mul(x, 10)), any], ['round', tf.round, any],
    ['rsqrt', tf.rsqrt, positive], ['selu', tf.selu, any], ['sigmoid', tf.sigmoid, any], ['sign', tf.sign, any], ['sin', tf.sin, any], ['sinh', tf.sinh, any],
    ['softplus', tf.softplus, any], ['sqrt', tf.sqrt, positive], ['square', tf.square, any], ['step', (x) => tf.step(x), any], ['step with slope', (x) => tf.step(x, 0.2), any],
    ['tan', tf.tan, inside], ['tanh', tf.tanh, any], ['leakyRelu', (x) => tf.leakyRelu(x, 0.1), any], ['clipByValue', (x) => tf.clipByValue(x, -0.3, 0.42), any],
    ['silu', (x) => tf.mul(x, tf.sigmoid(x)), any], ['zerosLike', (x) => tf.add(x, tf.zerosLike(x)), any], ['onesLike', (x) => tf.mul(x, tf.onesLike(x)), any],
    ['clone', (x) => tf.clone(x), any], ['prelu', (x) => tf.prelu(x, tf.tensor1d([0.1, 0.2, 0.3, 0.4, 0.5])), any],
  ];
  it.each(cases)('%s', async (_name, fn, input) => { await expectAgreement(fn, [input()], { tolerance: 2e-5 }); });

  it('log1p and expm1 are exact near zero', async () => {
    const x = float32([1e-7, -1e-7, 1e-4, -1e-4, 0, 1e-20], [6]);
    const program = await compile(({ x: t }) => ({ log1p: tf.log1p(t!), expm1: tf.expm1(t!) }), { x: { shape: [6] } });
    const { log1p, expm1 } = await program.run({ x });
    x.data.forEach((v, i) => {
      expect(Math.abs(log1p!.data[i]! - Math.log1p(v))).toBeLessThanOrEqual(Math.abs(v) * 3e-7);
      expect(Math.abs(expm1!.data[i]! - Math.expm1(v))).toBeLessThanOrEqual(Math.abs(v) * 3e-7);
    });
    await program.dispose();
  });

  it('special values: infinities and NaN', async () => {
    const x = float32([Infinity, -Infinity, NaN, 0, -0, 1e30], [6]);
    for (const fn of [tf.isNaN, tf.isInf, tf.isFinite, tf.exp, tf.log1p, tf.expm1, tf.relu, tf.softplus, tf.sigmoid, tf.tanh, tf.abs]) {
      await expectAgreement((t) => fn(t), [x], { gradient: false });
    }
  });
});

describe('binary operations agree with the cpu backend, value and gradient', () => {
  const cases: [string, (a: tf.Tensor, b: tf.Tensor) => tf.Tensor][] = [
    ['add', tf.add], ['sub', tf.sub], ['mul', tf.mul], ['div', tf.div], ['pow', tf.pow],
  ];
  // tf.js does not sum the gradients of these over broadcast axes.
  const equalShapes: typeof cases = [['maximum', tf.maximum], ['minimum', tf.minimum], ['squaredDifference', tf.squaredDifference]];
  const shapes: [number[], number[]][] = [[[2, 3], [2, 3]], [[2, 3, 4], [4]], [[4], [2, 3, 4]], [[2, 1, 4], [3, 1]], [[], [2, 2]], [[2, 3], []], [[1], [3]], [[2, 3, 4, 5], [3, 1, 1]]];
  it.each(cases)('%s', async (_name, fn) => {
    for (const [a, b] of shapes) await expectAgreement(fn, [uniform(a, 0.5, 2), uniform(b, 0.5, 2)], { tolerance: 2e-5 });
  });

  it.each(equalShapes)('%s', async (_name, fn) => {
    await expectAgreement(fn, [distinct([3, 4]), distinct([3, 4])]);
    for (const [a, b] of shapes) await expectAgreement(fn, [normal(a), normal(b)], { gradient: false });
  });

  it('floorDiv and mod follow the sign of the divisor', async () => {
    for (const [a, b] of shapes) {
      const divisor = integers(b, 1, 5);
      for (let i = 0; i < divisor.data.length; i++) if (i % 2) divisor.data[i] = -divisor.data[i]!;
      await expectAgreement((x, y) => [tf.floorDiv(x, y), tf.mod(x, y)], [integers(a, -9, 10), divisor]);
      await expectAgreement((x, y) => [tf.floorDiv(x, y), tf.mod(x, y)], [normal(a, 5), { ...divisor, dtype: 'float32', data: Float32Array.from(divisor.data) }], { gradient: false });
    }
  });

  it('comparisons and logic', async () => {
    for (const [a, b] of shapes) {
      for (const fn of [tf.equal, tf.notEqual, tf.greater, tf.greaterEqual, tf.less, tf.lessEqual]) {
        await expectAgreement((x, y) => fn(x, y), [integers(a, 0, 3), integers(b, 0, 3)]);
      }
      await expectAgreement((x, y) => [tf.greater(x, y), tf.equal(x, y)], [normal(a), normal(b)]);
      await expectAgreement((x, y) => [tf.logicalAnd(x, y), tf.logicalOr(x, y), tf.logicalNot(x)], [booleans(a), booleans(b)]);
    }
  });

  it('where chooses with broadcasting', async () => {
    await expectAgreement((c, a, b) => tf.where(c, a, b), [booleans([2, 3]), normal([2, 3]), normal([2, 3])]);
    await expectAgreement((c, a, b) => tf.where(c, a, b), [booleans([2, 1]), normal([3]), normal([1, 1])], { gradient: false });
    await expectAgreement((c, a, b) => tf.where(c, a, b), [booleans([4]), booleans([4]), booleans([4])]);
  });

  it('addN and integer arithmetic', async () => {
    await expectAgreement((a, b, c) => tf.addN([a, b, c]), [normal([2, 3]), normal([2, 3]), normal([2, 3])]);
    await expectAgreement((a, b) => [tf.add(a, b), tf.sub(a, b), tf.mul(a, b), tf.maximum(a, b), tf.abs(a), tf.neg(a), tf.sign(a)], [integers([2, 3], -5, 5), integers([3], -5, 5)]);
  });

  it('mixed layouts and ranks of random shapes broadcast as in NumPy', async () => {
    const shape = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    const pair = shape.chain((full) => fc.record({
      full: fc.constant(full),
      mask: fc.array(fc.boolean(), { minLength: full.length, maxLength: full.length }),
      drop: fc.integer({ min: 0, max: full.length }),
      order: fc.shuffledSubarray(full.map((_, i) => i), { minLength: full.length, maxLength: full.length }),
    }));
    await fc.assert(fc.asyncProperty(pair, async ({ full, mask, drop, order }) => {
      const other = full.map((n, i) => (mask[i] ? 1 : n)).slice(drop);
      const stored = order.map((axis) => full[axis]!);
      const undo = full.map((_, axis) => order.indexOf(axis));
      // The first operand arrives in an arbitrary layout.
      await expectAgreement((a, b) => tf.mul(tf.transpose(a, undo), tf.add(b, 1)), [normal(stored), normal(other)]);
    }), { numRuns: 25, seed: 7 });
  });
});

describe('casts', () => {
  it('between every pair of types', async () => {
    for (const input of [normal([3, 4], 3), integers([3, 4], -3, 4), booleans([3, 4])]) {
      await expectAgreement((x) => [tf.cast(x, 'float32'), tf.cast(x, 'int32'), tf.cast(x, 'bool')], [input], { gradient: false });
    }
  });
});
