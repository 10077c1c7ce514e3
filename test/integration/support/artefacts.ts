import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ObjectStore } from '../../../src/storage/objectStore.ts';

/** Where stages leave what depends on the recipe's content alone; `runs/` also holds times and logs. */
const folders = ['datasets', 'foreground', 'analysis', 'views', 'pretrain', 'evaluate', 'similarity'];

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Keys of every file of the artefacts in a folder store, also those that a store does not list. */
function keysIn(store: string): string[] {
  return folders.filter((folder) => existsSync(path.join(store, folder))).flatMap((folder) =>
    readdirSync(path.join(store, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(store, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, '/')))
    .toSorted();
}

/** What a killed process left under a name that stores do not list. */
const isPrivate = (key: string): boolean => path.basename(key).startsWith('.genview-');

/** SHA-256 of every artefact in a folder store, by key: what a reader of the store sees. */
export function artefactsOf(store: string): Record<string, string> {
  return Object.fromEntries(keysIn(store).filter((key) => !isPrivate(key)).map((key) => [key, digest(readFileSync(path.join(store, key)))]));
}

/** Leases and temporary files: there are none when every process has ended in good order. */
export function leftoversOf(store: string): string[] {
  return keysIn(store).filter((key) => isPrivate(key) || key.endsWith('.lease'));
}

/** The same, of any store. */
export async function artefactsIn(store: ObjectStore): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const folder of folders) {
    for await (const { key } of store.list(`${folder}/`)) found[key] = digest(await store.get(key));
  }
  return found;
}

/** Versions of all artefacts in a folder store, by key: one changes when the object is written again, be it with the same bytes. */
export function versionsOf(store: string): Record<string, string> {
  const versions: Record<string, string> = {};
  for (const key of keysIn(store)) {
    // Some are removed while we look: leases.
    const found = isPrivate(key) ? undefined : statSync(path.join(store, key), { bigint: true, throwIfNoEntry: false });
    if (found) versions[key] = `${found.ino} ${found.mtimeNs}`;
  }
  return versions;
}

/** Keys in a folder store, or paths in any folder, that match. */
export function matching(folder: string, pattern: RegExp): string[] {
  return (existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : []).map((name) => name.replaceAll(path.sep, '/')).filter((name) => pattern.test(name)).toSorted();
}

/**
 * Looks at the store until `stop` is called, which gives every version that objects of matching keys have had: more
 * than one when an object was written twice.
 */
export function watchVersions(store: string, pattern: RegExp): { stop(): Record<string, string[]> } {
  const seen: Record<string, string[]> = {};
  const look = (): void => {
    if (!existsSync(store)) return;
    for (const [key, version] of Object.entries(versionsOf(store))) {
      if (pattern.test(key) && seen[key]?.at(-1) !== version) (seen[key] ??= []).push(version);
    }
  };
  const timer = setInterval(look, 50);
  return { stop() { clearInterval(timer); look(); return seen; } };
}

/** Versions of the artefacts that are finished: `shard-00001.done` says so for every `shard-00001.…`, and `.done` for its whole folder. */
export function finishedIn(store: string): Record<string, string> {
  // A process killed right behind its marker leaves its lease, which the next one removes.
  const versions = Object.fromEntries(Object.entries(versionsOf(store)).filter(([key]) => !key.endsWith('.lease')));
  const finished = Object.keys(versions).filter((key) => key.endsWith('.done')).map((key) => key.slice(0, -'done'.length));
  return Object.fromEntries(Object.entries(versions).filter(([key]) =>
    finished.some((stem) => stem.endsWith('/.') ? path.posix.dirname(key) === path.posix.dirname(stem) : key.startsWith(stem))));
}
