import { z } from 'zod';
import { checkKey } from '../../storage/key.ts';
import { kindOf } from '../layout.ts';
import type { ListedEntry } from './listFile.ts';

const label = z.union([z.string().min(1).max(200), z.int().transform(String)], 'must be text of 1 to 200 characters, or a whole number');
const entry = z.strictObject({
  path: z.string().min(1).optional(),
  url: z.string().min(1).optional(),
  split: z.enum(['train', 'val']).optional(),
  label: label.optional(),
  bytes: z.int().min(0).optional(),
  etag: z.string().min(1).max(100).optional(),
});

/**
 * Reads lines of a JSON-lines list: a path or URL as text, or `{ path | url, split?, label?, bytes?, etag? }`. Empty lines count for nothing.
 * The reader throws an Error that says what is wrong.
 */
export function jsonLinesList(root: string): (line: string) => ListedEntry | undefined {
  return (line) => {
    if (line.trim() === '') return undefined;
    let value: unknown;
    try { value = JSON.parse(line); } catch (cause) { throw new Error(`is not valid JSON: ${(cause as Error).message}`, { cause }); }
    if (typeof value === 'string') return { path: pathOf(value, root) };
    const parsed = entry.safeParse(value);
    if (!parsed.success) throw new Error(parsed.error.issues.map(explain).join('; '));
    const { path, url, ...rest } = parsed.data;
    if ((path === undefined) === (url === undefined)) throw new Error('must have a path or a url, and not both');
    return { path: pathOf((path ?? url)!, root), ...rest };
  };
}

function explain(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `${issue.keys.join(', ')}: not a field; there are path, url, split, label, bytes and etag`;
  if (issue.path.length === 0) return 'must be the path of an image as text, or an object with its path';
  return `${issue.path.join('.')}: ${issue.message}`;
}

/** Relative to the root. */
function pathOf(location: string, root: string): string {
  let path = location;
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(location)) {
    if (!location.startsWith(root)) throw new Error(`${location} does not lie under dataset.url ${root}`);
    path = location.slice(root.length);
    if (root.startsWith('file:')) {
      try { path = decodeURIComponent(path); } catch (cause) { throw new Error(`${location} is not a usable file URL`, { cause }); }
    }
  } else if (location.startsWith('/')) throw new Error(`${location} is an absolute path; write it relative to dataset.url ${root}`);
  try { checkKey(root, path); } catch (cause) { throw new Error((cause as Error).message, { cause }); }
  if (kindOf(path) !== 'image') throw new Error(`${path} is no image by its name (.jpg, .png, .webp, .gif, .avif, .tiff), or hidden, or a mask`);
  return path;
}
