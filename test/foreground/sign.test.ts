import { expect, test } from 'vitest';
import { decideSign } from '../../src/foreground/sign.ts';

const positions = (grid: number, value: (row: number, column: number) => number): number[] =>
  Array.from({ length: grid * grid }, (_, k) => value(Math.floor(k / grid), k % grid));

test('a centre below the border is flipped, one above is kept', () => {
  // On 16 x 16 tokens the centre is rows and columns 4 to 11.
  const inner = (row: number, column: number): number => row >= 4 && row < 12 && column >= 4 && column < 12 ? -3 : 1;
  expect(decideSign(positions(16, inner), [16, 16])).toEqual({ centre: -3, border: 1, flipped: true });
  expect(decideSign(positions(16, (r, c) => -inner(r, c)), [16, 16])).toEqual({ centre: 3, border: -1, flipped: false });
});

test('the border is the outermost ring only', () => {
  const ring = (row: number, column: number): number => row === 0 || column === 0 || row === 7 || column === 7 ? 5 : 0;
  expect(decideSign(positions(8, ring), [8, 8])).toEqual({ centre: 0, border: 5, flipped: true });
});

test('a grid without an inside is refused', () => {
  expect(() => decideSign([1, 2, 3, 4], [2, 2])).toThrow(/2 x 2; at least 3 x 3/);
});
