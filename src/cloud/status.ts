import type { RunStatus, StageStatus } from '../cli/runStatus.ts';
import { messageOf } from '../stages/recordFailure.ts';
import type { Clients } from './clients.ts';
import type { Deployment } from './deployment.ts';
import { type ExecutionDetails, readHistory } from './executions.ts';
import { describeJobs, hasEnded, type Job, jobsOfRun, queuesOf, type StatusSummary } from './jobs.ts';
import { newestExecution } from './runs.ts';
import { type OpenTask, openTasks } from './tasks.ts';

/** The newest job of a stage, or what workers do of it. */
export interface JobProgress {
  /** Batch's. */
  readonly id?: string;
  readonly status: Job['status'];
  /** Children of an array job in each status. */
  readonly summary?: StatusSummary;
  readonly reason?: string;
  /** Where workers take the tasks: names of those that are at it. */
  readonly workers?: readonly string[];
}

export interface CloudStageStatus extends StageStatus {
  readonly job?: JobProgress;
}

export interface CloudRunStatus extends Omit<RunStatus, 'stages' | 'state' | 'run'> {
  readonly state: RunStatus['state'] | ExecutionDetails['state'];
  /** Absent while the execution has not written its recipe. */
  readonly run?: string;
  readonly stages: readonly CloudStageStatus[];
  readonly execution?: ExecutionDetails;
}

/**
 * How far a run has come: what its stages left in the store, what its execution says, and its jobs, or tasks of workers, that have not ended.
 * @param stored what lies in the store, if there is anything yet
 */
export async function readCloudStatus(clients: Clients, { stateMachine }: Deployment, runId: string, stored: RunStatus | undefined): Promise<CloudRunStatus> {
  const [execution, queues] = await Promise.all([newestExecution(clients, stateMachine, runId), queuesOf(clients, stateMachine)]);
  if (queues.length > 0) return combine(runId, stored, execution, await progressOf(clients, newestOfEach(await jobsOfRun(clients, queues, runId))));
  return combine(runId, stored, execution, execution?.state === 'running' ? progressOfTasks(await openTasks(readHistory(clients, execution.arn), runId)) : new Map());
}

/** Of each label one. */
export function progressOfTasks(tasks: readonly OpenTask[]): Map<string, JobProgress> {
  return new Map([...new Set(tasks.map(({ label }) => label))].map((label) => {
    const workers = [...new Set(tasks.flatMap((task) => task.label === label ? task.worker ?? [] : []))].toSorted();
    return [label, { status: workers.length > 0 ? 'RUNNING' : 'RUNNABLE', workers }];
  }));
}

/** Of each label the newest. @param jobs the newest first */
export function newestOfEach(jobs: readonly Job[]): Map<string, Job> {
  const newest = new Map<string, Job>();
  for (const job of jobs) if (!newest.has(job.label)) newest.set(job.label, job);
  return newest;
}

async function progressOf(clients: Clients, jobs: ReadonlyMap<string, Job>): Promise<Map<string, JobProgress>> {
  const arrays = [...jobs.values()].filter((job) => job.size !== undefined && (!hasEnded(job) || job.status === 'FAILED'));
  const summaries = new Map((await describeJobs(clients, arrays.map(({ id }) => id))).map(({ jobId, arrayProperties }) => [jobId, arrayProperties?.statusSummary as StatusSummary | undefined]));
  return new Map([...jobs].map(([label, { id, status, statusReason }]) => {
    const summary = summaries.get(id);
    return [label, { id, status, ...(summary && { summary }), ...(status === 'FAILED' && statusReason !== undefined && { reason: statusReason }) }];
  }));
}

/** Pure: one picture from the three sources. */
export function combine(runId: string, stored: RunStatus | undefined, execution: ExecutionDetails | undefined, jobs: ReadonlyMap<string, JobProgress>): CloudRunStatus {
  const stages = stored === undefined ? [...jobs].map(([stage, job]): CloudStageStatus => ({ stage, done: 0, of: 1, job })) : stored.stages.map((stage): CloudStageStatus => {
    const job = jobs.get(stage.variant === undefined ? stage.stage : `${stage.stage}-${stage.variant}`);
    return job && stage.done < stage.of ? { ...stage, job } : stage;
  });
  const state = execution?.state ?? stored?.state ?? 'unfinished';
  // The record in the store may be of an earlier execution.
  const failure = execution === undefined ? stored?.failure
    : execution.error === undefined || state === 'running' ? undefined
      : stored?.failure?.error === execution.error ? stored.failure
        : { error: execution.error, message: messageOf(execution.cause ?? ''), cause: execution.cause ?? '', time: execution.stoppedAt ?? '' };
  return { runId, state, stages, ...(stored && { run: stored.run }), ...(execution && { execution }), ...(failure && { failure }) };
}

/** `12 running, 50 waiting, 2 failed`; '' where there is nothing to say. */
export function describeJob({ status, summary, reason, workers }: JobProgress): string {
  if (workers !== undefined) return workers.length === 0 ? 'waiting for a worker' : `running on ${workers.length > 3 ? `${workers.length} workers` : workers.join(', ')}`;
  if (summary === undefined) {
    return status === 'FAILED' ? `failed${reason === undefined ? '' : `: ${reason}`}` : status === 'SUCCEEDED' ? '' : status === 'RUNNING' ? 'running' : status === 'STARTING' ? 'starting' : 'waiting for a machine';
  }
  const count = (...statuses: (keyof StatusSummary)[]): number => statuses.reduce((total, name) => total + (summary[name] ?? 0), 0);
  const parts: [number, string][] = [
    [count('RUNNING', 'STARTING'), 'running'], [count('SUBMITTED', 'PENDING', 'RUNNABLE'), 'waiting'], [count('SUCCEEDED'), 'ended'], [count('FAILED'), 'failed'],
  ];
  return parts.filter(([number, name]) => number > 0 && name !== 'ended').map(([number, name]) => `${number} ${name}`).join(', ');
}
