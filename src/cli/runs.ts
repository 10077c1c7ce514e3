import { GenViewError } from '../errors.ts';
import { toUrl } from '../recipe/location.ts';
import { openStore } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';

/** Names of the runs in a store, sorted. */
export async function listRuns(store: ObjectStore): Promise<string[]> {
  const runs = new Set<string>();
  for await (const { key } of store.list('runs/')) {
    const [, runId, file] = key.split('/');
    if (runId && file === 'recipe.json') runs.add(runId);
  }
  return [...runs];
}

/**
 * URL of the run that a command is about: a name is looked up in the store; a path or URL `<store>/runs/<run>` names its
 * own store; nothing means the store's only run.
 */
export async function findRun(run: string | undefined, storeLocation: string): Promise<string> {
  if (run !== undefined && /(^|\/)runs\/[^/]+\/?$/.test(run)) return toUrl(run).replace(/\/?$/, '/');
  const store = openStore(toUrl(storeLocation));
  return store.url(`runs/${chooseRun(await listRuns(store), run, storeLocation)}/`);
}

/** The one of `runs` that a name means; nothing means the only one. Throws `RunNotFound`, which names them. */
export function chooseRun(runs: readonly string[], run: string | undefined, storeLocation: string): string {
  if (runs.length === 0) throw new GenViewError('RunNotFound', `there are no runs in ${storeLocation}; --store names another store, \`genview run <recipe>\` starts a run`);
  if (run === undefined) {
    if (runs.length > 1) throw new GenViewError('RunNotFound', `${storeLocation} holds ${runs.length} runs; name one of ${runs.join(', ')}`);
    return runs[0]!;
  }
  // The recipe's name is enough where it is unambiguous.
  const fitting = runs.includes(run) ? [run] : runs.filter((name) => name.slice(0, -9) === run);
  if (fitting.length !== 1) {
    throw new GenViewError('RunNotFound', `${fitting.length === 0 ? `there is no run ${run}` : `${run} may be any of several runs`} in ${storeLocation}; its runs: ${runs.join(', ')}`);
  }
  return fitting[0]!;
}
