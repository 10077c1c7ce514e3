import { openResolved } from '../stages/artefacts.ts';
import type { RunPlan } from '../stages/contract.ts';
import type { FailureRecord } from '../stages/recordFailure.ts';
import { readJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';

export interface StageStatus {
  readonly stage: string;
  readonly variant?: string;
  /** Finished parts (shards, or the whole stage) of all. */
  readonly done: number;
  readonly of: number;
}

export interface RunStatus {
  readonly runId: string;
  readonly run: string;
  readonly state: 'done' | 'failed' | 'unfinished';
  readonly stages: readonly StageStatus[];
  readonly failure?: FailureRecord;
}

/** How far a run has come, by the markers and results that its stages left. */
export async function readStatus(runUrl: string): Promise<RunStatus> {
  const { store, run, runPrefix } = await openResolved(runUrl);
  const exists = async (key: string): Promise<boolean> => await store.head(key) !== undefined;
  const stages: StageStatus[] = [];
  const single = async (stage: string, key: string | undefined, variant?: string): Promise<void> => {
    stages.push({ stage, ...(variant !== undefined && { variant }), done: key !== undefined && await exists(key) ? 1 : 0, of: 1 });
  };

  const planKey = `${runPrefix}plan.json`;
  const plan = await exists(planKey) ? await readJson<RunPlan>(store, planKey) : undefined;
  const shards = async (stage: string, prefix: string | undefined): Promise<void> => {
    stages.push({ stage, done: prefix === undefined ? 0 : await countMarkers(store, prefix), of: plan?.shards ?? 1 });
  };
  await single('shard-dataset', planKey);
  await single('fit-foreground', plan && `${plan.foreground}foreground.done`);
  await shards('analyze-foreground', plan?.analysis);
  await single('plan-views', plan && `${plan.views}plan.done`);
  await shards('generate-views', plan?.views);
  await single('pair-similarity', plan && `${plan.similarity}similarity.json`);
  for (const { name } of run.recipe.variants) {
    const own = plan?.variants.find((variant) => variant.name === name);
    await single('pretrain', own && `${own.pretrain}.done`, name);
    await single('linear-probe', own && `${own.evaluate}linear.json`, name);
    await single('nearest-neighbours', own && `${own.evaluate}knn.json`, name);
    await single('semi-supervised', own && `${own.evaluate}semi.json`, name);
  }
  await single('report', `${runPrefix}report.html`);

  const failureKey = `${runPrefix}failure.json`;
  const failure = await exists(failureKey) ? await readJson<FailureRecord>(store, failureKey) : undefined;
  const complete = stages.every(({ done, of }) => done === of);
  return {
    runId: run.runId, run: store.url(runPrefix), stages,
    state: failure ? 'failed' : complete ? 'done' : 'unfinished',
    ...(failure && { failure }),
  };
}

async function countMarkers(store: ObjectStore, prefix: string): Promise<number> {
  let markers = 0;
  for await (const { key } of store.list(`${prefix}shard-`)) if (key.endsWith('.done')) markers += 1;
  return markers;
}
