import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { withBackend } from '../../src/compiler/record.ts';
import { stopGradient } from '../../src/nn/operations/stopGradient.ts';
import { compile } from '../../src/runtime/compile.ts';
import { float32 } from '../../src/tensor.ts';

const gradientOf = (x: tf.Tensor): tf.Tensor => tf.grad((t: tf.Tensor) => tf.sum(tf.mul(t, stopGradient(tf.square(t)))))(x);

describe('stopGradient', () => {
  it('passes values and no gradient, eager and compiled', async () => {
    withBackend('cpu', () => { expect([...gradientOf(tf.tensor1d([1, -3])).dataSync()]).toEqual([1, 9]); });
    const program = await compile(({ x }) => ({ gradient: gradientOf(x!), value: stopGradient(x!) }), { x: { shape: [2] } }, { threads: 1 });
    const { gradient, value } = await program.run({ x: float32([1, -3], [2]) });
    await program.dispose();
    expect([[...gradient!.data], [...value!.data]]).toEqual([[1, 9], [1, -3]]);
  });

  it('shares its data, which lives until both tensors are disposed of', () => {
    withBackend('cpu', () => {
      const before = tf.memory(), x = tf.tensor1d([4, 5]), y = stopGradient(x);
      expect(tf.memory().numDataBuffers).toBe(before.numDataBuffers + 1);
      x.dispose();
      expect([...y.dataSync()]).toEqual([4, 5]);
      y.dispose();
      expect(tf.memory()).toMatchObject({ numTensors: before.numTensors, numDataBuffers: before.numDataBuffers });
    });
  });
});
