import type { JobStatus } from '@aws-sdk/client-batch';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clients } from '../cloud/clients.ts';
import { describeJobs } from '../cloud/jobs.ts';
import type { Log } from '../log.ts';
import { endedWithExecution, executionTag, tagOfExecution } from './executionTag.ts';

/** The ARN of an execution that has ended; `sweep`: all executions that have. */
export type ExecutionEnded = { readonly execution: string } | { readonly sweep: true };

export interface StopJobsOptions {
  readonly clients: Clients;
  /** Name or ARN of the queue of the tagged jobs. */
  readonly queue: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Milliseconds until the second look. @default 15000 */
  readonly pause?: number;
}

interface OpenJob {
  readonly id: string;
  readonly name: string;
  /** ARN of its execution, as the tag has it. */
  readonly execution: string;
}

const open: readonly JobStatus[] = ['SUBMITTED', 'PENDING', 'RUNNABLE', 'STARTING', 'RUNNING'];

/**
 * Terminates the jobs of an execution that has ended before them. Step Functions does so for jobs of `.sync` tasks;
 * multi-node jobs are none. Looks twice: a submission that was under way when the execution ended shows up late, and Step Functions may
 * still call the execution running. Leaves everything as it is when the execution runs (again). A sweep does so once for every execution that
 * a job in the queue names, since events of executions may get lost; a job of an execution that Step Functions does not know is left. Can be repeated.
 */
export async function stopJobs(event: ExecutionEnded, options: StopJobsOptions): Promise<{ readonly terminated: number }> {
  const { clients, queue, signal, pause = 15_000 } = options;
  const terminated = new Set<string>();
  for (let look = 0; look < ('sweep' in event ? 1 : 2); look++) {
    if (look > 0) await sleep(pause, undefined, { signal });
    const jobs = (await taggedJobs(clients, queue)).filter(({ id }) => !terminated.has(id));
    if ('execution' in event) {
      await stopThose(event.execution, jobs.filter(({ execution }) => execution === tagOfExecution(event.execution)), terminated, options);
    } else {
      // One that cannot be had must not keep the others.
      const ends = await Promise.allSettled([...new Set(jobs.map((job) => job.execution))].map((execution) => stopThose(execution, jobs.filter((job) => job.execution === execution), terminated, options)));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    }
  }
  return { terminated: terminated.size };
}

async function stopThose(execution: string, jobs: readonly OpenJob[], terminated: Set<string>, { clients, log }: StopJobsOptions): Promise<void> {
  if (jobs.length === 0) return;
  const status = await statusOf(clients, execution);
  if (status === undefined) {
    log.warn(`there is no execution ${execution}; its jobs ${jobs.map(({ name, id }) => `${name} (${id})`).join(', ')} are left as they are`);
    return;
  }
  if (status === 'RUNNING' || status === 'PENDING_REDRIVE') return;
  for (const { id, name } of jobs) {
    await clients.batch((sdk, client) => client.send(new sdk.TerminateJobCommand({ jobId: id, reason: `${endedWithExecution}, ${status}` })));
    terminated.add(id);
    log.info(`${execution} has ended (${status}): terminated its job ${name} (${id})`);
  }
}

async function statusOf(clients: Clients, execution: string): Promise<string | undefined> {
  try {
    return (await clients.sfn((sdk, client) => client.send(new sdk.DescribeExecutionCommand({ executionArn: execution })))).status!;
  } catch (error) {
    if (['ExecutionDoesNotExist', 'InvalidArn'].includes((error as Error).name)) return undefined;
    throw error;
  }
}

/** Jobs in the queue that have not ended and carry an execution's tag. */
async function taggedJobs(clients: Clients, jobQueue: string): Promise<OpenJob[]> {
  const ids = await clients.batch(async (sdk, client) => {
    const listed: string[] = [];
    for (const jobStatus of open) {
      for await (const { jobSummaryList = [] } of sdk.paginateListJobs({ client }, { jobQueue, jobStatus })) listed.push(...jobSummaryList.map(({ jobId }) => jobId!));
    }
    return listed;
  });
  return (await describeJobs(clients, ids)).flatMap(({ jobId, jobName, tags }) => {
    const execution = tags?.[executionTag];
    return execution === undefined ? [] : [{ id: jobId!, name: jobName!, execution }];
  });
}
