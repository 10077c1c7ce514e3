import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/runtime/compile.ts';
import { int32 } from '../../src/tensor.ts';
import { distinct, expectAgreement, integers, normal } from './agreement.ts';

describe('indexing agrees with the cpu backend, value and gradient', () => {
  it('gather along every axis, repeated indices add their gradients', async () => {
    for (const axis of [0, 1, 2]) await expectAgreement((x, i) => tf.gather(x, i, axis), [normal([4, 5, 6]), integers([7], 0, 4)]);
    await expectAgreement((x, i) => tf.gather(x, i), [normal([4, 5]), integers([2, 3], 0, 4)]);
    await expectAgreement((x, i) => tf.gather(x, i, 1, 1), [normal([3, 5, 2]), integers([3, 4], 0, 5)], { gradient: false });
  });

  it('gatherND and scatterND (duplicates add up)', async () => {
    await expectAgreement((x, i) => tf.gatherND(x, i), [normal([4, 5, 6]), integers([7, 2], 0, 4)], { gradient: false });
    await expectAgreement((i, u) => tf.scatterND(i, u, [4, 5, 3]), [integers([8, 2], 0, 4), normal([8, 3])], { gradient: false });
    await expectAgreement((i, u) => tf.scatterND(i, u, [4]), [integers([8, 1], 0, 4), normal([8])], { gradient: false });
  });

  it('unsortedSegmentSum', async () => {
    await expectAgreement((x, i) => tf.unsortedSegmentSum(x, i as tf.Tensor1D, 4), [normal([8, 3]), integers([8], 0, 4)]);
  });

  it('oneHot', async () => {
    await expectAgreement((i) => tf.oneHot(i, 4), [integers([5], 0, 4)]);
    await expectAgreement((i) => [tf.oneHot(i, 4, 2, -1), tf.oneHot(i, 4, 1, 0, 'float32')], [integers([5, 2], 0, 6)], { gradient: false });
  });

  it('topk', async () => {
    await expectAgreement((x) => { const { values, indices } = tf.topk(x, 3); return [values, indices]; }, [distinct([4, 7])], { gradient: false });
  });

  it('diag', async () => {
    await expectAgreement((x) => tf.diag(x), [normal([4])], { gradient: false });
  });

  it('repeated additions have one order: many duplicates give the same bytes every time', async () => {
    const program = await compile(({ x, i }) => ({ y: tf.unsortedSegmentSum(x!, i as tf.Tensor1D, 3) }), { x: { shape: [4000, 16] }, i: { shape: [4000], dtype: 'int32' } });
    const x = normal([4000, 16]), i = int32(integers([4000], 0, 3).data, [4000]);
    const first = (await program.run({ x, i }))['y']!.data;
    for (let k = 0; k < 5; k++) expect((await program.run({ x, i }))['y']!.data).toEqual(first);
    await program.dispose();
  });
});
