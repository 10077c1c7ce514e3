import { expect, it } from 'vitest';
import { compareKeys } from '../../src/storage/key.ts';

it('keys are in the order of their UTF-8 bytes, whatever characters they have', () => {
  const keys = ['', 'a', 'a-b', 'a.b', 'a/b', 'ab', 'z', '\u007f', 'é', '\ud7ff', '～', '\uffff', '🙂', '\u{10ffff}', 'a\udc80'];
  const bytes = (key: string): Buffer => Buffer.concat(Array.from(key, (character) => character === '\udc80' ? Buffer.of(0x80) : Buffer.from(character)));
  for (const a of keys) for (const b of keys) expect(Math.sign(compareKeys(a, b)), `${JSON.stringify(a)} ${JSON.stringify(b)}`).toBe(Buffer.compare(bytes(a), bytes(b)));
});
