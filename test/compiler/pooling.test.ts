import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/runtime/compile.ts';
import { float32 } from '../../src/tensor.ts';
import { distinct, expectAgreement, normal } from './agreement.ts';

type Pad = 'same' | 'valid' | number;

describe('pooling agrees with the cpu backend, value and gradient', () => {
  it.each<[number, number, Pad]>([[2, 2, 'valid'], [3, 2, 'same'], [3, 2, 1], [3, 1, 'same'], [2, 3, 'valid'], [5, 5, 'valid']])('window %s, stride %s, padding %s', async (size, stride, pad) => {
    for (const shape of [[2, 7, 6, 3], [1, 5, 5, 2]]) {
      const rounding = typeof pad === 'number' ? 'floor' : undefined;
      await expectAgreement((x) => tf.maxPool(x as tf.Tensor4D, size, stride, pad, rounding), [distinct(shape)]);
      // The cpu backend divides the gradient by the whole window even where padding is part of it.
      await expectAgreement((x) => tf.avgPool(x as tf.Tensor4D, size, stride, pad, rounding), [distinct(shape)], { gradient: pad === 'valid' });
    }
  });

  it('of equal maxima the first receives the gradient', async () => {
    await expectAgreement((x) => tf.maxPool(x as tf.Tensor4D, 2, 2, 'valid'), [float32(new Float32Array(16).fill(3), [1, 4, 4, 1])]);
    await expectAgreement((x) => tf.maxPool(x as tf.Tensor4D, 3, 1, 'same'), [float32(Float32Array.from({ length: 25 }, (_, i) => i % 2), [1, 5, 5, 1])]);
  });

  it('the gradient of avgPool is the transpose of avgPool, padding included', async () => {
    const pool = (t: tf.Tensor): tf.Tensor => tf.avgPool(t as tf.Tensor4D, 3, 2, 'same');
    const program = await compile(({ x, dy }) => ({ y: pool(x!), dx: tf.grad(pool)(x!, dy) }), { x: { shape: [2, 7, 6, 3] }, dy: { shape: [2, 4, 3, 3] } });
    const x = normal([2, 7, 6, 3]), dy = normal([2, 4, 3, 3]);
    const { y, dx } = await program.run({ x, dy });
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
    expect(dot(y!.data, dy.data)).toBeCloseTo(dot(x.data, dx!.data), 4);
    await program.dispose();
  });

  it('rounding up', async () => {
    await expectAgreement((x) => [tf.maxPool(x as tf.Tensor4D, 3, 2, 0, 'ceil'), tf.maxPool(x as tf.Tensor4D, 2, 2, 1, 'ceil')], [distinct([1, 6, 6, 2])], { gradient: false });
  });
});
