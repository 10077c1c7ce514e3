import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { GenViewError } from '../errors.ts';

/** A path or URL on the command line as a URL: paths are relative to the current folder. */
export function toUrl(location: string): string {
  return isUrl(location) ? location : pathToFileURL(path.resolve(location)).href;
}

/**
 * What a recipe's field names, as a URL: `builtin:…`, `file:` and `s3:` URLs stay, paths are relative to the folder (or
 * the prefix) that the recipe lies in. Throws `LocationInvalid`.
 * @param recipeUrl `file:` or `s3:` URL of the recipe
 * @param field for the message
 * @param folder the thing is a folder: its URL gets a slash at the end
 */
export function resolveLocation(location: string, recipeUrl: string, field: string, folder = false): string {
  const scheme = isUrl(location) ? location.slice(0, location.indexOf(':')) : undefined;
  if (scheme === 'builtin') return location;
  if (scheme !== undefined && scheme !== 'file' && scheme !== 's3') {
    throw new GenViewError('LocationInvalid', `${field}: ${location}: genview reads file: and s3: URLs and paths, not ${scheme}:; copy it to a folder or a bucket first`);
  }
  const url = scheme !== undefined ? location : recipeUrl.startsWith('s3://') ? besideObject(location, recipeUrl, field) : besideFile(location, recipeUrl);
  return folder && !url.endsWith('/') ? `${url}/` : url;
}

/** What a dataset's `list` is, by its name. */
export function kindOfList(location: string): 'inventory' | 'json-lines' | undefined {
  if (/\.json$/i.test(location)) return 'inventory';
  return /\.(jsonl|ndjson)(\.gz)?$/i.test(location) ? 'json-lines' : undefined;
}

/** `file:`, `s3:`, `builtin:` and whatever has `//` behind its scheme: a file may be called `exp:1.yaml`. */
export function isUrl(location: string): boolean {
  return /^((file|s3|builtin):|[a-z][a-z0-9+.-]*:\/\/)/i.test(location);
}

function besideFile(location: string, recipeUrl: string): string {
  return pathToFileURL(path.resolve(path.dirname(fileURLToPath(recipeUrl)), location)).href;
}

function besideObject(location: string, recipeUrl: string, field: string): string {
  if (path.posix.isAbsolute(location)) {
    throw new GenViewError('LocationInvalid', `${field}: ${location} is a path of one machine, but the recipe is in a bucket; write an s3: URL, or a path relative to the recipe`);
  }
  const [bucket, ...prefix] = recipeUrl.slice('s3://'.length).split('/').slice(0, -1);
  const parts: string[] = prefix;
  for (const part of location.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw new GenViewError('LocationInvalid', `${field}: ${location} leads out of the bucket of ${recipeUrl}`);
  }
  return `s3://${[bucket, ...parts].join('/')}${location.endsWith('/') ? '/' : ''}`;
}
