import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { adamw } from '../../../src/pretraining/optimizers/adamw.ts';
import { larc } from '../../../src/pretraining/optimizers/larc.ts';
import { lars, larsExcludes } from '../../../src/pretraining/optimizers/lars.ts';
import { sgd } from '../../../src/pretraining/optimizers/sgd.ts';

const matrix = (...values: number[]) => tf.tensor2d([values]);
const close = (actual: tf.Tensor, expected: number[], digits = 6): void => { for (const [i, v] of actual.dataSync().entries()) expect(v).toBeCloseTo(expected[i]!, digits); };

describe('optimizers (spec §12.7)', () => {
  it('SGD follows torch for two steps', () => {
    const options = { momentum: 0.9, weightDecay: 1e-4 };
    const first = sgd(tf.scalar(1), tf.scalar(0.5), tf.scalar(0), tf.scalar(0.05), options);
    close(first.parameter, [0.974995]);
    close(sgd(first.parameter, tf.scalar(0.5), first.buffer, tf.scalar(0.05), options).parameter, [0.927485625025]);
  });

  it('AdamW follows torch for two steps', () => {
    const first = adamw(tf.scalar(1), tf.scalar(0.5), tf.scalar(0), tf.scalar(0), tf.scalar(1), tf.scalar(2.4e-3), { weightDecay: 0.1 });
    close(first.parameter, [0.997360000048]);
    close(adamw(first.parameter, tf.scalar(0.5), first.mean, first.square, tf.scalar(2), tf.scalar(2.4e-3), { weightDecay: 0.1 }).parameter, [0.994720633696]);
  });

  it.each([
    ['moco-v3', [2.990029455145, 4.000766964989]],
    ['mmpretrain', [2.991965558196, 4.000618033985]],
  ] as const)('LARS in the %s form makes the golden first step', (form, expected) => {
    close(lars('layer1.0.conv1.weight', matrix(3, 4), matrix(1, -0.5), matrix(0, 0), tf.scalar(2), { momentum: 0.9, weightDecay: 0.1, trust: 0.001, form }).parameter, [...expected]);
  });

  it.each(['moco-v3', 'mmpretrain'] as const)('LARS in the %s form makes the golden two steps with momentum', (form) => {
    const options = { momentum: 0.9, weightDecay: 0, trust: 0.001, form };
    const first = lars('w', matrix(3, 4), matrix(0.6, 0.8), matrix(0, 0), tf.scalar(1), options);
    close(first.parameter, [2.997, 3.996]);
    close(lars('w', first.parameter, matrix(0.6, 0.8), first.buffer, tf.scalar(1), options).parameter, [2.991303, 3.988404]);
  });

  it('LARS leaves batch norm, biases and shortcut norms without weight decay and trust ratio', () => {
    expect(larsExcludes('backbone.layer1.0.bn1.weight', [64])).toBe(true);
    expect(larsExcludes('backbone.layer2.0.downsample.1.weight', [128])).toBe(true);
    expect(larsExcludes('projector.fc1.bias', [64])).toBe(true);
    expect(larsExcludes('backbone.layer2.0.downsample.0.weight', [128, 64, 1, 1])).toBe(false);
    for (const form of ['moco-v3', 'mmpretrain'] as const) {
      close(lars('bn1.weight', tf.tensor1d([3, 4]), tf.tensor1d([1, -0.5]), tf.zeros([2]), tf.scalar(2), { momentum: 0.9, weightDecay: 0.1, trust: 0.001, form }).parameter, [1, 5]);
    }
  });

  it('LARS takes a trust ratio of 1 where a norm is 0', () => {
    for (const form of ['moco-v3', 'mmpretrain'] as const) {
      close(lars('w', matrix(0, 0), matrix(1, -0.5), matrix(0, 0), tf.scalar(2), { momentum: 0.9, weightDecay: 0.1, trust: 0.001, form }).parameter, [-2, 1]);
      close(lars('w', matrix(3, 4), matrix(0, 0), matrix(0, 0), tf.scalar(2), { momentum: 0.9, weightDecay: 0, trust: 0.001, form }).parameter, [3, 4]);
    }
  });

  it('LARC takes the first step of the mmpretrain form, and keeps the learning rate out of its buffer', () => {
    const options = { momentum: 0.9, weightDecay: 0.1 };
    const first = larc(matrix(3, 4), matrix(1, -0.5), matrix(0, 0), tf.scalar(2), options);
    close(first.parameter, [2.991965558196, 4.000618033985]);
    close(first.buffer, [(3 - 2.991965558196) / 2, (4 - 4.000618033985) / 2]);
    // Biases and batch norm too; a norm of 0 leaves the gradient alone.
    close(larc(tf.tensor1d([3, 4]), tf.tensor1d([1, -0.5]), tf.zeros([2]), tf.scalar(2), options).parameter, [2.991965558196, 4.000618033985]);
    close(larc(matrix(0, 0), matrix(1, -0.5), matrix(0, 0), tf.scalar(2), options).parameter, [-2, 1]);
    close(larc(matrix(3, 4), matrix(0, 0), matrix(0, 0), tf.scalar(2), options).parameter, [3, 4]);
  });
});
