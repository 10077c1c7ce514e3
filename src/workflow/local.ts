import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { ExitCode, GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { describeEngine } from '../runtime/device.ts';
import type { ResolveRecipeOutput } from '../stages/contract.ts';
import { StatesError } from './asl/errors.ts';
import type { HistoryEvent } from './asl/history.ts';
import { execute, type TaskHandler } from './asl/interpreter.ts';
import { LocalBatch } from './batch/localBatch.ts';
import { buildWorkflow, type WorkflowInput, type WorkflowOutput, type WorkflowRefs } from './definition.ts';
import { Display } from './display.ts';
import { callFunction, functionError, invocation, invocationResult } from './functions.ts';
import { HistoryFile } from './historyFile.ts';
import { jobDefinitionNames, lambdaNames, queueOf } from './stages.ts';

export interface LocalOptions extends WorkflowInput {
  readonly log: Log;
  /** Stops the workflow and every process it started. */
  readonly signal: AbortSignal;
  /** Cores to use. @default all of the machine */
  readonly cores?: number;
  readonly onEvent?: (event: HistoryEvent) => void;
}

/** Here names stand for themselves. */
export const localRefs: WorkflowRefs = {
  partition: 'aws',
  functions: Object.fromEntries(lambdaNames.map((name) => [name, name])) as WorkflowRefs['functions'],
  jobDefinitions: Object.fromEntries(jobDefinitionNames.map((name) => [name, name])) as WorkflowRefs['jobDefinitions'],
  queues: Object.fromEntries(jobDefinitionNames.map((name) => [name, queueOf(name)])) as WorkflowRefs['queues'],
  firstLookSeconds: 1,
};

/**
 * Runs the whole workflow on this machine: the state machine that AWS runs, with functions in this process and Batch
 * jobs as child processes. The same call on the same store continues where an earlier one ended, however it ended.
 *
 * Throws a GenViewError with the message and code of the stage that failed, or `Stopped` (exit status 130) once the
 * signal has ended everything; a defect in a stage that runs in this process is thrown as it is.
 */
export async function runLocal(options: LocalOptions): Promise<WorkflowOutput> {
  const name = `${new Date().toISOString().replace(/[:.]/g, '-')}-${process.pid}`;
  // Before anything is written: a device that was asked for and cannot be had ends the run here.
  const engine = await describeEngine();
  const display = new Display(options.log);
  const history = new HistoryFile(name, display);
  let resolved: ResolveRecipeOutput | undefined;
  /** Errors of functions by the cause they became: a cause is text, and the caller should get the error itself. */
  const thrown = new Map<string, unknown>();

  const invoke: TaskHandler = async (argument, { signal }) => {
    const { FunctionName, Payload } = invocation.parse(argument);
    await history.save();
    try {
      const payload = await callFunction(FunctionName, Payload, { signal, log: display, threads: options.cores ?? availableParallelism() });
      if (FunctionName === 'resolve-recipe') {
        resolved = payload as unknown as ResolveRecipeOutput;
        display.info(engine);
        history.open(resolved.run);
      }
      return invocationResult(payload);
    } catch (error) {
      const failure = functionError(error);
      thrown.set(failure.cause, error);
      throw failure;
    }
  };
  const batch = new LocalBatch({
    display,
    ...(options.cores !== undefined && { cores: options.cores }),
    variants: () => resolved?.variants.map(({ nodes }) => nodes) ?? [1],
    logFolder: () => (resolved?.run.startsWith('file:') ? fileURLToPath(`${resolved.run}logs/`) : undefined),
  });

  try {
    const output = await execute(buildWorkflow(localRefs), { recipe: options.recipe, store: options.store }, {
      name,
      signal: options.signal,
      handlers: { 'states:::lambda:invoke': invoke, ...batch.handlers },
      onEvent: (event) => { history.add(event); options.onEvent?.(event); },
    });
    return output as unknown as WorkflowOutput;
  } catch (error) {
    if (options.signal.aborted) throw new GenViewError('Stopped', 'stopped; run the same command again and it continues', { exitCode: 130, cause: error });
    throw error instanceof StatesError ? thrown.get(error.cause) ?? failureOf(error) : error;
  } finally {
    await batch.settled();
    await history.close();
    display.close();
  }
}

const jobDescription = z.object({
  JobName: z.string(),
  StatusReason: z.string(),
  Container: z.object({ Command: z.array(z.string()), ExitCode: z.number(), LogStreamName: z.string().optional() }),
});

/** The error of a failed job, from the description that is the execution's cause. */
export function failureOf(failure: StatesError): GenViewError {
  const job = jobDescription.safeParse(parse(failure.cause));
  if (!job.success) return new GenViewError(failure.error, failure.cause === '' ? 'the workflow failed' : failure.cause, { exitCode: ExitCode.Failure });
  const { StatusReason, Container } = job.data;
  const [, code, message] = /^([A-Z][A-Za-z0-9]*): ([\s\S]+)$/.exec(StatusReason) ?? [];
  if (code !== undefined && message !== undefined && code !== 'InternalError') {
    return new GenViewError(code, message, { exitCode: Container.ExitCode > 128 ? ExitCode.Failure : Container.ExitCode });
  }
  const log = Container.LogStreamName === undefined ? '' : `; its log is ${Container.LogStreamName}`;
  return new GenViewError('StageFailed', `${Container.Command[0]} failed: ${message ?? StatusReason}${log}`, { exitCode: ExitCode.Failure });
}

function parse(text: string): unknown {
  try { return JSON.parse(text) as unknown; } catch { return undefined; }
}
