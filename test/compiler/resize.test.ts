import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/runtime/compile.ts';
import { float32 } from '../../src/tensor.ts';
import { expectAgreement, normal } from './agreement.ts';

const sizes: [number, number][] = [[6, 8], [3, 4], [2, 3], [5, 7], [9, 4], [1, 1]];

describe('resizing agrees with the cpu backend', () => {
  it.each([[false, false], [true, false]])('bilinear, value and gradient (alignCorners %s, halfPixelCenters %s)', async (align, half) => {
    // Square, because the cpu backend exchanges height and width in the gradient.
    for (const size of sizes) await expectAgreement((x) => tf.image.resizeBilinear(x as tf.Tensor4D, size, align, half), [normal([2, 4, 4, 2])]);
  });

  it('bilinear with half-pixel centres', async () => {
    // tf.js ignores halfPixelCenters in the gradient; ours is checked below.
    for (const size of sizes) await expectAgreement((x) => tf.image.resizeBilinear(x as tf.Tensor4D, size, false, true), [normal([2, 3, 4, 2])], { gradient: false });
  });

  it.each([
    ['bilinear, half-pixel centres', (t: tf.Tensor) => tf.image.resizeBilinear(t as tf.Tensor4D, [7, 5], false, true)],
    ['bilinear, aligned corners', (t: tf.Tensor) => tf.image.resizeBilinear(t as tf.Tensor4D, [7, 5], true)],
    ['nearest, half-pixel centres', (t: tf.Tensor) => tf.image.resizeNearestNeighbor(t as tf.Tensor4D, [7, 5], false, true)],
  ] as [string, (t: tf.Tensor) => tf.Tensor][])('the gradient is the transpose of the resize: %s', async (_name, resized) => {
    const program = await compile(({ x, dy }) => {
      return { y: resized(x!), dx: tf.grad(resized)(x!, dy) };
    }, { x: { shape: [2, 3, 4, 2] }, dy: { shape: [2, 7, 5, 2] } });
    const x = normal([2, 3, 4, 2]), dy = normal([2, 7, 5, 2]);
    const { y, dx } = await program.run({ x, dy });
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
    expect(dot(y!.data, dy.data)).toBeCloseTo(dot(x.data, dx!.data), 4);
    await program.dispose();
  });

  it.each([[false, false], [true, false], [false, true]])('nearest neighbour (alignCorners %s, halfPixelCenters %s)', async (align, half) => {
    for (const size of sizes) {
      await expectAgreement((x) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, size, align, half), [normal([2, 3, 4, 2])], { gradient: false });
      // One image, because the cpu backend reads the gradients of a batch at the wrong place.
      if (!half) await expectAgreement((x) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, size, align, half), [normal([1, 3, 4, 2])]);
    }
  });

  it('doubling repeats every pixel', async () => {
    const program = await compile(({ x }) => ({ y: tf.image.resizeNearestNeighbor(x as tf.Tensor4D, [2, 4]) }), { x: { shape: [1, 1, 2, 1] } });
    expect([...(await program.run({ x: float32([1, 2], [1, 1, 2, 1]) }))['y']!.data]).toEqual([1, 1, 2, 2, 1, 1, 2, 2]);
    await program.dispose();
  });
});
