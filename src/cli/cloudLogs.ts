import type { Clients } from '../cloud/clients.ts';
import { functionsOfWorkers, queuesIn, readDefinition } from '../cloud/definition.ts';
import type { Deployment } from '../cloud/deployment.ts';
import { readHistory } from '../cloud/executions.ts';
import { jobsOfRun } from '../cloud/jobs.ts';
import { logStreamsOf, readFunctionLog, readLogStreams, refuseLog } from '../cloud/logs.ts';
import { newestExecution } from '../cloud/runs.ts';
import { GenViewError } from '../errors.ts';
import { openStore } from '../storage/index.ts';
import { lambdaNames } from '../workflow/stages.ts';
import { printEvent, printHistory, printStageLogs, readableLine } from './runLogs.ts';

/** Events of the run's newest execution; of a run that was made without one (`genview run` into the bucket), what it left in the store. */
export async function printCloudHistory(clients: Clients, { stateMachine, store }: Deployment, runId: string, json: boolean): Promise<void> {
  const execution = await newestExecution(clients, stateMachine, runId);
  if (execution !== undefined) {
    for await (const event of readHistory(clients, execution.arn)) printEvent(event, json);
    return;
  }
  const root = openStore(store), prefix = `runs/${runId}/`;
  if (!await root.head(`${prefix}history.jsonl`)) throw new GenViewError('HistoryNotFound', `${runId} has no execution that Step Functions still knows (it forgets them 90 days after their end)`);
  await printHistory(root, prefix, json);
}

/**
 * Logs of a stage's newest jobs, each process under its name, earlier attempts first; of a function its lines that name the run.
 * Where workers do the work, what they left in the store.
 */
export async function printCloudLogs(clients: Clients, { stateMachine, store }: Deployment, runId: string, stage: string, json: boolean): Promise<void> {
  const definition = await readDefinition(clients, stateMachine), queues = queuesIn(definition);
  const isFunction = (lambdaNames as readonly string[]).includes(stage);
  if (isFunction ? functionsOfWorkers(definition).has(stage) : queues.length === 0) {
    await printStageLogs(openStore(store), `runs/${runId}/`, stage, json, '; workers put the log of a job or function there when it has ended');
    return;
  }
  if (isFunction) {
    const execution = await newestExecution(clients, stateMachine, runId);
    const lines = await readFunctionLog(clients, stateMachine, stage, runId, execution?.startedAt ?? new Date(0).toISOString());
    for (const line of lines) process.stdout.write(`${json ? line : readableLine(line)}\n`);
    return;
  }
  const jobs = await jobsOfRun(clients, queues, runId);
  const streams = await logStreamsOf(clients, jobs, stage);
  if (streams.length === 0) refuseLog(stage, jobs, runId);
  const attempts = new Map<string, number>();
  for (const { name, attempt } of streams) attempts.set(name, attempt);
  for await (const { from: { name, attempt }, lines } of readLogStreams(clients, streams)) {
    if (!json) process.stdout.write(`==> ${name}${attempts.get(name)! > 1 ? ` (attempt ${attempt})` : ''}\n`);
    for (const line of lines) process.stdout.write(`${json ? line : readableLine(line)}\n`);
  }
}
