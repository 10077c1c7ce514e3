import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { expectAgreement, normal } from '../agreement.ts';
import { broadcasting, check, size } from './arbitraries.ts';

const matrices = fc.record({ batches: broadcasting(2, 3, 1), rows: size(0, 5), inner: size(0, 5), columns: size(0, 5), transposeA: fc.boolean(), transposeB: fc.boolean() });

describe('products of matrices agree with tf.js for random shapes', () => {
  it('batches that broadcast, transposed operands, sizes of 0 and 1, value and gradient', async () => {
    await check(matrices, 33, async ({ batches: [p, q], rows, inner, columns, transposeA, transposeB }) => {
      const a = [...p!, ...(transposeA ? [inner, rows] : [rows, inner])], b = [...q!, ...(transposeB ? [columns, inner] : [inner, columns])];
      // tf.js sums no gradient over broadcast axes, and its cpu backend transposes only what has no batch of its own: the reference repeats and transposes first.
      const whole = (x: tf.Tensor, batch: readonly number[], transposed: boolean): tf.Tensor => {
        const repeated = tf.mul(x, tf.ones([...batch, 1, 1])), r = repeated.rank;
        return transposed ? tf.transpose(repeated, [...Array.from({ length: r - 2 }, (_, i) => i), r - 1, r - 2]) : repeated;
      };
      const batch = tf.broadcast_util.assertAndGetBroadcastShape(p!, q!);
      await expectAgreement((x, y) => tf.matMul(x, y, transposeA, transposeB), [normal(a), normal(b)], {
        tolerance: 2e-5, as: (x, y) => [rows, inner, columns].includes(0) ? tf.matMul(whole(x!, batch, transposeA), whole(y!, batch, transposeB)) : tf.sum(tf.mul(tf.expandDims(whole(x!, batch, transposeA), -1), tf.expandDims(whole(y!, batch, transposeB), -3)), -2),
      });
    });
  });

  it('vectors, outer and inner products', async () => {
    await check(fc.tuple(size(1), size(1)), 8, ([m, n]) => expectAgreement((a, b, x) => [tf.dot(x, b), tf.outerProduct(a as tf.Tensor1D, b as tf.Tensor1D), tf.dot(b, b)], [normal([m]), normal([n]), normal([m, n])]));
  });

  it('fused with a bias and an activation', async () => {
    const activation = fc.constantFrom<tf.fused.Activation>('linear', 'relu', 'elu', 'relu6', 'sigmoid', 'leakyrelu');
    await check(fc.record({ m: size(1), k: size(1), n: size(1), activation }), 13, (c) => expectAgreement((a, b, bias) => tf.fused.matMul({ a, b, bias, activation: c.activation, leakyreluAlpha: 0.3 }), [normal([c.m, c.k]), normal([c.k, c.n]), normal([c.n])],
      { tolerance: 2e-5, gradient: c.activation === 'linear' || c.activation === 'relu' }));
  });

  it('Einstein sums, value and gradient', async () => {
    const equations: [string, (x: tf.Tensor, y: tf.Tensor) => tf.Tensor][] = [
      ['ab,bc->ac', (x, y) => tf.matMul(x, y)], ['ab,cb->ca', (x, y) => tf.matMul(y, x, false, true)], ['ab,ab->a', (x, y) => tf.sum(tf.mul(x, y), 1)],
      ['ab,ab->', (x, y) => tf.sum(tf.mul(x, y))], ['abc,acd->abd', (x, y) => tf.matMul(x, y)], ['abc,c->ab', (x, y) => tf.sum(tf.mul(x, y), -1)], ['ab,c->ac', (x, y) => tf.mul(tf.sum(x, 1, true), y)],
    ];
    await check(fc.tuple(fc.constantFrom(...equations), fc.array(size(1, 4), { minLength: 4, maxLength: 4 })), 17, async ([[equation, as], sizes]) => {
      const shapes = equation.split('->')[0]!.split(',').map((term) => Array.from(term, (letter) => sizes[letter.charCodeAt(0) - 97]!));
      await expectAgreement((x, y) => tf.einsum(equation, x, y), shapes.map((dims) => normal(dims)), { tolerance: 2e-5, as: (x, y) => as(x!, y!) });
    });
  });
});
