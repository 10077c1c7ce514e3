import { expect, test } from 'vitest';
import { adaptiveNoiseLevel, chooseNoiseLevel, displayMap, foregroundProportion, noiseLevels } from '../../src/foreground/proportion.ts';

test.each([
  [0, 0], [51, 0], [52, 100], [102, 100], [103, 200], [153, 200], [154, 300], [204, 300], [205, 400], [255, 400], [256, 400],
])('%i of 256 foreground tokens give level %i (spec §2.4)', (foreground, level) => {
  const projections = Float64Array.from({ length: 256 }, (_, k) => k < foreground ? 1 : 0);
  const proportion = foregroundProportion(projections, 0.5);
  expect(proportion).toBe(foreground / 256);
  expect(adaptiveNoiseLevel(proportion)).toBe(level);
});

test('a projection equal to the threshold is background', () => {
  expect(foregroundProportion([1, 2, 3, 2], 2)).toBe(0.25);
});

test('strategies', () => {
  const image = { path: 'train/cat/a b.png', foregroundProportion: 0.7 };
  expect(chooseNoiseLevel({ strategy: 'constant', level: 250 }, image, 0)).toBe(250);
  expect(chooseNoiseLevel({ strategy: 'adaptive' }, image, 0)).toBe(300);
  const counts = new Map<number, number>();
  for (let i = 0; i < 5000; i++) {
    const level = chooseNoiseLevel({ strategy: 'random' }, { ...image, path: `${i}.png` }, 3);
    counts.set(level, (counts.get(level) ?? 0) + 1);
  }
  expect([...counts.keys()].toSorted((a, b) => a - b)).toEqual([...noiseLevels]);
  // Uniform: within five standard deviations of 1000.
  for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(5 * Math.sqrt(800));
  expect(chooseNoiseLevel({ strategy: 'random' }, image, 3)).toBe(chooseNoiseLevel({ strategy: 'random' }, { ...image, foregroundProportion: 0 }, 3));
});

test('display map spans 0 to 255', () => {
  expect(displayMap([-1, 0, 1, 3])).toEqual([0, 64, 128, 255]);
  expect(displayMap([2, 2])).toEqual([0, 0]);
});
