import type { Clients } from './clients.ts';
import type { Deployment } from './deployment.ts';
import { stopExecution } from './executions.ts';
import { queuesOf, terminateJobs, type TerminateOptions } from './jobs.ts';
import { executionsByRun } from './runs.ts';

/**
 * Stops every running execution of a run and terminates its jobs, also those that an execution stopped earlier left behind;
 * returns when none is left. Can be repeated. Throws `JobsLeft`.
 */
export async function cancelRun(clients: Clients, { stateMachine }: Deployment, runId: string, options: TerminateOptions): Promise<{ readonly executions: number; readonly jobs: number }> {
  const running = ((await executionsByRun(clients, stateMachine)).get(runId) ?? []).filter(({ state }) => state === 'running');
  for (const { arn, name } of running) {
    await stopExecution(clients, arn, 'genview cancel');
    options.log.info(`stopped the execution ${name}`);
  }
  return { executions: running.length, jobs: await terminateJobs(clients, await queuesOf(clients, stateMachine), runId, options) };
}
