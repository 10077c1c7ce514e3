import type { Clients } from './clients.ts';
import { describeExecution, type Execution, type ExecutionDetails, listExecutions, runsOf } from './executions.ts';

/** How many executions, the newest ones, a command looks at. */
const remembered = 200;

/** Executions of each run, the newest first; runs in the order of their newest execution. */
export async function executionsByRun(clients: Clients, stateMachine: string): Promise<Map<string, Execution[]>> {
  const executions = await listExecutions(clients, stateMachine, remembered);
  const runs = await runsOf(clients, executions);
  const byRun = new Map<string, Execution[]>();
  for (const [i, execution] of executions.entries()) {
    // One that ended before its run had a name (a faulty recipe), or has only begun, stands for itself.
    const run = runs[i] ?? execution.name;
    const known = byRun.get(run);
    if (known) known.push(execution); else byRun.set(run, [execution]);
  }
  return byRun;
}

/** The newest execution of a run, with its error if it has one. */
export async function newestExecution(clients: Clients, stateMachine: string, runId: string): Promise<ExecutionDetails | undefined> {
  const execution = (await executionsByRun(clients, stateMachine)).get(runId)?.[0];
  return execution && describeExecution(clients, execution.arn);
}
