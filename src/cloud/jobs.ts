import type { JobDetail, JobStatus } from '@aws-sdk/client-batch';
import { ExitCode, GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { pause } from '../pause.ts';
import { cancelled } from '../workflow/executionTag.ts';
import { type Clients, mapLimited } from './clients.ts';
import { queuesIn, readDefinition } from './definition.ts';

/** A job of a run, as ListJobs tells of it. */
export interface Job {
  readonly id: string;
  /** The job's name without the run's: `generate-views`, `pretrain-baseline`. */
  readonly label: string;
  readonly status: JobStatus;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly statusReason?: string;
  /** Children of an array job. */
  readonly size?: number;
}

/** How many children of an array job are in each status. */
export type StatusSummary = Readonly<Partial<Record<JobStatus, number>>>;

const ended: ReadonlySet<JobStatus> = new Set(['SUCCEEDED', 'FAILED']);

export function hasEnded({ status }: Pick<Job, 'status'>): boolean {
  return ended.has(status);
}

/** Job queues that the state machine submits to, by its own definition; none where workers take the tasks. */
export async function queuesOf(clients: Clients, stateMachine: string): Promise<string[]> {
  return queuesIn(await readDefinition(clients, stateMachine));
}

/** Jobs of a run in these queues, the newest first. Batch forgets a job some days after its end. */
export async function jobsOfRun(clients: Clients, queues: readonly string[], runId: string): Promise<Job[]> {
  const prefix = `${runId}-`;
  const lists = await mapLimited(queues, 4, (jobQueue) => clients.batch(async (sdk, client) => {
    const jobs: Job[] = [];
    // With a filter on the name, ListJobs gives jobs of every status.
    for await (const { jobSummaryList = [] } of sdk.paginateListJobs({ client }, { jobQueue, filters: [{ name: 'JOB_NAME', values: [`${prefix}*`] }] })) {
      for (const { jobId, jobName, status, createdAt, statusReason, arrayProperties } of jobSummaryList) {
        if (!jobName!.startsWith(prefix)) continue;
        jobs.push({
          id: jobId!, label: jobName!.slice(prefix.length), status: status!, createdAt: createdAt ?? 0,
          ...(statusReason !== undefined && { statusReason }), ...(arrayProperties?.size !== undefined && { size: arrayProperties.size }),
        });
      }
    }
    return jobs;
  }));
  // Children of array and multi-node jobs are not listed beside their parents by Batch; other servers do it.
  return lists.flat().filter(({ id }) => !/[:#]/.test(id)).toSorted((a, b) => b.createdAt - a.createdAt);
}

/** Details of jobs, in any number and order. */
export async function describeJobs(clients: Clients, ids: readonly string[]): Promise<JobDetail[]> {
  const groups = Array.from({ length: Math.ceil(ids.length / 100) }, (_, i) => ids.slice(i * 100, (i + 1) * 100));
  const details = await mapLimited(groups, 4, (jobs) => clients.batch(async (sdk, client) => (await client.send(new sdk.DescribeJobsCommand({ jobs }))).jobs ?? []));
  return details.flat();
}

export interface TerminateOptions {
  readonly log: Log;
  readonly signal?: AbortSignal;
  /** Milliseconds until giving up. A container has 30 s after SIGTERM. @default 600000 */
  readonly patience?: number;
  /** Milliseconds between two looks. @default 3000 */
  readonly pollEvery?: number;
}

/**
 * Terminates every job of a run that has not ended, those that appear meanwhile too, and waits until none is left. Throws
 * `JobsLeft` (exit status 75) when that does not come to pass.
 * @returns how many jobs were terminated
 */
export async function terminateJobs(clients: Clients, queues: readonly string[], runId: string, options: TerminateOptions): Promise<number> {
  const { log, signal, patience = 600_000, pollEvery = 3000 } = options;
  const terminated = new Set<string>();
  if (queues.length === 0) return 0;
  const deadline = performance.now() + patience;
  // A submission that was under way when the execution stopped shows up late: twice nothing is nothing.
  for (let quiet = 0; ;) {
    signal?.throwIfAborted();
    const open = (await jobsOfRun(clients, queues, runId)).filter((job) => !hasEnded(job));
    quiet = open.length === 0 ? quiet + 1 : 0;
    if (quiet === 2) return terminated.size;
    await mapLimited(open.filter(({ id }) => !terminated.has(id)), 4, async ({ id, label }) => {
      await clients.batch((sdk, client) => client.send(new sdk.TerminateJobCommand({ jobId: id, reason: cancelled })));
      terminated.add(id);
      log.info(`terminated ${label}`);
    });
    if (performance.now() > deadline) {
      throw new GenViewError('JobsLeft', `jobs of ${runId} are still ending: ${open.map(({ label, status }) => `${label} (${status})`).join(', ')}; run the same command again`, { exitCode: ExitCode.TemporaryFailure });
    }
    await pause(quiet === 1 ? Math.min(pollEvery, 1500) : pollEvery, signal);
  }
}
