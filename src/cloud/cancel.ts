import type { Clients } from './clients.ts';
import type { Deployment } from './deployment.ts';
import { listExecutions, runsOf, stopExecution } from './executions.ts';
import { queuesOf, terminateJobs, type TerminateOptions } from './jobs.ts';

/**
 * Stops every running execution of a run and terminates its jobs, also those that an execution stopped earlier left behind;
 * returns when none is left. Can be repeated. Throws `JobsLeft`.
 */
export async function cancelRun(clients: Clients, { stateMachine }: Deployment, runId: string, options: TerminateOptions): Promise<{ readonly executions: number; readonly jobs: number }> {
  const executions = await listExecutions(clients, stateMachine, 10_000, true), runs = await runsOf(clients, executions);
  const running = executions.filter(({ name }, i) => (runs[i] ?? name) === runId);
  for (const { arn, name } of running) {
    await stopExecution(clients, arn, 'genview cancel');
    options.log.info(`stopped the execution ${name}`);
  }
  return { executions: running.length, jobs: await terminateJobs(clients, await queuesOf(clients, stateMachine), runId, options) };
}
