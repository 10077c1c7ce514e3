import { expect, test } from 'vitest';
import { histogramThreshold, quantileThreshold } from '../../src/foreground/threshold.ts';
import { Random } from '../../src/random.ts';

const ramp = Float64Array.from({ length: 1000 }, (_, i) => i);
const above = (values: Float64Array, threshold: number): number => values.filter((value) => value > threshold).length / values.length;

test('the official histogram rule (spec §12.4)', () => {
  expect(histogramThreshold(ramp, 0.65)).toBeCloseTo(644.355, 9);
  expect(above(ramp, histogramThreshold(ramp, 0.65))).toBe(0.355);
  expect(histogramThreshold(ramp, 0.60)).toBeCloseTo(594.405, 9);
  expect(above(ramp, histogramThreshold(ramp, 0.60))).toBe(0.405);
});

test.each([0.1, 0.55, 0.6, 0.65, 0.999])('exactly the share above quantile %d is foreground', (quantile) => {
  const random = new Random('threshold');
  const values = Float64Array.from({ length: 1000 }, () => random.normal());
  expect(above(values, quantileThreshold(values, quantile))).toBeCloseTo(1 - quantile, 12);
  expect(above(ramp, quantileThreshold(ramp, quantile))).toBeCloseTo(1 - quantile, 12);
});

test('equal values have no foreground', () => {
  const flat = new Float64Array(10).fill(3);
  expect(quantileThreshold(flat, 0.6)).toBe(3);
  expect(histogramThreshold(flat, 0.6)).toBe(3);
});
