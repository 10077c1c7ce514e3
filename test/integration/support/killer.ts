import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** A program of ours that this process has started and that is running. */
export interface RunningChild {
  readonly pid: number;
  /** What AWS Batch would have told it. */
  readonly env: Readonly<Record<string, string>>;
}

/** Why children of this process cannot be found here; undefined where they can. */
export const cannotFindChildren = existsSync(`/proc/self/task/${process.pid}/children`) ? undefined : 'children of a process are not listed in /proc here';

const known = new Map<number, Readonly<Record<string, string>>>();

/** Children of this process that run a Batch job. */
export function batchChildren(): RunningChild[] {
  const pids = readdirSync('/proc/self/task').flatMap((thread) => read(`/proc/self/task/${thread}/children`).split(' ').filter(Boolean).map(Number));
  for (const pid of known.keys()) if (!pids.includes(pid)) known.delete(pid);
  for (const pid of pids) {
    if (known.has(pid)) continue;
    // Before it has become our program it still has the environment of this process.
    const variables = Object.fromEntries(read(`/proc/${pid}/environ`).split('\0').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
    if (variables['AWS_BATCH_JOB_ID'] !== undefined) known.set(pid, variables);
  }
  return [...known].map(([pid, env]) => ({ pid, env }));
}

function read(file: string): string {
  try { return readFileSync(file, 'utf8'); } catch { return ''; }
}
