import { describe, expect, test } from 'vitest';
import { bars, curves, histogram, lineSample } from '../../src/report/charts.ts';

/** [x, y, width, height] of every filled path that is a rectangle. */
function rectangles(svg: string): { x: number; y: number; width: number; height: number }[] {
  return [...svg.matchAll(/<path d="M([\d.]+) ([\d.]+)l([-\d.]+) 0l0 ([-\d.]+)l-?[\d.]+ 0Z"[^>]*fill="#0072b2"/g)].map(([, x, y, width, height]) => {
    const w = Number(width), h = Number(height);
    return { x: Number(x), y: Number(y) + Math.min(h, 0), width: w, height: Math.abs(h) };
  });
}

/** Points of every stroked line of a colour. */
function polyline(svg: string, colour: string): [number, number][] {
  const [, path] = new RegExp(`<path d="([^"]+)" fill="none"[^>]*stroke="${colour}"`).exec(svg) ?? [];
  return [...(path ?? '').matchAll(/[ML]?([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
}

test('a histogram has a bar for every bin, as high as its count, from the left edge to the right', () => {
  const svg = histogram([10, 20, 0, 40], 'p', 'Proportions', 'share');
  const drawn = rectangles(svg).filter(({ height }) => height > 0);
  expect(drawn).toHaveLength(3);
  const [first, second, last] = drawn;
  expect(second!.height / first!.height).toBeCloseTo(2, 1);
  expect(last!.height / first!.height).toBeCloseTo(4, 1);
  // Middles of the bins 0, 1 and 3 lie 1 and 3 widths of a bin apart.
  const middle = (bar: { x: number; width: number }): number => bar.x + bar.width / 2;
  expect((middle(last!) - middle(first!)) / (middle(second!) - middle(first!))).toBeCloseTo(3, 1);
  // The axis runs from 0 to 1 over the four bins.
  const tick = (value: number): number => Number(new RegExp(`translate\\(([\\d.]+) [\\d.]+\\)"[^>]*>${value}</text>`).exec(svg.slice(svg.indexOf('>40</text>')))![1]);
  expect(middle(first!)).toBeCloseTo(tick(0) + (tick(1) - tick(0)) / 8, 0);
  expect(middle(last!)).toBeCloseTo(tick(0) + (tick(1) - tick(0)) * 7 / 8, 0);
  expect(second!.x - first!.x - first!.width).toBeGreaterThan(0);
  expect(svg).toContain('aria-label="Proportions"');
  expect(svg).toMatch(/>share<\/text>/);
});

test('bars carry their names and numbers', () => {
  const svg = bars([['0', 5], ['100', 12]], 'l', 'Levels', 'level');
  expect(rectangles(svg)).toHaveLength(2);
  for (const text of ['0', '100', '5', '12', 'level', 'images']) expect(svg).toContain(`>${text}</text>`);
});

describe('curves', () => {
  const lines = [{ name: 'a', style: 0, points: [[0, 4], [1, 2], [2, 1]] as const }, { name: 'b', style: 1, points: [[0, 4], [2, 3]] as const }];

  test('go through their points, each in the colour of its style', () => {
    const svg = curves(lines, 'loss', 'Loss', 'epoch', 'loss');
    const a = polyline(svg, '#0072b2'), b = polyline(svg, '#d55e00');
    expect(a).toHaveLength(3);
    expect(b).toHaveLength(2);
    // Equal values at equal heights; half the way at half the width; downwards on the page is a larger y.
    expect(b[0]![1]).toBeCloseTo(a[0]![1], 1);
    expect(a[1]![0] - a[0]![0]).toBeCloseTo(a[2]![0] - a[1]![0], 0);
    expect((a[1]![1] - a[0]![1]) / (a[2]![1] - a[0]![1])).toBeCloseTo(2 / 3, 1);
  });

  test('an unfinished curve of one point is a mark', () => {
    const svg = curves([{ name: 'a', style: 0, points: [[0.1, 3]] }], 'loss', 'Loss', 'epoch', 'loss');
    expect(svg).toMatch(/stroke="#0072b2"|fill="#0072b2"/);
    expect(svg).not.toContain('NaN');
  });

  test('more lines than colours differ by their dashes, in chart and legend', () => {
    const many = Array.from({ length: 15 }, (_, style) => ({ name: `v${style}`, style, points: [[0, style], [1, style + 1]] as const }));
    const svg = curves(many, 'loss', 'Loss', 'epoch', 'loss');
    const looks = [...svg.matchAll(/<path d="[^"]+" fill="none"[^>]*stroke="(#[0-9a-f]{6})" stroke-width="1.6"[^>]*>/g)].map(([path, colour]) => `${colour} ${/stroke-dasharray="([^"]*)"/.exec(path)?.[1] ?? ''}`);
    expect(looks).toHaveLength(15);
    expect(new Set(looks).size).toBe(15);
    expect(new Set(many.map(({ style }) => lineSample(style))).size).toBe(15);
  });
});

test('the same data gives the same text, and charts of other names share no identifiers', () => {
  const draw = (id: string): string => curves([{ name: 'a', style: 0, points: [[0, 1], [1, 2]] }], id, 'Loss', 'epoch', 'loss');
  expect(draw('x')).toBe(draw('x'));
  const names = (svg: string): string[] => [...svg.matchAll(/\bid="([^"]+)"|url\(#([^)]+)\)/g)].map(([, a, b]) => a ?? b!);
  expect(names(draw('x')).length).toBeGreaterThan(0);
  expect(names(draw('x')).filter((name) => names(draw('y')).includes(name))).toEqual([]);
});
