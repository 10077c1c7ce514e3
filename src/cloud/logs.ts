import type { JobDetail } from '@aws-sdk/client-batch';
import { GenViewError } from '../errors.ts';
import { type Clients, mapLimited } from './clients.ts';
import { describeJobs, type Job } from './jobs.ts';

/** Where one attempt of one process of a job wrote. */
export interface JobLogStream {
  /** As the logs of a local run are called: `generate-views-00003`, `pretrain-genview-node-1`. */
  readonly name: string;
  /** From 1. */
  readonly attempt: number;
  readonly group: string;
  readonly stream: string;
}

/** Batch's own, for job definitions that name none. */
const defaultGroup = '/aws/batch/job';

/**
 * Log streams of a stage: of its newest job for each variant, all shards and nodes, all attempts. A process that has not
 * started has none.
 * @param wanted `generate-views`, `generate-views-00003`, `pretrain`, `pretrain-genview`, `pretrain-genview-node-1`
 */
export async function logStreamsOf(clients: Clients, jobs: readonly Job[], wanted: string): Promise<JobLogStream[]> {
  const newest = new Map<string, Job>();
  // Newest first: a later job of the same label replaced the earlier.
  for (const job of jobs) if (!newest.has(job.label)) newest.set(job.label, job);
  const processes: { name: string; id: string }[] = [];
  for (const { label, id, size } of newest.values()) {
    if (size !== undefined) for (let i = 0; i < size; i++) processes.push({ name: `${label}-${String(i).padStart(5, '0')}`, id: `${id}:${i}` });
    else processes.push({ name: label, id });
  }
  const matching = processes.filter(({ name }) => name === wanted || name.startsWith(`${wanted}-`) || wanted.startsWith(`${name}-node-`));
  const details = new Map((await describeJobs(clients, matching.map(({ id }) => id))).map((detail) => [detail.jobId, detail]));
  const streams: JobLogStream[] = [];
  for (const { name, id } of matching) {
    const detail = details.get(id);
    if (detail === undefined) continue;
    const nodes = detail.nodeProperties?.numNodes;
    if (nodes === undefined) { streams.push(...streamsOf(name, detail)); continue; }
    const ids = Array.from({ length: nodes }, (_, node) => `${id}#${node}`);
    for (const node of await describeJobs(clients, ids)) streams.push(...streamsOf(`${name}-node-${node.jobId!.split('#')[1]}`, node));
  }
  return streams.filter(({ name }) => name === wanted || name.startsWith(`${wanted}-`)).toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : a.attempt - b.attempt);
}

function streamsOf(name: string, { container, attempts = [] }: JobDetail): JobLogStream[] {
  const group = container?.logConfiguration?.options?.['awslogs-group'] ?? defaultGroup;
  const streams = attempts.flatMap(({ container: of }) => of?.logStreamName === undefined ? [] : [of.logStreamName]);
  // A running attempt is not among the attempts yet.
  if (container?.logStreamName !== undefined && !streams.includes(container.logStreamName)) streams.push(container.logStreamName);
  return streams.map((stream, index) => ({ name, attempt: index + 1, group, stream }));
}

/** Lines of a log stream, the oldest first. None when it does not exist (yet, or any more). */
export async function* readLogStream(clients: Clients, { group, stream }: JobLogStream): AsyncGenerator<string> {
  let token: string | undefined;
  for (;;) {
    const page = await clients.logs(async (sdk, client) => {
      try {
        return await client.send(new sdk.GetLogEventsCommand({ logGroupName: group, logStreamName: stream, startFromHead: true, ...(token !== undefined && { nextToken: token }) }));
      } catch (error) {
        if ((error as Error).name === 'ResourceNotFoundException') return { events: [], nextForwardToken: token };
        throw error;
      }
    });
    for (const { message } of page.events ?? []) yield message ?? '';
    // The end is where the token no longer changes.
    if (page.nextForwardToken === undefined || page.nextForwardToken === token) return;
    token = page.nextForwardToken;
  }
}

/** Names of the jobs whose logs can be asked for; throws `LogNotFound` that lists them. */
export function refuseLog(stage: string, jobs: readonly Job[], runId: string): never {
  const labels = [...new Set(jobs.map(({ label }) => label))].toSorted();
  throw new GenViewError('LogNotFound', labels.length === 0
    ? `Batch knows no job of ${runId}: none has started, or they ended long ago (it forgets jobs after some days; CloudWatch keeps their log)`
    : `there is no log of ${stage}; there are ${labels.join(', ')}`);
}

/** Lines of several streams, read side by side, given in order. */
export async function* readLogStreams(clients: Clients, streams: readonly JobLogStream[]): AsyncGenerator<{ readonly from: JobLogStream; readonly lines: readonly string[] }> {
  const step = 8;
  for (let start = 0; start < streams.length; start += step) {
    const group = streams.slice(start, start + step);
    const texts = await mapLimited(group, step, (stream) => collect(readLogStream(clients, stream)));
    for (const [i, from] of group.entries()) yield { from, lines: texts[i]! };
  }
}

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

/**
 * What a function wrote about a run: the lines of its log group, `/<name of the state machine>/<function>` as deployed, that name the run.
 * Throws `LogNotFound` when there is no such group.
 * @param since ISO 8601; when the execution began
 */
export async function readFunctionLog(clients: Clients, stateMachine: string, name: string, runId: string, since: string): Promise<string[]> {
  const logGroupName = `/${stateMachine.split(':').at(-1)}/${name}`;
  return clients.logs(async (sdk, client) => {
    const lines: string[] = [];
    try {
      for await (const { events = [] } of sdk.paginateFilterLogEvents({ client }, { logGroupName, filterPattern: `"${runId}"`, startTime: Date.parse(since) })) {
        for (const { message } of events) lines.push((message ?? '').trimEnd());
      }
    } catch (error) {
      if ((error as Error).name === 'ResourceNotFoundException') throw new GenViewError('LogNotFound', `there is no log group ${logGroupName}: ${name} has not run, or its logs go elsewhere`, { cause: error });
      throw error;
    }
    return lines;
  });
}
