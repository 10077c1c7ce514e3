import * as tf from '@tensorflow/tfjs';
import { describe, it } from 'vitest';
import { expectAgreement, normal } from './agreement.ts';

describe('matrix products agree with the cpu backend, value and gradient', () => {
  it.each([[false, false], [false, true], [true, false], [true, true]])('transposeA %s, transposeB %s', async (ta, tb) => {
    const a = (batch: number[]) => normal([...batch, ...(ta ? [4, 3] : [3, 4])]), b = (batch: number[]) => normal([...batch, ...(tb ? [5, 4] : [4, 5])]);
    await expectAgreement((x, y) => tf.matMul(x, y, ta, tb), [a([]), b([])]);
    await expectAgreement((x, y) => tf.matMul(x, y, ta, tb), [a([2]), b([2])]);
    await expectAgreement((x, y) => tf.matMul(x, y, ta, tb), [a([2, 3]), b([2, 3])]);
    // tf.js's gradient does not sum over broadcast batches.
    await expectAgreement((x, y) => tf.matMul(x, y, ta, tb), [a([2, 3]), b([1, 3])], { gradient: false });
    await expectAgreement((x, y) => tf.matMul(x, y, ta, tb), [a([2]), b([])], { gradient: false });
  });

  it('products of lazily transposed batches', async () => {
    await expectAgreement((x, y) => tf.matMul(tf.transpose(x, [0, 2, 1, 3]), tf.transpose(y, [0, 2, 3, 1])), [normal([2, 5, 3, 4]), normal([2, 6, 3, 4])]);
    await expectAgreement((x, y) => tf.matMul(tf.transpose(x), y), [normal([4, 3]), normal([4, 5])]);
  });

  it('dot and outer products', async () => {
    await expectAgreement((x, y) => tf.dot(x, y), [normal([4]), normal([4])]);
    await expectAgreement((x, y) => tf.dot(x, y), [normal([3, 4]), normal([4])]);
    await expectAgreement((x, y) => tf.outerProduct(x as tf.Tensor1D, y as tf.Tensor1D), [normal([3]), normal([4])]);
  });

  it('einsum', async () => {
    for (const [equation, a, b] of [['ij,jk->ik', [2, 3], [3, 4]], ['bhqd,bhkd->bhqk', [2, 2, 3, 4], [2, 2, 5, 4]], ['nc,ck->nk', [2, 3], [3, 4]]] as const) {
      await expectAgreement((x, y) => tf.einsum(equation, x, y), [normal(a), normal(b)], { gradient: false });
    }
  });
});
