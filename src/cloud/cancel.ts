import { pause } from '../pause.ts';
import type { Clients } from './clients.ts';
import type { Deployment } from './deployment.ts';
import { describeExecution, type Execution, listExecutions, runsOf, stopExecution } from './executions.ts';
import { heartbeatOfWorkers, queuesIn, readDefinition } from './definition.ts';
import { terminateJobs, type TerminateOptions } from './jobs.ts';

export interface Cancelled {
  /** Executions that were stopped. */
  readonly executions: number;
  /** Jobs that were terminated. */
  readonly jobs: number;
  /** Where workers do the work: seconds within which they end it. */
  readonly heartbeatSeconds?: number;
}

/**
 * Stops every running execution of a run and terminates its jobs, also those that an execution stopped earlier left behind;
 * returns when none is left. Workers end what they do of it by themselves, at their next heartbeat. Can be repeated. Throws `JobsLeft`.
 */
export async function cancelRun(clients: Clients, { stateMachine }: Deployment, runId: string, options: TerminateOptions): Promise<Cancelled> {
  const executions = await listExecutions(clients, stateMachine, 10_000, true), runs = await runsOf(clients, executions);
  const running = executions.filter(({ name }, i) => (runs[i] ?? name) === runId);
  for (const { arn, name } of running) {
    await stopExecution(clients, arn, 'genview cancel');
    options.log.info(`stopped the execution ${name}`);
  }
  for (const execution of running) await awaitEnd(clients, execution, options);
  const definition = await readDefinition(clients, stateMachine), heartbeatSeconds = heartbeatOfWorkers(definition);
  return {
    executions: running.length, jobs: await terminateJobs(clients, queuesIn(definition), runId, options),
    ...(heartbeatSeconds !== undefined && { heartbeatSeconds }),
  };
}

/** Step Functions says that it stops an execution before it has, and until then that may still submit jobs. Half a minute at most: the jobs are looked for in any case. */
async function awaitEnd(clients: Clients, { arn, name }: Execution, { log, signal, pollEvery = 3000 }: TerminateOptions): Promise<void> {
  for (const deadline = performance.now() + 30_000; (await describeExecution(clients, arn))?.state === 'running';) {
    signal?.throwIfAborted();
    if (performance.now() > deadline) {
      log.warn(`the execution ${name} was told to stop and still runs; look at it with genview status`);
      return;
    }
    await pause(Math.min(pollEvery, 1000), signal);
  }
}
