import { describe, expect, it } from 'vitest';
import { emaAt, learningRateAt } from '../../src/pretraining/schedules.ts';

describe('schedules (spec §12.7)', () => {
  it.each([[10, 9.6], [32.5, 8.19411255], [55, 4.8], [77.5, 1.40588745], [100, 0]])('learning rate at epoch %d of 100 is %d', (epoch, expected) => {
    expect(learningRateAt(epoch, 9.6, { epochs: 100, warmupEpochs: 10 })).toBeCloseTo(expected, 8);
  });

  it('warms up linearly from a ten-thousandth', () => {
    expect(learningRateAt(0, 9.6, { epochs: 100, warmupEpochs: 10 })).toBeCloseTo(9.6e-4, 10);
    expect(learningRateAt(5, 9.6, { epochs: 100, warmupEpochs: 10 })).toBeCloseTo(9.6 * 0.50005, 10);
    expect(learningRateAt(0, 9.6, { epochs: 100, warmupEpochs: 0 })).toBe(9.6);
  });

  it.each([
    [0.99, [0.99, 0.991464466, 0.995, 0.998535534, 1]],
    [0.996, [0.996, 0.996585786, 0.998, 0.999414214, 1]],
  ])('moving average from %d rises to 1', (base, expected) => {
    for (const [i, value] of expected.entries()) expect(emaAt(25 * i, 100, { base, schedule: 'cosine' })).toBeCloseTo(value, 8);
  });

  it('stays where it is when constant', () => {
    expect(emaAt(77, 100, { base: 0.999, schedule: 'constant' })).toBe(0.999);
  });
});
