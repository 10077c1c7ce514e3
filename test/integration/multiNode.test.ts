import { DescribeJobsCommand, ListJobsCommand, TerminateJobCommand, type JobDetail } from '@aws-sdk/client-batch';
import { CreateStateMachineCommand, DescribeExecutionCommand, paginateGetExecutionHistory, SFNClient, StartExecutionCommand, StopExecutionCommand, type DescribeExecutionOutput, type HistoryEvent as ServerEvent } from '@aws-sdk/client-sfn';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openClients } from '../../src/cloud/clients.ts';
import { silentLog } from '../../src/log.ts';
import type { Json, StateMachineDefinition } from '../../src/workflow/asl/definition.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { execute, type TaskHandler } from '../../src/workflow/asl/interpreter.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { localRefs } from '../../src/workflow/local.ts';
import { jobDefinitionNames } from '../../src/workflow/stages.ts';
import { endedWithExecution, executionTag } from '../../src/workflow/executionTag.ts';
import { stopJobs } from '../../src/workflow/stopJobs.ts';
import { VirtualClock } from '../workflow/virtualClock.ts';
import { installCloud, startCloud, type Cloud } from './support/cloud.ts';
import { installLocalStack, startLocalStack, type LocalStack } from './support/localstack.ts';
import { readable, type Readable } from './support/readableHistory.ts';
import { processesLeft, processesOf } from './support/program.ts';

const missing = installLocalStack() ?? installCloud();
if (missing) console.warn(`skipped: ${missing}`);

/** What Batch, or a function, answers the calls of a state, one after the other. */
type Answer = { readonly Return: Json } | { readonly Throw: { readonly Error: string; readonly Cause: string } };
type Answers = Readonly<Record<string, readonly Answer[]>>;

const run = (name: string): string => `s3://b/runs/${name}/`;
/** Everything but the job of several nodes. */
const around = (name: string): Answers => {
  const invoke = (Payload: Json): Answer[] => [{ Return: { StatusCode: 200, Payload } }];
  const job: Answer[] = [{ Return: { jobId: 'j', jobName: 'j' } }];
  return {
    ResolveRecipe: invoke({ run: run(name), runId: name, variants: [{ name: 'gen', nodes: 3 }] }),
    ShardDataset: invoke({ continuation: null, shards: 3 }),
    FitForeground: job, AnalyzeForeground: job, PlanViews: invoke({ train: 5, val: 1, quarantined: 0 }), GenerateViews: job,
    LinearProbe: job, NearestNeighbours: job, SemiSupervised: job, PairSimilarity: job,
    Report: invoke({ report: `${run(name)}report.html` }), RecordFailure: invoke(null),
  };
};

const submitted = (jobId: string): Answer => ({ Return: { jobId, jobName: 'r-pretrain-gen', jobArn: `arn:aws:batch:us-east-1:000000000000:job/${jobId}` } });
/** As DescribeJobs tells of a parent job: no container. */
const found = (jobId: string, status: string, more: Readonly<Record<string, Json>> = {}): Answer => ({
  Return: { jobs: [{ jobId, jobName: 'r-pretrain-gen', jobQueue: 'queue', jobDefinition: 'pretrain-nodes', startedAt: 1, status, nodeProperties: { numNodes: 2, mainNode: 0, nodeRangeProperties: [] }, tags: { [executionTag]: 'e' }, ...more }] },
});
const cases: Readonly<Record<string, Answers>> = {
  runs: { SubmitNodes: [submitted('a')], DescribeNodes: [found('a', 'RUNNABLE'), found('a', 'RUNNING'), found('a', 'RUNNING'), found('a', 'SUCCEEDED', { attempts: [{ startedAt: 1, stoppedAt: 2, statusReason: 'fine' }] })] },
  fails: { SubmitNodes: [submitted('a')], DescribeNodes: [found('a', 'FAILED', { statusReason: 'Essential container in task exited', attempts: [{ startedAt: 1, stoppedAt: 2, container: { exitCode: 1 } }] })] },
  failsWithoutReason: { SubmitNodes: [submitted('a')], DescribeNodes: [found('a', 'FAILED')] },
  wasEnded: { SubmitNodes: [submitted('a'), submitted('b')], DescribeNodes: [found('a', 'RUNNING'), found('a', 'FAILED', { statusReason: `genview cancel: ${endedWithExecution}` }), found('b', 'SUCCEEDED')] },
  isBusy: {
    SubmitNodes: [{ Throw: { Error: 'Batch.BatchException', Cause: 'Too Many Requests (Service: Batch, Status Code: 429)' } }, submitted('a')],
    DescribeNodes: [{ Throw: { Error: 'Batch.ServerException', Cause: 'no' } }, found('a', 'SUCCEEDED')],
  },
  isNotThereYet: { SubmitNodes: [submitted('a')], DescribeNodes: [{ Return: { jobs: [] } }, found('a', 'SUCCEEDED')] },
  isRefused: { SubmitNodes: [{ Throw: { Error: 'Batch.ClientException', Cause: 'no such queue' } }] },
};

/** Marks the nodes' processes among all others of the machine. */
const mark = `genview-multi-node-${process.pid}`;
/** The main node of the run `quick` ends after a second; the others stay. */
const script = `
case "$3$AWS_BATCH_JOB_NODE_INDEX" in *runs/quick/0) sleep 1; exit 0 ;; esac
exec node -e 'setTimeout(() => {}, 3600000)' ${mark} "$@"`;

describe.skipIf(missing)('a job of several nodes, as the workflow has it, on LocalStack', () => {
  let folder: string, cloud: Cloud, localStack: LocalStack, client: SFNClient, machine: string, definition: StateMachineDefinition;
  const before = { ...process.env };

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-multi-node-'));
    cloud = await startCloud('genview-multi-node', script);
    definition = buildWorkflow({
      ...localRefs,
      // Three processes, on two machines.
      processesPerNode: 2,
      jobDefinitions: Object.fromEntries(jobDefinitionNames.map((name) => [name, name === 'pretrain-nodes' ? 'stage-nodes' : 'stage'])) as typeof localRefs.jobDefinitions,
      queues: Object.fromEntries(jobDefinitionNames.map((name) => [name, cloud.queue])) as typeof localRefs.queues,
    });
    const file = path.join(folder, 'answers.json');
    writeFileSync(file, JSON.stringify(mockConfig({ ...cases, quick: {}, slow: {} })));
    localStack = await startLocalStack(path.join(folder, 'server'), {
      program: [fileURLToPath(new URL('support/localStackBatch.py', import.meta.url))],
      more: { SFN_MOCK_CONFIG: file, BATCH_ENDPOINT: cloud.env['AWS_ENDPOINT_URL'] },
    });
    Object.assign(process.env, localStack.env, { AWS_ENDPOINT_URL_BATCH: cloud.env['AWS_ENDPOINT_URL'] });
    client = new SFNClient({});
    machine = (await client.send(new CreateStateMachineCommand({ name: 'genview', definition: JSON.stringify(definition), roleArn: 'arn:aws:iam::000000000000:role/genview' }))).stateMachineArn!;
  }, 600_000);
  afterAll(async () => {
    for (const { jobId } of cloud ? await listed() : []) await cloud.batch.send(new TerminateJobCommand({ jobId: jobId!, reason: 'the test is over' }));
    await localStack?.stop();
    cloud?.stop();
    process.env = before;
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const until = async <T>(what: string, look: () => Promise<T | undefined> | T | undefined, seconds = 300): Promise<T> => {
    for (const end = Date.now() + 1000 * seconds; ; await sleep(100)) {
      const seen = await look();
      if (seen !== undefined && seen !== false) return seen;
      if (Date.now() > end) throw new Error(`waited in vain until ${what}\n${localStack.log().slice(-3000)}`);
    }
  };
  const input = { recipe: 's3://b/recipe.yaml', store: 's3://b/' };
  const start = async (name: string): Promise<string> => (await client.send(new StartExecutionCommand({ stateMachineArn: `${machine}#${name}`, name, input: JSON.stringify(input) }))).executionArn!;
  const ended = (executionArn: string): Promise<DescribeExecutionOutput> => until('the execution has ended', async () => {
    const execution = await client.send(new DescribeExecutionCommand({ executionArn }));
    return execution.status === 'RUNNING' ? undefined : execution;
  });
  const historyOf = async (executionArn: string): Promise<ServerEvent[]> => {
    const events: ServerEvent[] = [];
    for await (const page of paginateGetExecutionHistory({ client }, { executionArn })) events.push(...page.events ?? []);
    return events;
  };
  const described = async (...jobs: string[]): Promise<JobDetail[]> => (await cloud.batch.send(new DescribeJobsCommand({ jobs }))).jobs ?? [];
  const listed = async (): Promise<{ jobId?: string; jobName?: string; createdAt?: number }[]> =>
    (await cloud.batch.send(new ListJobsCommand({ jobQueue: cloud.queue, filters: [{ name: 'JOB_NAME', values: ['*'] }] }))).jobSummaryList ?? [];

  /** The same in our own interpreter. */
  async function interpret(name: string): Promise<{ outcome: unknown; events: HistoryEvent[] }> {
    const answers = { ...around('r'), ...cases[name] }, asked = new Map<string, number>(), events: HistoryEvent[] = [];
    const answer: TaskHandler = async (_argument, { state, ...context }) => {
      const count = asked.get(state) ?? 0, step = answers[state]![count];
      asked.set(state, count + 1);
      if (step === undefined) throw new Error(`${state} is called ${count + 1} times`);
      if ('Throw' in step) throw new StatesError(step.Throw.Error, step.Throw.Cause);
      const result = spelled(step.Return);
      if (Object.hasOwn(result as object, 'JobName') && state !== 'SubmitNodes') context.submitted(result);
      return result;
    };
    const resources = ['lambda:invoke', 'batch:submitJob.sync', 'aws-sdk:batch:submitJob', 'aws-sdk:batch:describeJobs'];
    const outcome = await execute(definition, input, { clock: new VirtualClock(), handlers: Object.fromEntries(resources.map((resource) => [`states:::${resource}`, answer])), onEvent: (event) => events.push(event) })
      .then((output) => ({ status: 'SUCCEEDED', output }), (error: StatesError) => ({ status: 'FAILED', error: error.error, cause: error.cause }));
    return { outcome, events };
  }

  it('goes through the same states and events as in our own interpreter, whatever Batch answers', async () => {
    const executions = await Promise.all(Object.keys(cases).map(async (name) => [name, await start(name)] as const));
    for (const [name, execution] of executions) {
      const { status, output, error, cause } = await ended(execution);
      const here = await interpret(name), server = readable(await historyOf(execution)), own = readable(here.events);
      expect({ status, ...(output !== undefined && { output: JSON.parse(output) as Json }), ...(error !== undefined && { error }), ...(cause !== undefined && { cause }) }, name).toEqual(here.outcome);
      expect(entered(server), name).toEqual(entered(own));
      expect(ofNodes(server), name).toEqual(ofNodes(own));
    }
    // What each came to.
    const outcomes = Object.fromEntries(await Promise.all(executions.map(async ([name, execution]) => { const { status, error, cause } = await ended(execution); return [name, { status, error, cause }]; }))) as Record<string, { status: string; error?: string; cause?: string }>;
    expect(Object.entries(outcomes).map(([name, { status, error }]) => [name, status, error])).toEqual([
      ['runs', 'SUCCEEDED', undefined], ['fails', 'FAILED', 'JobFailed'], ['failsWithoutReason', 'FAILED', 'JobFailed'], ['wasEnded', 'SUCCEEDED', undefined],
      ['isBusy', 'SUCCEEDED', undefined], ['isNotThereYet', 'SUCCEEDED', undefined], ['isRefused', 'FAILED', 'Batch.ClientException'],
    ]);
    expect(JSON.parse(outcomes['fails']!.cause!)).toEqual({
      JobId: 'a', JobName: 'r-pretrain-gen', JobQueue: 'queue', Status: 'FAILED', StatusReason: 'Essential container in task exited', Attempts: [{ StartedAt: 1, StoppedAt: 2, Container: { ExitCode: 1 } }],
    });
  });

  it('is submitted to Batch with its nodes, its command and its execution, and ends when Batch says so', async () => {
    const execution = await start('quick');
    expect((await ended(execution)).status).toBe('SUCCEEDED');
    const jobs = (await listed()).filter(({ jobName }) => jobName === 'quick-pretrain-gen');
    expect(jobs).toHaveLength(1);
    const [job, node] = await described(jobs[0]!.jobId!, `${jobs[0]!.jobId}#1`);
    expect(job).toMatchObject({ status: 'SUCCEEDED', tags: { [executionTag]: execution }, nodeProperties: { numNodes: 2 } });
    expect(node!.container).toMatchObject({ command: ['pretrain', '--run', run('quick'), '--variant', 'gen'], environment: expect.arrayContaining([{ name: 'GENVIEW_PROCESSES', value: '3' }]) as object[] });
  });

  it('is submitted again where it was ended with its execution, and is ended with it by stop-jobs', async () => {
    const execution = await start('slow');
    const mine = (): string[] => processesOf(`${mark} pretrain --run ${run('slow')}`);
    await until('two nodes run', () => mine().length === 2 || undefined);
    const [first] = (await listed()).filter(({ jobName }) => jobName === 'slow-pretrain-gen');
    // As an execution that is redriven finds it.
    await cloud.batch.send(new TerminateJobCommand({ jobId: first!.jobId!, reason: `${endedWithExecution}, ABORTED` }));
    const second = await until('it is submitted again', async () => (await listed()).find(({ jobName, jobId }) => jobName === 'slow-pretrain-gen' && jobId !== first!.jobId));
    await until('two nodes run again', () => mine().length === 2 || undefined);
    expect((await client.send(new DescribeExecutionCommand({ executionArn: execution }))).status).toBe('RUNNING');
    await client.send(new StopExecutionCommand({ executionArn: execution }));
    // LocalStack may call it FAILED.
    const { status } = await ended(execution);
    expect(status).toMatch(/^(ABORTED|FAILED)$/);
    // Step Functions leaves it running.
    expect(mine()).toHaveLength(2);
    expect(await stopJobs({ execution }, { clients: openClients(), queue: cloud.queue, log: silentLog, signal: new AbortController().signal, pause: 500 })).toEqual({ terminated: 1 });
    expect(await processesLeft(mark)).toEqual([]);
    await until('it has failed', async () => (await described(second.jobId!))[0]!.status === 'FAILED' || undefined);
    expect((await described(second.jobId!))[0]).toMatchObject({ statusReason: `${endedWithExecution}, ${status}`, tags: { [executionTag]: execution } });
  });
});

/** LocalStack's service mocking: answers of states by test case; states without any do what they do. */
function mockConfig(all: Readonly<Record<string, Answers>>): object {
  const responses: Record<string, object> = {}, TestCases: Record<string, Record<string, string>> = {};
  for (const [name, own] of Object.entries(all)) {
    TestCases[name] = {};
    for (const [state, answers] of Object.entries({ ...around(Object.hasOwn(cases, name) ? 'r' : name), ...own })) {
      const id = `${name}${state}`;
      responses[id] = Object.fromEntries(answers.map((answer, i) => [String(i), answer]));
      TestCases[name][state] = id;
    }
  }
  return { StateMachines: { genview: { TestCases } }, MockedResponses: responses };
}

/** Batch's own spelling of names -> that of the states; keys of tags are no names. */
function spelled(value: Json): Json {
  if (Array.isArray(value)) return value.map(spelled);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => {
    const name = key[0]!.toUpperCase() + key.slice(1);
    return [name, name === 'Tags' || name === 'Payload' ? part : spelled(part)];
  }));
}

/** States in the order in which they were entered, without those that have no order: they are branches beside others. */
function entered(events: readonly Readable[]): string[] {
  const beside = new Set(['PairSimilarity', 'LinearProbe', 'NearestNeighbours', 'SemiSupervised']);
  return events.flatMap(({ type, details }) => (type.endsWith('StateEntered') && !beside.has(details['name']!) ? [`${type} ${details['name']}`] : []));
}

/** Every event of the job's states, in order, with what was asked and answered. LocalStack tells twice of an evaluation that failed. */
function ofNodes(events: readonly Readable[]): unknown[] {
  const byId = new Map(events.map((event) => [event.id, event]));
  const stateOf = (event: Readable): string | undefined => {
    let at: Readable | undefined = event;
    while (at !== undefined && at.details['name'] === undefined) at = byId.get(at.previous);
    return at?.details['name'];
  };
  const states = new Set(['SubmitNodes', 'AwaitNodes', 'DescribeNodes', 'NodesEnded', 'NodesFailed', 'NodesSucceeded']);
  const own = events.filter((event) => !/^(Parallel|Map)/.test(event.type) && states.has(stateOf(event) ?? ''));
  return own.filter(({ type }, i) => type !== 'EvaluationFailed' || own[i - 1]!.type !== type).map((event) => {
    const { parameters, output, error, cause } = event.details;
    return {
      type: event.type, state: stateOf(event),
      ...(parameters !== undefined && { parameters: JSON.parse(parameters.replaceAll(/"(local:local|arn:aws:states:[^"]*:execution:[^"]*)"/g, '"the execution"')) as Json }),
      ...(output !== undefined && { output: JSON.parse(output) as Json }),
      ...(event.type === 'TaskFailed' && { error, cause }),
    };
  });
}
