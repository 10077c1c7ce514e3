import { expect, test } from 'vitest';
import { areaUnderCurve, rankCorrelation } from '../../src/foreground/agreement.ts';

test('area under the ROC curve counts ordered pairs, ties half', () => {
  // Positives 0.9, 0.5; negatives 0.5, 0.1: 3.5 of 4 pairs are in order.
  expect(areaUnderCurve([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])).toBe(0.875);
  expect(areaUnderCurve([1, 2], [1, 0])).toBe(0);
});

test('rank correlation', () => {
  expect(rankCorrelation([1, 2, 3, 4], [10, 20, 25, 1000])).toBe(1);
  expect(rankCorrelation([1, 2, 3, 4], [4, 3, 2, 1])).toBe(-1);
  // Ranks 1, 2.5, 2.5, 4 and 3, 1, 2, 4: covariance 1.5, variances 4.5 and 5.
  expect(rankCorrelation([1, 2, 2, 4], [3, 1, 2, 4])).toBeCloseTo(1.5 / Math.sqrt(4.5 * 5), 12);
});
