import type { Clients } from './clients.ts';
import type { Deployment } from './deployment.ts';
import { listExecutions, runsOf, stopExecution } from './executions.ts';
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
  const definition = await readDefinition(clients, stateMachine), heartbeatSeconds = heartbeatOfWorkers(definition);
  return {
    executions: running.length, jobs: await terminateJobs(clients, queuesIn(definition), runId, options),
    ...(heartbeatSeconds !== undefined && { heartbeatSeconds }),
  };
}
