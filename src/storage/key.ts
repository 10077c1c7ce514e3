import { isUtf8 } from 'node:buffer';
import { GenViewError } from '../errors.ts';

/**
 * Names of our own temporary files in a folder store. Nothing lists them, and no key may use them.
 * A finished object never has such a name.
 */
export const privatePrefix = '.genview-';

/** Throws `KeyInvalid` unless `key` can name an object: no empty part, `.`, `..`, NUL, or private name. */
export function checkKey(root: string, key: string): void {
  const fault = key === '' ? 'is empty'
    : key.includes('\0') ? 'holds a NUL character'
    : key.split('/').some((part) => part === '' || part === '.' || part === '..') ? 'holds an empty, "." or ".." part'
    : key.split('/').some((part) => part.startsWith(privatePrefix)) ? `uses the reserved name ${privatePrefix}*`
    : undefined;
  if (fault !== undefined) throw new GenViewError('KeyInvalid', `object key ${JSON.stringify(key)} under ${root} ${fault}`);
}

/** As `checkKey` for the prefix of a listing, which may be empty and may end anywhere in a name. */
export function checkPrefix(root: string, prefix: string): void {
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  if (folder !== '') checkKey(root, folder.slice(0, -1));
}

// Bytes of a file name that are not UTF-8 become lone surrogates U+DC80..U+DCFF, as in Python's "surrogateescape":
// the key survives JSON and finds the file again.

/** File name as found on disk -> part of a key. */
export function decodeName(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let name = '';
  for (let i = 0; i < bytes.length;) {
    const lead = bytes[i]!;
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    const character = bytes.subarray(i, i + length);
    if (isUtf8(character)) { name += character.toString('utf8'); i += length; }
    else { name += String.fromCharCode(0xdc00 + lead); i += 1; }
  }
  return name;
}

/** Inverse of `decodeName`, for a whole key. */
export function encodeName(key: string): Buffer {
  if (isWellFormed(key)) return Buffer.from(key, 'utf8');
  return Buffer.concat(Array.from(key, (character) => {
    const code = character.codePointAt(0)!;
    return code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code - 0xdc00) : Buffer.from(character, 'utf8');
  }));
}

/** False when the key stands for a file name that is not UTF-8. */
export function isWellFormed(key: string): boolean {
  return !/\p{Surrogate}/u.test(key);
}

/** Code units from which on JavaScript's order is not that of the UTF-8 bytes. */
const beyond = /[\uD800-\uFFFF]/;

/** Order of the UTF-8 bytes: the order of `ObjectStore.list`. (JavaScript's own order differs above U+FFFF.) */
export function compareKeys(a: string, b: string): number {
  if (!beyond.test(a) && !beyond.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  return Buffer.compare(encodeName(a), encodeName(b));
}
