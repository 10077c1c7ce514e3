import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { guessCuts } from '../../../src/dataset/listing/ranges.ts';
import { compareKeys } from '../../../src/storage/key.ts';

describe('guessed cuts of a folder without folders', () => {
  const stretchOf = (keys: readonly string[]): { stretch: string[]; last: string } => ({ stretch: keys.slice(0, 1000), last: keys[999]! });

  it.each<[string, string[], number]>([
    ['numbers', Array.from({ length: 100_000 }, (_, i) => `val/ILSVRC2012_val_${String(i).padStart(8, '0')}.JPEG`), 0.11],
    ['hashes', Array.from({ length: 20_000 }, (_, i) => `x/${createHash('md5').update(String(i)).digest('hex')}.jpg`).sort(compareKeys), 0.11],
  ])('divide %s that follow', (_, keys, share) => {
    const { stretch, last } = stretchOf(keys), cuts = guessCuts(stretch, last);
    expect(cuts.length).toBeGreaterThan(4);
    expect(cuts).toEqual([...cuts].sort(compareKeys));
    for (const cut of cuts) expect(compareKeys(cut, last)).toBeGreaterThan(0);
    const bounds = [last, ...cuts], sizes = bounds.map((bound, i) => keys.filter((key) => compareKeys(key, bound) > 0 && (i + 1 === bounds.length || compareKeys(key, bounds[i + 1]!) <= 0)).length);
    expect(sizes.reduce((a, b) => a + b)).toBe(keys.length - 1000);
    expect(Math.max(...sizes)).toBeLessThan(share * keys.length);
  });

  it('are none where names say nothing', () => {
    expect(guessCuts(['a/～～.jpg', 'a/～🙂.jpg'], 'a/～🙂.jpg')).toEqual([]);
    expect(guessCuts([], '')).toEqual([]);
  });
});
