import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { GenViewError } from '../../src/errors.ts';
import { readJson, readLines, splitUrl, writeJson } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

export async function keysOf(store: ObjectStore, prefix = '', startAfter?: string): Promise<string[]> {
  const keys = [];
  for await (const info of store.list(prefix, startAfter === undefined ? {} : { startAfter })) keys.push(info.key);
  return keys;
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => 'no error', (error: unknown) => error instanceof GenViewError ? error.code : `not ours: ${String(error)}`);
}

/** Awkward but legal names of images. */
export const oddImages = [
  'with space.jpg', `quotes'".jpg`, 'hash#1.jpg', 'percent%20.jpg', 'plus+.jpg', 'question?.jpg', 'ünï-日本語-🙂.jpg', '&<>.jpg',
  'back\\slash.jpg', 'a/b c/d%/é.jpg', `${'n'.repeat(196)}.jpg`,
];

/** Awkward but legal names: every store must keep them as they are. */
export const oddKeys = [
  ...oddImages,
  '.hidden', '..two', '...', 'dots/.inside/..x', ' leading and trailing ', 'a+b c%2Bd', '%41%2F', '%', '~tilde', 'e\u0301 is not \u00e9', 'semi;colon,comma=', "*'()!",
  // Close to the 1,024 bytes that S3 allows, the prefix of the store included.
  `deep/${Array.from({ length: 4 }, (_, i) => String(i).repeat(180)).join('/')}`,
];

/** What every ObjectStore promises, as tests. `open` gives an empty store at each call; `etags`: of the content, or new with every put as where KMS encrypts. */
export function describeObjectStore(name: string, open: () => Promise<ObjectStore>, { etags = 'content' }: { readonly etags?: 'content' | 'new' } = {}): void {
  describe(`${name} as an object store`, () => {
    it('returns what was put: bytes, text and streams', async () => {
      const store = await open();
      expect(await store.put('a/bytes', Uint8Array.of(0, 255, 10))).toBe(true);
      expect([...await store.get('a/bytes')]).toEqual([0, 255, 10]);
      await store.put('a/text', 'grüß');
      expect(text(await store.get('a/text'))).toBe('grüß');
      await store.put('a/stream', Readable.from([Buffer.from('one '), Buffer.from('two')]));
      expect(text(await store.get('a/stream'))).toBe('one two');
      await store.put('a/empty', '');
      expect((await store.get('a/empty')).length).toBe(0);
      await store.put('a/text', 'replaced');
      expect(text(await store.get('a/text'))).toBe('replaced');
    });

    it('streams objects larger than one part', async () => {
      const store = await open();
      const size = 11 * 2 ** 20 + 17;
      const expected = Buffer.alloc(size);
      for (let i = 0; i < size; i++) expected[i] = i * 31 + (i >> 8);
      await store.put('large', Readable.from((function* () { for (let i = 0; i < size; i += 100_000) yield expected.subarray(i, i + 100_000); })()));
      expect((await store.head('large'))?.size).toBe(size);
      const chunks: Buffer[] = [];
      for await (const chunk of await store.getStream('large') as AsyncIterable<Buffer>) chunks.push(chunk);
      expect(Buffer.concat(chunks).equals(expected)).toBe(true);
      expect(Buffer.from(await store.get('large', { start: size - 5 })).equals(expected.subarray(size - 5))).toBe(true);
    });

    it('reads ranges with an inclusive end', async () => {
      const store = await open();
      await store.put('digits', '0123456789');
      expect(text(await store.get('digits', { start: 2, end: 4 }))).toBe('234');
      expect(text(await store.get('digits', { start: 7 }))).toBe('789');
      expect(text(await store.get('digits', { start: 8, end: 100 }))).toBe('89');
      expect(text(await store.get('digits', { start: 9, end: 9 }))).toBe('9');
      for (const range of [{ start: 10 }, { start: 10, end: 20 }, { start: 1000 }, { start: 5, end: 4 }]) expect(text(await store.get('digits', range))).toBe('');
    });

    it('keeps empty objects', async () => {
      const store = await open();
      await store.put('empty/bytes', new Uint8Array(0));
      await store.put('empty/stream', Readable.from([]));
      for (const key of ['empty/bytes', 'empty/stream']) {
        expect((await store.get(key)).length).toBe(0);
        expect((await store.get(key, { start: 0 })).length).toBe(0);
        const chunks = [];
        for await (const chunk of await store.getStream(key)) chunks.push(chunk);
        expect(Buffer.concat(chunks).length).toBe(0);
        expect((await store.head(key))!.size).toBe(0);
      }
      expect(await keysOf(store)).toEqual(['empty/bytes', 'empty/stream']);
    });

    it('creates only when asked to', async () => {
      const store = await open();
      expect(await store.put('marker', 'first', { ifNoneMatch: '*' })).toBe(true);
      expect(await store.put('marker', 'second', { ifNoneMatch: '*' })).toBe(false);
      expect(await store.put('marker', Readable.from([Buffer.alloc(9 * 2 ** 20)]), { ifNoneMatch: '*' })).toBe(false);
      expect(text(await store.get('marker'))).toBe('first');
    });

    it('lets one of many creators win', async () => {
      const store = await open();
      const won = await Promise.all(Array.from({ length: 12 }, (_, i) => store.put('race', `writer ${i}`, { ifNoneMatch: '*' })));
      expect(won.filter(Boolean)).toHaveLength(1);
      expect(text(await store.get('race'))).toBe(`writer ${won.indexOf(true)}`);
    });

    it('lets one of many replacements of a version win', async () => {
      const store = await open();
      await store.put('counter', '0');
      let won = 0;
      // Each reads a version and replaces it, until it has done so three times: no update may be lost, none counted twice.
      await Promise.all([1, 2, 3, 4].map(async () => {
        for (let done = 0; done < 3;) {
          const { etag } = (await store.head('counter'))!;
          const value = Number(text(await store.get('counter')));
          if (await store.put('counter', String(value + 1), { ifMatch: etag })) { done++; won++; }
        }
      }));
      expect(won).toBe(12);
      expect(text(await store.get('counter'))).toBe('12');
    });

    it('replaces only the version that was named', async () => {
      const store = await open();
      await store.put('versioned', 'one');
      const { etag } = (await store.head('versioned'))!;
      expect(await store.put('versioned', 'two', { ifMatch: etag })).toBe(true);
      expect((await store.head('versioned'))!.etag).not.toBe(etag);
      expect(await store.put('versioned', 'three', { ifMatch: etag })).toBe(false);
      expect(await store.put('absent', 'x', { ifMatch: etag })).toBe(false);
      expect(text(await store.get('versioned'))).toBe('two');
      expect(await store.head('absent')).toBeUndefined();
    });

    it('writes nothing when the body fails', async () => {
      const store = await open();
      const body = Readable.from((function* () { yield Buffer.from('half'); throw new Error('source broke'); })());
      await expect(store.put('broken', body)).rejects.toThrow('source broke');
      expect(await store.head('broken')).toBeUndefined();
      expect(await keysOf(store)).toEqual([]);
    });

    it('lists in the order of UTF-8 bytes, by prefix, from after a key', async () => {
      const store = await open();
      // U+FF5E sorts before U+1F642 in UTF-8 but after it in UTF-16; '.' sorts before '/', '0' after.
      const all = ['a-', 'a.b', 'a/b', 'a/c/d', 'a0', 'b/1', 'b/10', 'b/2', 'z～', 'z🙂'];
      for (const key of all.toReversed()) await store.put(key, 'x');
      expect(await keysOf(store)).toEqual(all);
      expect(await keysOf(store, 'a/')).toEqual(['a/b', 'a/c/d']);
      expect(await keysOf(store, 'b/1')).toEqual(['b/1', 'b/10']);
      expect(await keysOf(store, 'none/')).toEqual([]);
      for (let i = 0; i < all.length; i++) expect(await keysOf(store, '', all[i])).toEqual(all.slice(i + 1));
      expect(await keysOf(store, '', 'a/b/zzz')).toEqual(all.slice(3));
      expect(await keysOf(store, 'b/', 'b/1')).toEqual(['b/10', 'b/2']);
    });

    it('keeps odd names', async () => {
      const store = await open();
      for (const key of oddKeys) await store.put(key, key);
      for (const key of oddKeys) expect(text(await store.get(key))).toBe(key);
      expect((await keysOf(store)).toSorted()).toEqual(oddKeys.toSorted());
      for (const key of oddKeys) {
        const { store: parent, key: last } = splitUrl(store.url(key));
        expect(text(await parent.get(last))).toBe(key);
      }
    });

    it('gives the size and an etag that changes with the content', async () => {
      const store = await open();
      await store.put('o', 'four');
      const head = (await store.head('o'))!;
      expect(head.size).toBe(4);
      for await (const info of store.list('')) expect(info).toEqual({ key: 'o', size: 4, etag: head.etag });
      // MD5 of "four", from md5sum: a folder and a bucket agree, so their datasets have the same hash.
      if (etags === 'content') expect(head.etag).toBe('8cbad96aced40b3838dd9f07f6ef5772');
      else {
        expect(head.etag).not.toBe('8cbad96aced40b3838dd9f07f6ef5772');
        await store.put('o', 'four');
        expect((await store.head('o'))!.etag).not.toBe(head.etag);
      }
    });

    it('tells the MD5 that came with the content, whatever its etag is', async () => {
      const store = await open();
      // From md5sum, the second of 9 MiB of zeros.
      const four = '8cbad96aced40b3838dd9f07f6ef5772', zeros = 'b82b4ab87e44976024abc14a1670dac0';
      await store.put('o', 'four', { md5: four });
      await store.put('parts', Readable.from([Buffer.alloc(9 * 2 ** 20)]), { md5: zeros });
      expect((await store.head('o'))!.md5).toBe(four);
      expect((await store.head('parts'))!.md5).toBe(zeros);
      await store.put('o', 'else');
      expect((await store.head('o'))!.md5).not.toBe(four);
    });

    it('deletes, and does not mind an absent object', async () => {
      const store = await open();
      await store.put('d/e/f', 'x');
      await store.delete('d/e/f');
      await store.delete('d/e/f');
      expect(await store.head('d/e/f')).toBeUndefined();
      expect(await keysOf(store)).toEqual([]);
    });

    it('says so when an object is absent', async () => {
      const store = await open();
      expect(await codeOf(store.get('nowhere/x'))).toBe('ObjectNotFound');
      expect(await codeOf(store.get('nowhere/x', { start: 1 }))).toBe('ObjectNotFound');
      expect(await codeOf(store.getStream('nowhere/x'))).toBe('ObjectNotFound');
      await expect(store.get('nowhere/x')).rejects.toThrow(store.url('nowhere/x'));
    });

    it('refuses keys that could leave the root', async () => {
      const store = await open();
      for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a/../../b', './a', 'a\0b']) {
        expect(await codeOf(store.put(key, 'x'))).toBe('KeyInvalid');
        expect(await codeOf(store.get(key))).toBe('KeyInvalid');
      }
    });

    it('reads and writes JSON and JSON lines', async () => {
      const store = await open();
      await writeJson(store, 'value.json', { a: [1, 'ü'] });
      expect(await readJson(store, 'value.json')).toEqual({ a: [1, 'ü'] });
      const lines = Array.from({ length: 3000 }, (_, i) => ({ i, name: `line\u2028separator ${'é'.repeat(i % 97)}` }));
      await store.put('lines.jsonl', lines.map((line) => JSON.stringify(line)).join('\n'));
      const read = [];
      for await (const line of readLines(store, 'lines.jsonl')) read.push(line);
      expect(read).toEqual(lines);
      await store.put('bad.jsonl', '{"a":1}\n{"a":\n');
      await expect((async () => { for await (const line of readLines(store, 'bad.jsonl')) void line; })()).rejects.toThrow(/bad\.jsonl line 2 is not valid JSON/);
      await store.put('bad.json', '{');
      expect(await codeOf(readJson(store, 'bad.json'))).toBe('JsonInvalid');
    });
  });
}
