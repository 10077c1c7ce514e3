import type { JobStatus } from '@aws-sdk/client-batch';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clients } from '../cloud/clients.ts';
import type { Log } from '../log.ts';

/** Tag of a job with the ARN of the execution that submitted it, where Step Functions does not keep the two together by itself. */
export const executionTag = 'genview:execution';
/** JSONata for that tag's value. Names of executions may have characters that a tag may not. */
export const executionTagValue = "$replace($states.context.Execution.Id, /[^A-Za-z0-9 _.:\\/=+@-]/, '_')";
/** In the reason of every job that is terminated because its execution is. */
export const endedWithExecution = 'ended with its execution';

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

/** DescribeJobs takes so many. */
const jobsAtATime = 100;
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
      await stopThose(event.execution, jobs.filter(({ execution }) => execution === tagged(event.execution)), terminated, options);
    } else {
      // One that cannot be had must not keep the others.
      const ends = await Promise.allSettled([...new Set(jobs.map((job) => job.execution))].map((execution) => stopThose(execution, jobs.filter((job) => job.execution === execution), terminated, options)));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    }
  }
  return { terminated: terminated.size };
}

/** What {@link executionTagValue} makes of an ARN. */
const tagged = (execution: string): string => execution.replace(/[^A-Za-z0-9 _.:/=+@-]/g, '_');

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
  return clients.batch(async (sdk, client) => {
    const ids: string[] = [], found: OpenJob[] = [];
    for (const jobStatus of open) {
      for await (const { jobSummaryList = [] } of sdk.paginateListJobs({ client }, { jobQueue, jobStatus })) ids.push(...jobSummaryList.map(({ jobId }) => jobId!));
    }
    for (let start = 0; start < ids.length; start += jobsAtATime) {
      const { jobs = [] } = await client.send(new sdk.DescribeJobsCommand({ jobs: ids.slice(start, start + jobsAtATime) }));
      for (const { jobId, jobName, tags } of jobs) {
        const execution = tags?.[executionTag];
        if (execution !== undefined) found.push({ id: jobId!, name: jobName!, execution });
      }
    }
    return found;
  });
}
