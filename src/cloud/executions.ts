import type { ExecutionStatus, HistoryEvent as SdkHistoryEvent } from '@aws-sdk/client-sfn';
import { splitRunUrl } from '../stages/artefacts.ts';
import type { HistoryEvent } from '../workflow/asl/history.ts';
import type { WorkflowInput } from '../workflow/definition.ts';
import { type Clients, mapLimited } from './clients.ts';

export type ExecutionState = 'running' | 'done' | 'failed' | 'timed out' | 'cancelled';

/** One execution of the state machine. */
export interface Execution {
  readonly arn: string;
  readonly name: string;
  readonly state: ExecutionState;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly stoppedAt?: string;
}

export interface ExecutionDetails extends Execution {
  readonly input: string;
  /** URL of the run, once the execution has succeeded. */
  readonly run?: string;
  readonly error?: string;
  readonly cause?: string;
}

const states: Readonly<Record<ExecutionStatus, ExecutionState>> = {
  RUNNING: 'running', PENDING_REDRIVE: 'running', SUCCEEDED: 'done', FAILED: 'failed', TIMED_OUT: 'timed out', ABORTED: 'cancelled',
};

/** `<run>-<content of the dataset>`, and `-2`, `-3`, … of later executions of the same. */
const namePattern = /^(.+-[0-9a-f]{8})-[0-9a-f]{8}(?:-(\d+))?$/;

/**
 * Name of the `attempt`-th execution of a run on a dataset: equal recipes on equal images have equal names, and Step Functions
 * starts a name only once. At most 80 characters.
 * @param content hash of the dataset's listing, 8 hexadecimal digits
 * @param attempt from 1
 */
export function executionName(runId: string, content: string, attempt: number): string {
  return `${runId}-${content}${attempt === 1 ? '' : `-${attempt}`}`;
}

/** Run of an execution that `genview submit` named; undefined for others. */
export function runOfName(name: string): string | undefined {
  return namePattern.exec(name)?.[1];
}

/** Number of an execution among those of the same run and content, from 1. */
export function attemptOfName(name: string): number {
  return Number(namePattern.exec(name)?.[2] ?? 1);
}

/** Executions of the state machine, the newest first. @param limit @default 1000 @param running only those that run. @default false */
export async function listExecutions(clients: Clients, stateMachine: string, limit = 1000, running = false): Promise<Execution[]> {
  return clients.sfn(async (sdk, client) => {
    const executions: Execution[] = [];
    for await (const page of sdk.paginateListExecutions({ client }, { stateMachineArn: stateMachine, maxResults: Math.min(limit, 1000), ...(running && { statusFilter: 'RUNNING' }) })) {
      for (const { executionArn, name, status, startDate, stopDate } of page.executions ?? []) {
        executions.push({ arn: executionArn!, name: name!, state: states[status!], startedAt: startDate!.toISOString(), ...(stopDate && { stoppedAt: stopDate.toISOString() }) });
      }
      if (executions.length >= limit) break;
    }
    return executions.toSorted((a, b) => a.startedAt < b.startedAt ? 1 : -1).slice(0, limit);
  });
}

/** undefined when there is no such execution. */
export async function describeExecution(clients: Clients, arn: string): Promise<ExecutionDetails | undefined> {
  return clients.sfn(async (sdk, client) => {
    try {
      const { name, status, startDate, stopDate, input, output, error, cause } = await client.send(new sdk.DescribeExecutionCommand({ executionArn: arn }));
      const run = runOfOutput(output);
      return {
        arn, name: name!, state: states[status!], startedAt: startDate!.toISOString(), input: input ?? '',
        ...(stopDate && { stoppedAt: stopDate.toISOString() }), ...(run !== undefined && { run }),
        ...(error !== undefined && { error }), ...(cause !== undefined && { cause }),
      };
    } catch (failure) {
      if ((failure as Error).name === 'ExecutionDoesNotExist') return undefined;
      throw failure;
    }
  });
}

/** `arn:aws:states:<region>:<account>:stateMachine:<machine>` and a name -> ARN of the execution. */
export function executionArn(stateMachine: string, name: string): string {
  return `${stateMachine.replace(':stateMachine:', ':execution:')}:${name}`;
}

/**
 * Starts an execution. @returns its ARN; undefined when that name has been used before: by an execution that has ended, or
 * by a running one with another input. A running one with the same input is simply given.
 */
export async function startExecution(clients: Clients, stateMachine: string, name: string, input: WorkflowInput): Promise<string | undefined> {
  return clients.sfn(async (sdk, client) => {
    try {
      return (await client.send(new sdk.StartExecutionCommand({ stateMachineArn: stateMachine, name, input: JSON.stringify(input) }))).executionArn!;
    } catch (failure) {
      if ((failure as Error).name === 'ExecutionAlreadyExists') return undefined;
      throw failure;
    }
  });
}

export async function stopExecution(clients: Clients, arn: string, cause: string): Promise<void> {
  await clients.sfn((sdk, client) => client.send(new sdk.StopExecutionCommand({ executionArn: arn, error: 'Cancelled', cause })));
}

/** Continues a stopped or timed-out execution at the state where it was, under its own name. */
export async function redriveExecution(clients: Clients, arn: string): Promise<void> {
  await clients.sfn((sdk, client) => client.send(new sdk.RedriveExecutionCommand({ executionArn: arn })));
}

/** Events in the form of `history.jsonl`, the first one first. */
export async function* readHistory(clients: Clients, arn: string, limit = Infinity): AsyncGenerator<HistoryEvent> {
  let token: string | undefined, count = 0;
  do {
    const page = await clients.sfn((sdk, client) => client.send(new sdk.GetExecutionHistoryCommand({
      executionArn: arn, maxResults: Math.min(limit, 1000), includeExecutionData: true, ...(token !== undefined && { nextToken: token }),
    })));
    for (const event of page.events ?? []) {
      if (count++ >= limit) return;
      yield withIsoTime(event);
    }
    token = page.nextToken;
  } while (token !== undefined);
}

function withIsoTime(event: SdkHistoryEvent): HistoryEvent {
  return { ...event, timestamp: event.timestamp!.toISOString() } as unknown as HistoryEvent;
}

/** Runs of executions whose name does not tell: found once, they do not change. */
const runsByArn = new Map<string, string | undefined>();

/**
 * The run of each execution, where it has one yet: from its name, else (a trigger or a person started it) from the result of
 * its first state.
 */
export async function runsOf(clients: Clients, executions: readonly Execution[]): Promise<(string | undefined)[]> {
  return mapLimited(executions, 4, async ({ arn, name, state }) => {
    const known = runOfName(name);
    if (known !== undefined || runsByArn.has(arn)) return known ?? runsByArn.get(arn);
    const run = await runInHistory(clients, arn);
    if (run !== undefined || state !== 'running') runsByArn.set(arn, run);
    return run;
  });
}

async function runInHistory(clients: Clients, arn: string): Promise<string | undefined> {
  // The first function may have been called again and again.
  for await (const event of readHistory(clients, arn, 60)) {
    const { output } = (event.taskSucceededEventDetails ?? {}) as { output?: string };
    const run = output === undefined ? undefined : runOfOutput(output);
    if (run !== undefined) return splitRunUrl(run).runId;
  }
  return undefined;
}

/** `run` of an execution's output, or of a function's result in its history. */
function runOfOutput(output: string | undefined): string | undefined {
  if (output === undefined) return undefined;
  try {
    const { run, Payload } = JSON.parse(output) as { run?: unknown; Payload?: { run?: unknown } | null };
    const url = run ?? Payload?.run;
    return typeof url === 'string' && /(^|\/)runs\/[^/]+\/?$/.test(url) ? url : undefined;
  } catch { return undefined; }
}
