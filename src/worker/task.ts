import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { formatSeconds, type Log } from '../log.ts';
import { openResolved } from '../stages/artefacts.ts';
import { openStore } from '../storage/index.ts';
import { activityInput, type ActivityInput } from '../workflow/activities.ts';
import type { Json } from '../workflow/asl/definition.ts';
import { StatesError } from '../workflow/asl/errors.ts';
import { LocalBatch, type LocalBatchOptions } from '../workflow/batch/localBatch.ts';
import { Display } from '../workflow/display.ts';
import { callFunction, functionError, invocation, invocationResult } from '../workflow/functions.ts';

export interface TaskOptions {
  readonly log: Log;
  /** Cores to use; the threads of every process follow from it. @default all of the machine */
  readonly cores?: number;
  /** Tasks of runs outside this store (its root URL) are refused. @default any */
  readonly store?: string;
  /** Of the local Batch that runs the jobs: grace, programs. */
  readonly batch?: Pick<LocalBatchOptions, 'grace' | 'program' | 'stages' | 'threads'>;
}

/** Does one task and gives its result. Throws a StatesError, or the signal's reason once nothing of the task runs any more. */
export type RunTask = (input: unknown, signal: AbortSignal) => Promise<Json>;

/**
 * What Batch and Lambda do with a task, on this machine: jobs as child processes that run the program of their
 * container (see LocalBatch), functions in this process. Results and failures have the shapes that the services give them.
 */
export function createTaskRunner(options: TaskOptions): RunTask {
  const { log, cores = availableParallelism() } = options;
  const batch = new LocalBatch({ ...options.batch, display: new Display(log), cores, variants: () => [1] });

  return async (value, signal) => {
    const parsed = activityInput.safeParse(value);
    if (!parsed.success) throw new StatesError('TaskInvalid', `this worker does not understand the task; it should be of the deployment's version: ${z.prettifyError(parsed.error)}`);
    const input = parsed.data;
    if (options.store !== undefined) checkStore(input, openStore(options.store).root);
    if ('Invoke' in input) return invoke(input.Invoke, log, { signal, threads: cores });

    const run = runOf(input.SubmitJob);
    const logs = await openLogs(run);
    try {
      const description = await batch.run(input.SubmitJob, { signal, submitted: () => undefined }, {
        variants: await variantsOf(run),
        logFolder: logs.folder,
        ...(input.Children && { children: input.Children }),
      });
      return JSON.parse(logs.located(JSON.stringify(description))) as Json;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw error instanceof StatesError ? new StatesError(error.error, logs.located(error.cause)) : functionError(error);
    } finally {
      await logs.close(log);
    }
  };
}

async function invoke(call: unknown, log: Log, context: { readonly signal: AbortSignal; readonly threads: number }): Promise<Json> {
  const parsed = invocation.safeParse(call);
  if (!parsed.success) throw new StatesError('TaskInvalid', z.prettifyError(parsed.error));
  const { FunctionName, Payload } = parsed.data;
  const recorded = recordingLog(log), since = performance.now();
  let run = runOfEvent(Payload);
  try {
    const result = await callFunction(FunctionName, Payload, { ...context, log: recorded });
    run ??= runOfEvent(result);
    recorded.info(`${FunctionName} done in ${formatSeconds((performance.now() - since) / 1000)}`);
    return invocationResult(result);
  } catch (error) {
    if (context.signal.aborted) throw context.signal.reason;
    recorded.error(`${FunctionName}: ${(error as Error).message}`);
    throw functionError(error);
  } finally {
    // A faulty recipe has no run.
    if (run !== undefined) await keepLogs(logsUrl(run), [[`${FunctionName}.log`, recorded.lines.join('')]], log);
  }
}

/** `run` of a function's event, or of its result. */
function runOfEvent(value: unknown): string | undefined {
  return z.looseObject({ run: z.string() }).safeParse(value).data?.run;
}

/** A log that also keeps what it was told, as the lines of `GENVIEW_LOG=json`. */
function recordingLog(log: Log): Log & { readonly lines: readonly string[] } {
  const lines: string[] = [];
  const keep = (level: string, message: string, fields?: Record<string, unknown>): void => { lines.push(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })}\n`); };
  return {
    lines,
    info(message, fields, measured) { keep('info', message, fields); log.info(message, fields, measured); },
    warn(message, fields) { keep('warning', message, fields); log.warn(message, fields); },
    error(message, fields) { keep('error', message, fields); log.error(message, fields); },
    progress: (...args) => log.progress(...args),
  };
}

const command = z.looseObject({ Command: z.array(z.string()) });
const commands = z.looseObject({
  ContainerOverrides: command.optional(),
  NodeOverrides: z.looseObject({ NodePropertyOverrides: z.array(z.looseObject({ ContainerOverrides: command })) }).optional(),
});

/** URL of the run that a job belongs to, from its command line. */
function runOf(job: object): string {
  const parsed = commands.safeParse(job).data;
  const line = (parsed?.ContainerOverrides ?? parsed?.NodeOverrides?.NodePropertyOverrides[0]?.ContainerOverrides)?.Command ?? [];
  const run = line.includes('--run') ? line[line.indexOf('--run') + 1] : undefined;
  if (run === undefined) throw new StatesError('TaskInvalid', 'the command of the job names no --run');
  return run;
}

function checkStore(input: ActivityInput, store: string): void {
  const payload = 'Invoke' in input ? z.looseObject({ store: z.string().optional(), run: z.string().nullish() }).safeParse(input.Invoke.Payload).data : undefined;
  const where = 'SubmitJob' in input ? runOf(input.SubmitJob) : payload?.store ?? payload?.run ?? undefined;
  if (where !== undefined && !`${where.replace(/\/$/, '')}/`.startsWith(store)) throw new StatesError('StoreForeign', `this worker works for the store ${store} only, and not for ${where}; start one without --store or with that one`);
}

/** Processes of each variant: the threads of a process depend on them, and so do the bytes that it writes. */
async function variantsOf(run: string): Promise<readonly number[]> {
  try {
    const { run: { recipe } } = await openResolved(run);
    return recipe.variants.map(({ pretraining }) => pretraining.nodes);
  } catch (error) { throw functionError(error); }
}

interface JobLogs {
  readonly folder: string;
  /** Text with the places where the logs will be in place of those where they are written. */
  located(text: string): string;
  close(log: Log): Promise<void>;
}

/** Logs of a run in a folder are written in their place; those of a run in a bucket go there when the job ends. */
async function openLogs(run: string): Promise<JobLogs> {
  const url = logsUrl(run);
  if (url.startsWith('file:')) return { folder: fileURLToPath(url), located: (text) => text, close: async () => undefined };
  const folder = await mkdtemp(path.join(tmpdir(), 'genview-logs-'));
  return {
    folder,
    // Both are parts of JSON strings.
    located: (text) => text.replaceAll(JSON.stringify(folder + path.sep).slice(1, -1), JSON.stringify(url).slice(1, -1)),
    async close(log) {
      await keepLogs(url, await Promise.all((await readdir(folder)).map(async (name) => [name, await readFile(path.join(folder, name), 'utf8')] as const)), log);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function logsUrl(run: string): string {
  return `${run.replace(/\/?$/, '/')}logs/`;
}

/** Puts logs, behind what earlier attempts left under the same names. A log that cannot be kept is no reason to fail. */
async function keepLogs(url: string, logs: readonly (readonly [name: string, text: string])[], log: Log): Promise<void> {
  try {
    const store = openStore(url);
    for (const [name, text] of logs) {
      const before = await store.head(name) ? Buffer.from(await store.get(name)).toString() : '';
      await store.put(name, before + text, { contentType: 'application/jsonl' });
    }
  } catch (error) { log.warn(`the logs of a task could not be put into ${url}: ${(error as Error).message}`); }
}
