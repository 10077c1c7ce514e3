import type { JobStatus } from '@aws-sdk/client-batch';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clients } from '../cloud/clients.ts';
import type { Log } from '../log.ts';

/** Tag of a job with the ARN of the execution that submitted it, where Step Functions does not keep the two together by itself. */
export const executionTag = 'genview:execution';
/** In the reason of every job that is terminated because its execution is. */
export const endedWithExecution = 'ended with its execution';

export interface ExecutionEnded {
  /** ARN of an execution that has ended. */
  readonly execution: string;
}

export interface StopJobsOptions {
  readonly clients: Clients;
  /** Name or ARN of the queue of the tagged jobs. */
  readonly queue: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Milliseconds until the second look. @default 15000 */
  readonly pause?: number;
}

/** DescribeJobs takes so many. */
const jobsAtATime = 100;
const open: readonly JobStatus[] = ['SUBMITTED', 'PENDING', 'RUNNABLE', 'STARTING', 'RUNNING'];

/**
 * Terminates the jobs of an execution that has ended before them. Step Functions does so for jobs of `.sync` tasks;
 * multi-node jobs are none. Looks twice: a submission that was under way when the execution ended shows up late, and Step Functions may
 * still call the execution running. Leaves everything as it is when the execution runs (again). Can be repeated.
 */
export async function stopJobs({ execution }: ExecutionEnded, { clients, queue, log, signal, pause = 15_000 }: StopJobsOptions): Promise<{ readonly terminated: number }> {
  const terminated = new Set<string>();
  for (let look = 0; look < 2; look++) {
    if (look > 0) await sleep(pause, undefined, { signal });
    const { status } = await clients.sfn((sdk, client) => client.send(new sdk.DescribeExecutionCommand({ executionArn: execution })));
    if (status === 'RUNNING' || status === 'PENDING_REDRIVE') continue;
    for (const { id, name } of await jobsOf(clients, queue, execution)) {
      if (terminated.has(id)) continue;
      await clients.batch((sdk, client) => client.send(new sdk.TerminateJobCommand({ jobId: id, reason: `${endedWithExecution}, ${status}` })));
      terminated.add(id);
      log.info(`${execution} has ended (${status}): terminated its job ${name} (${id})`);
    }
  }
  return { terminated: terminated.size };
}

/** Jobs in the queue that have not ended and carry the execution's tag. */
async function jobsOf(clients: Clients, jobQueue: string, execution: string): Promise<{ id: string; name: string }[]> {
  return clients.batch(async (sdk, client) => {
    const ids: string[] = [], found: { id: string; name: string }[] = [];
    for (const jobStatus of open) {
      for await (const { jobSummaryList = [] } of sdk.paginateListJobs({ client }, { jobQueue, jobStatus })) ids.push(...jobSummaryList.map(({ jobId }) => jobId!));
    }
    for (let start = 0; start < ids.length; start += jobsAtATime) {
      const { jobs = [] } = await client.send(new sdk.DescribeJobsCommand({ jobs: ids.slice(start, start + jobsAtATime) }));
      for (const { jobId, jobName, tags } of jobs) if (tags?.[executionTag] === execution) found.push({ id: jobId!, name: jobName! });
    }
    return found;
  });
}
