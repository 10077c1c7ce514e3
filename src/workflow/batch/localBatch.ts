import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { Json } from '../asl/definition.ts';
import { StatesError } from '../asl/errors.ts';
import type { TaskContext, TaskHandler } from '../asl/interpreter.ts';
import type { Display, JobView } from '../display.ts';
import { batchStages, jobDefinitionNames, localThreads, programOf, type BatchStage, type ImageName, type JobDefinitionName, type ProgramName, type RetryStrategy } from '../stages.ts';
import { JobLog } from './jobLog.ts';
import { runProcess, type ProcessEnd } from './process.ts';
import { Slots } from './slots.ts';
import { submittedJobs, type SubmittedJobs } from './submittedJobs.ts';

export interface LocalBatchOptions {
  readonly display: Display;
  /** Cores to use. @default all of the machine */
  readonly cores?: number;
  /** Processes of each variant of the recipe; asked when a job starts. */
  readonly variants: () => readonly number[];
  /** Folder of the job logs; asked when a job starts. @default no files */
  readonly logFolder?: () => string | undefined;
  /** Threads of each process of a stage. @default localThreads of the cores and variants */
  readonly threads?: (program: ProgramName) => number;
  /** Milliseconds that a process has between SIGTERM and SIGKILL. @default 30000, like a container in Batch */
  readonly grace?: number;
  /** @default the stage table */
  readonly stages?: Readonly<Record<ProgramName, BatchStage>>;
  /** Program of an image. @default containers/<image>/main.ts of this package */
  readonly program?: (image: ImageName) => string;
}

const command = z.strictObject({ Command: z.array(z.string()).min(1) });
/** The part of SubmitJob's arguments that the workflow uses; anything else is refused rather than ignored. */
const submitJob = z.strictObject({
  JobName: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/, 'letters, digits, - and _, at most 128'),
  JobDefinition: z.enum(jobDefinitionNames as [JobDefinitionName, ...JobDefinitionName[]]),
  JobQueue: z.string(),
  ArrayProperties: z.strictObject({ Size: z.int().min(2).max(10_000) }).optional(),
  ContainerOverrides: command.optional(),
  NodeOverrides: z.strictObject({
    NumNodes: z.int().min(1).max(1000),
    NodePropertyOverrides: z.tuple([z.strictObject({ TargetNodes: z.literal('0:'), ContainerOverrides: command })]),
  }).optional(),
  Tags: z.record(z.string().max(128), z.string().max(256)).optional(),
}).refine((job) => (job.JobDefinition === 'pretrain-nodes') === (job.NodeOverrides !== undefined) && (job.NodeOverrides === undefined) !== (job.ContainerOverrides === undefined),
  'a multi-node job has NodeOverrides, any other has ContainerOverrides');
type SubmitJob = z.infer<typeof submitJob>;

/** One attempt of a process or of a group of nodes. */
interface Attempt {
  readonly Container: { readonly ExitCode: number; readonly Reason?: string; readonly LogStreamName?: string };
  readonly StartedAt: number;
  readonly StoppedAt: number;
  readonly StatusReason: string;
}

interface JobEnd {
  readonly succeeded: boolean;
  readonly reason: string;
  readonly stack?: string;
  readonly attempts: readonly Attempt[];
}

/**
 * AWS Batch on this machine: a job is a child process running the same program that the container runs, with the same
 * AWS_BATCH_JOB_* variables. Array jobs run their children as cores allow; a multi-node job is one process a node on
 * 127.0.0.1. Retries, timeouts, exit codes and the job's description are as in Batch, with two differences: after a
 * child of an array job failed no further child starts (Batch runs them all), and the status reason is the program's own
 * last error line.
 */
export class LocalBatch {
  readonly #options: LocalBatchOptions;
  readonly #stages: Readonly<Record<ProgramName, BatchStage>>;
  readonly #cores: number;
  readonly #slots: Slots;
  readonly #submitted: SubmittedJobs;

  constructor(options: LocalBatchOptions) {
    this.#options = options;
    this.#stages = options.stages ?? batchStages;
    this.#cores = options.cores ?? availableParallelism();
    this.#slots = new Slots(this.#cores);
    this.#submitted = submittedJobs((argument, context) => this.run(argument, context));
  }

  /** Handlers of Batch's resources. `states:::batch:submitJob.sync` fails with `States.TaskFailed` and the job's description as the cause, and as in AWS takes no multi-node job. */
  get handlers(): Readonly<Record<string, TaskHandler>> {
    return { 'states:::batch:submitJob.sync': this.submitJob, ...this.#submitted.handlers };
  }

  readonly submitJob = async (argument: Json, context: Pick<TaskContext, 'signal' | 'submitted'>): Promise<object> => {
    if (argument !== null && typeof argument === 'object' && 'NodeOverrides' in argument) throw new StatesError('Batch.AWSBatchException', 'Container overrides should not be set for a multi-node parallel job');
    return this.run(argument, context);
  };

  /** Resolves when no job is running that was submitted without being awaited. */
  settled(): Promise<void> {
    return this.#submitted.settled();
  }

  /** The same for one block of an array job's children, and with what the job itself says of its run. */
  async run(argument: unknown, context: Pick<TaskContext, 'signal' | 'submitted'>, options: RunOptions = {}): Promise<object> {
    const parsed = submitJob.safeParse(argument);
    if (!parsed.success) throw new StatesError('Batch.ClientException', z.prettifyError(parsed.error));
    const request = parsed.data;
    const { children } = options;
    if (children !== undefined && !(children.count >= 1 && children.first >= 0 && children.first + children.count <= (request.ArrayProperties?.Size ?? 0))) {
      throw new StatesError('Batch.ClientException', `children ${children.first} to ${children.first + children.count - 1} are not children of this job`);
    }
    const job = new Job(request, this.#stages[programOf(request.JobDefinition)], {
      slots: this.#slots,
      threads: this.#options.threads?.(programOf(request.JobDefinition)) ?? localThreads(programOf(request.JobDefinition), this.#cores, options.variants ?? this.#options.variants()),
      display: this.#options.display,
      logFolder: options.logFolder ?? this.#options.logFolder?.(),
      children: children ?? { first: 0, count: request.ArrayProperties?.Size ?? 0 },
      grace: this.#options.grace ?? 30_000,
      program: (this.#options.program ?? packageProgram)(this.#stages[programOf(request.JobDefinition)].image),
    });
    context.submitted({ JobId: job.id, JobName: request.JobName });
    return job.run(context.signal);
  }
}

export interface RunOptions {
  /** The children of an array job to run. @default all */
  readonly children?: Children;
  /** @default as the constructor's options say */
  readonly variants?: readonly number[];
  /** @default as the constructor's options say */
  readonly logFolder?: string;
}

export interface Children {
  /** Index of the first. */
  readonly first: number;
  readonly count: number;
}

interface JobOptions {
  readonly slots: Slots;
  readonly threads: number;
  readonly display: Display;
  readonly logFolder: string | undefined;
  readonly grace: number;
  readonly program: string;
  readonly children: Children;
}

class Job {
  readonly id = randomUUID();
  readonly #request: SubmitJob;
  readonly #stage: BatchStage;
  readonly #options: JobOptions;
  readonly #command: readonly string[];
  /** For people: `pretrain genview`. */
  readonly #label: string;
  readonly #createdAt = Date.now();

  constructor(request: SubmitJob, stage: BatchStage, options: JobOptions) {
    this.#request = request;
    this.#stage = stage;
    this.#options = options;
    this.#command = (request.ContainerOverrides ?? request.NodeOverrides!.NodePropertyOverrides[0].ContainerOverrides).Command;
    const variant = this.#command[this.#command.indexOf('--variant') + 1];
    this.#label = stage.perVariant ? `${this.#command[0]} ${variant}` : this.#command[0]!;
  }

  async run(signal: AbortSignal): Promise<object> {
    const { ArrayProperties, NodeOverrides } = this.#request;
    const size = ArrayProperties?.Size;
    const view = this.#options.display.job(this.#label, size === undefined ? undefined : this.#options.children.count);
    try {
      const ends = size === undefined
        ? [await this.#attempts(signal, view, (attempt) => NodeOverrides ? this.#nodes(NodeOverrides.NumNodes, attempt, signal, view) : this.#process('', this.id, {}, attempt, signal, view, undefined))]
        : await this.#array(size, signal, view);
      signal.throwIfAborted();
      const failed = ends.find((end) => end && !end.succeeded);
      const description = this.#describe(ends, failed);
      if (failed) {
        view.failed(failed.stack);
        throw new StatesError('States.TaskFailed', JSON.stringify(description));
      }
      view.done();
      return description;
    } finally {
      view.close();
    }
  }

  /** The children of an array job, as many at a time as cores allow. Undefined for those that never started. */
  async #array(size: number, signal: AbortSignal, view: JobView): Promise<readonly (JobEnd | undefined)[]> {
    const { first, count } = this.#options.children;
    const ends: (JobEnd | undefined)[] = Array.from({ length: count });
    const siblings = { failed: false };
    // Every child listens to it while it waits for a core: no leak, whatever Node supposes.
    setMaxListeners(0, signal);
    // All of them, also when one is aborted: nothing may be left running behind a job that has ended.
    const children = await Promise.allSettled(ends.map(async (_, place) => {
      const index = first + place;
      const variables = { AWS_BATCH_JOB_ARRAY_INDEX: String(index), AWS_BATCH_JOB_ARRAY_SIZE: String(size) };
      const end = await this.#attempts(signal, view, (attempt) => this.#process(`-${String(index).padStart(5, '0')}`, `${this.id}:${index}`, variables, attempt, signal, view, index), siblings);
      if (end === undefined) return;
      ends[place] = end;
      if (end.succeeded) view.childDone(index);
    }));
    for (const child of children) if (child.status === 'rejected') throw child.reason;
    return ends;
  }

  /** Runs attempts until one succeeds or the retry strategy says no. Undefined without any once a sibling has failed. */
  async #attempts(signal: AbortSignal, view: JobView, run: (attempt: number) => Promise<Ended>): Promise<JobEnd>;
  async #attempts(signal: AbortSignal, view: JobView, run: (attempt: number) => Promise<Ended>, siblings: { failed: boolean }): Promise<JobEnd | undefined>;
  async #attempts(signal: AbortSignal, view: JobView, run: (attempt: number) => Promise<Ended>, siblings = { failed: false }): Promise<JobEnd | undefined> {
    const nodes = this.#request.NodeOverrides?.NumNodes ?? 1;
    const release = await this.#options.slots.take(this.#options.threads * nodes, signal);
    try {
      if (siblings.failed) return undefined;
      view.started();
      const attempts: Attempt[] = [];
      for (;;) {
        const startedAt = Date.now();
        const { end, log } = await run(attempts.length + 1);
        signal.throwIfAborted();
        const succeeded = end.exitCode === 0;
        // What Batch itself says; its retry rules match on these.
        const reason = end.timedOut ? 'Job attempt duration exceeded timeout' : 'Essential container in task exited';
        const containerReason = end.signal === undefined || end.timedOut ? undefined : `killed by ${end.signal}`;
        attempts.push({
          Container: { ExitCode: end.exitCode, ...(containerReason !== undefined && { Reason: containerReason }), ...(log.file !== undefined && { LogStreamName: log.file }) },
          StartedAt: startedAt, StoppedAt: Date.now(), StatusReason: reason,
        });
        if (succeeded) return { succeeded, reason, attempts };
        const said = log.reason;
        const why = end.timedOut ? `${reason} (${this.#stage.timeoutSeconds} s)` : said !== '' ? said : containerReason ?? `exit code ${end.exitCode}, without a message`;
        const again = !end.timedOut && attempts.length < this.#stage.retry.attempts
          && retries(this.#stage.retry, { statusReason: reason, reason: containerReason ?? '', exitCode: end.exitCode });
        if (!again) {
          // Before the cores are given to the next child.
          siblings.failed = true;
          return { succeeded, reason: why, attempts, ...(log.lastError?.stack !== undefined && { stack: log.lastError.stack }) };
        }
        view.retry(attempts.length + 1, why);
      }
    } finally {
      release();
    }
  }

  async #process(suffix: string, id: string, variables: NodeJS.ProcessEnv, attempt: number, signal: AbortSignal, view: JobView, child: number | undefined): Promise<Ended> {
    const { logFolder, program, threads, grace } = this.#options;
    const log = new JobLog(logFolder === undefined ? undefined : join(logFolder, `${this.#label.replaceAll(' ', '-')}${suffix}.log`));
    const end = await runProcess({
      file: process.execPath,
      args: ['--import', tsxLoader(), program, ...this.#command],
      env: {
        ...inherited(),
        GENVIEW_LOG: 'json',
        GENVIEW_PARENT: 'stdin',
        GENVIEW_THREADS: String(threads),
        AWS_BATCH_JOB_ID: id,
        AWS_BATCH_JOB_ATTEMPT: String(attempt),
        AWS_BATCH_JQ_NAME: this.#request.JobQueue,
        AWS_BATCH_CE_NAME: 'local',
        ...variables,
      },
      signal,
      grace,
      timeout: this.#stage.timeoutSeconds * 1000,
      onLine: (text) => view.line(log.add(text), child),
    });
    return { end, log };
  }

  /** The main node's exit code is the job's; the others are stopped when it has ended. */
  async #nodes(count: number, attempt: number, signal: AbortSignal, view: JobView): Promise<Ended> {
    const port = String(await freePort());
    const others = new AbortController();
    const stop = (): void => others.abort(signal.reason);
    if (signal.aborted) stop(); else signal.addEventListener('abort', stop, { once: true });
    const node = (index: number, until: AbortSignal): Promise<Ended> => this.#process(`-node-${index}`, `${this.id}#${index}`, {
      AWS_BATCH_JOB_NODE_INDEX: String(index),
      AWS_BATCH_JOB_NUM_NODES: String(count),
      AWS_BATCH_JOB_MAIN_NODE_INDEX: '0',
      ...(index !== 0 && { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' }),
      GENVIEW_RENDEZVOUS_PORT: port,
      GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1',
    }, attempt, until, index === 0 ? view : view.withoutProgress(), undefined);
    try {
      const main = node(0, signal).finally(() => others.abort(new Error('the main node has ended')));
      const rest = Promise.all(Array.from({ length: count - 1 }, (_, i) => node(i + 1, others.signal)));
      const [ended] = await Promise.all([main, rest]);
      return ended;
    } finally {
      others.abort();
      signal.removeEventListener('abort', stop);
    }
  }

  /** DescribeJobs' shape, in PascalCase as a `.sync` integration returns it. */
  #describe(ends: readonly (JobEnd | undefined)[], failed: JobEnd | undefined): object {
    const { JobName, JobDefinition, JobQueue, ArrayProperties, NodeOverrides } = this.#request;
    const shown = failed ?? ends[0]!;
    const count = (test: (end: JobEnd | undefined) => boolean): number => ends.filter(test).length;
    return {
      JobId: this.id, JobName, JobDefinition, JobQueue,
      Status: failed ? 'FAILED' : 'SUCCEEDED',
      StatusReason: shown.reason,
      CreatedAt: this.#createdAt, StartedAt: shown.attempts[0]!.StartedAt, StoppedAt: Date.now(),
      Attempts: ArrayProperties ? [] : shown.attempts,
      Container: { Command: this.#command, ...shown.attempts.at(-1)!.Container },
      ...(ArrayProperties && { ArrayProperties: { Size: ArrayProperties.Size, StatusSummary: { SUCCEEDED: count((end) => end?.succeeded === true), FAILED: count((end) => end === undefined || !end.succeeded) } } }),
      ...(NodeOverrides && { NodeProperties: { MainNode: 0, NumNodes: NodeOverrides.NumNodes } }),
    };
  }
}

interface Ended {
  readonly end: ProcessEnd;
  readonly log: JobLog;
}

/** Whether the strategy repeats an attempt; the first rule of which all patterns match decides. */
export function retries(strategy: RetryStrategy, end: { statusReason: string; reason: string; exitCode: number }): boolean {
  const matches = (pattern: string | undefined, text: string): boolean =>
    pattern === undefined || (pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : text === pattern);
  const rule = strategy.evaluateOnExit.find((candidate) =>
    matches(candidate.onStatusReason, end.statusReason) && matches(candidate.onReason, end.reason) && matches(candidate.onExitCode, String(end.exitCode)));
  return rule?.action !== 'EXIT';
}

const packageProgram = (image: ImageName): string => fileURLToPath(new URL(`../../../containers/${image}/main.ts`, import.meta.url));

/** As a URL, so that it is found from any working folder and wherever this package is installed. */
const tsxLoader = (): string => pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

/** Our environment, without what a Batch job that we are part of ourselves has set. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(AWS_BATCH_|GENVIEW_RENDEZVOUS_|GENVIEW_PROCESSES)/.test(name)));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => { server.once('error', reject).listen(0, '127.0.0.1', resolve); });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}
