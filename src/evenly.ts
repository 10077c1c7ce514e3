/** `count` of the items, the middles of `count` equal stretches, in order; all of them when they are not more. */
export function evenly<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items];
  return Array.from({ length: count }, (_, i) => items[Math.floor((i + 0.5) * items.length / count)]!);
}
