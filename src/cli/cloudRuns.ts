import { executionsByRun } from '../cloud/runs.ts';
import { readCloudStatus, type CloudRunStatus } from '../cloud/status.ts';
import { GenViewError } from '../errors.ts';
import { openStore } from '../storage/index.ts';
import type { Target } from './cloudOptions.ts';
import { readStatus } from './runStatus.ts';
import { chooseRun, listRuns } from './runs.ts';

/** Runs of a target: those in its store and those that its state machine has started, the newest execution first. */
export async function runsOfTarget({ store, clients, deployment }: Target): Promise<string[]> {
  const stored = await listRuns(openStore(store));
  if (deployment === undefined) return stored;
  const started = await executionsByRun(clients, deployment.stateMachine);
  return [...new Set([...started.keys(), ...stored])];
}

/** The run of a target that a name means; nothing means its only one. Throws `RunNotFound`. */
export async function findRunOf(target: Target, run: string | undefined): Promise<string> {
  const named = run === undefined ? undefined : /(?:^|\/)runs\/([^/]+)\/?$/.exec(run)?.[1] ?? run;
  return chooseRun(await runsOfTarget(target), named, target.store);
}

/** How far runs of a target have come. */
export async function statusesOf(target: Target, runs: readonly string[]): Promise<CloudRunStatus[]> {
  const store = openStore(target.store);
  const statuses: CloudRunStatus[] = [];
  for (const runId of runs) {
    const stored = await readStored(store.url(`runs/${runId}/`));
    if (target.deployment !== undefined) statuses.push(await readCloudStatus(target.clients, target.deployment, runId, stored));
    else if (stored !== undefined) statuses.push(stored);
  }
  return statuses;
}

/** undefined when the run has not begun to write. */
async function readStored(url: string): Promise<Awaited<ReturnType<typeof readStatus>> | undefined> {
  try { return await readStatus(url); } catch (error) {
    if (error instanceof GenViewError && error.code === 'RunNotFound') return undefined;
    throw error;
  }
}

/** One line of `genview ls`. */
export interface ListedRun {
  readonly runId: string;
  readonly state: CloudRunStatus['state'];
  /** Of the newest execution, where the cloud knows one. */
  readonly startedAt?: string;
  readonly stoppedAt?: string;
  /** How many executions it has had; 0 where the store is all there is. */
  readonly executions: number;
}

export async function listTarget(target: Target): Promise<ListedRun[]> {
  const started = target.deployment === undefined ? new Map<string, never[]>() : await executionsByRun(target.clients, target.deployment.stateMachine);
  const stored = await listRuns(openStore(target.store));
  const store = openStore(target.store);
  const withExecution = [...started].map(([runId, [newest, ...older]]): ListedRun => ({
    runId, state: newest!.state, startedAt: newest!.startedAt, ...(newest!.stoppedAt !== undefined && { stoppedAt: newest!.stoppedAt }), executions: 1 + older.length,
  }));
  const others: ListedRun[] = [];
  for (const runId of stored) {
    if (!started.has(runId)) others.push({ runId, state: (await readStatus(store.url(`runs/${runId}/`))).state, executions: 0 });
  }
  return [...withExecution, ...others];
}
