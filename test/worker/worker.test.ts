import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Log } from '../../src/log.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { openStore, writeJson } from '../../src/storage/index.ts';
import { findActivities, parseActivities } from '../../src/worker/activities.ts';
import { isGone, openStepFunctions } from '../../src/worker/client.ts';
import { createTaskRunner, type RunTask } from '../../src/worker/task.ts';
import { runWorker, type WorkerOptions } from '../../src/worker/worker.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';
import { startActivityServer, type ActivityServer } from './activityServer.ts';

const program = fileURLToPath(new URL('../workflow/fixtures/program.ts', import.meta.url));
let server: ActivityServer, folder: string, run: string, said: string[], stop: AbortController;
const before = { ...process.env };
beforeEach(async () => {
  server = await startActivityServer(['genview-fit-foreground', 'genview-analyze-foreground', 'genview-record-failure', 'other']);
  Object.assign(process.env, { AWS_ENDPOINT_URL: server.url, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: '' });
  folder = mkdtempSync(path.join(tmpdir(), 'worker test '));
  process.env['FIXTURE_FOLDER'] = folder;
  const store = openStore(path.join(folder, 'store'));
  run = store.url('runs/r/');
  await writeJson(store, 'runs/r/recipe.json', { runId: 'r', store: store.root, recipe: parseRecipe('name: r\ndataset: { url: x }\n', 'r.yaml'), models: { encoder: 'e', generator: 'g' } });
  said = [];
  stop = new AbortController();
});
afterEach(async () => {
  stop.abort();
  await server.stop();
  process.env = { ...before };
  rmSync(folder, { recursive: true });
});

const log: Log = { info: (message) => said.push(message), warn: (message) => said.push(`warning: ${message}`), error: (message) => said.push(`error: ${message}`), progress: () => { throw new Error('not used'); } };
const until = async (test: () => unknown): Promise<void> => { for (let i = 0; !test(); i++) { if (i > 2000) throw new Error(`waited in vain\n${said.join('\n')}`); await sleep(25); } };
/** Lets programs end that wait to be told. */
const tell = (): void => writeFileSync(path.join(folder, 'go'), '');
const notes = (): string => (existsSync(path.join(folder, 'notes')) ? readFileSync(path.join(folder, 'notes'), 'utf8') : '');

const job = (HeartbeatSeconds = 60): object => ({ HeartbeatSeconds, SubmitJob: { JobName: 'r-fit-foreground', JobDefinition: 'fit-foreground', JobQueue: 'gpu', ContainerOverrides: { Command: ['fit-foreground', '--run', run] } } });
const block = (first: number, count: number): object => ({
  HeartbeatSeconds: 60, Children: { first, count },
  SubmitJob: { JobName: 'r-analyze-foreground', JobDefinition: 'analyze-foreground', JobQueue: 'gpu', ArrayProperties: { Size: 9 }, ContainerOverrides: { Command: ['analyze-foreground', '--run', run] } },
});

/** A worker whose jobs run the fixture program, which does what `behaviour` says. */
async function work(behaviour: string, options: Partial<WorkerOptions> = {}): Promise<{ ended: Promise<void> }> {
  process.env['FIXTURE_BEHAVIOUR'] = behaviour;
  const service = await openStepFunctions();
  const activities = await findActivities(service, 'genview');
  const runTask = createTaskRunner({ log, cores: 2, batch: { program: () => program, grace: 20_000 } });
  return { ended: runWorker({ ...service, activities, runTask, concurrency: 1, name: 'w', log, signal: stop.signal, pauses: [50, 100], ...options }) };
}

describe('a worker', () => {
  it("runs a job's program, sends heartbeats and the job's description", async () => {
    const { ended } = await work('until-told');
    server.add('genview-fit-foreground', 't1', job(1));
    await until(() => server.of('SendTaskHeartbeat').length >= 3);
    expect(server.of('SendTaskSuccess')).toEqual([]);
    tell();
    await until(() => server.of('SendTaskSuccess').length > 0);
    const [{ body }] = server.of('SendTaskSuccess') as [(typeof server.calls)[number]];
    expect(body['taskToken']).toBe('t1');
    expect(JSON.parse(body['output'] as string)).toMatchObject({ JobName: 'r-fit-foreground', Status: 'SUCCEEDED', Container: { Command: ['fit-foreground', '--run', run], ExitCode: 0 } });
    const taken = server.of('GetActivityTask').find(({ body: poll }) => String(poll['activityArn']).endsWith('fit-foreground'))!;
    expect(taken.body['workerName']).toBe('w');
    expect(server.of('SendTaskHeartbeat').every(({ body: beat }) => beat['taskToken'] === 't1')).toBe(true);
    expect(existsSync(path.join(folder, 'store', 'runs', 'r', 'logs', 'fit-foreground.log'))).toBe(true);
    stop.abort();
    server.endPolls();
    await ended;
  });

  it("reports a failed job under a name that is not reserved, with the job's description", async () => {
    await work('user-error');
    server.add('genview-fit-foreground', 't1', job());
    await until(() => server.of('SendTaskFailure').length > 0);
    const { error, cause } = server.of('SendTaskFailure')[0]!.body;
    expect(error).toBe('TaskFailed');
    expect(JSON.parse(cause as string)).toMatchObject({ Status: 'FAILED', StatusReason: 'DatasetMissing: there are no files at x: y; look there', Attempts: [{ Container: { ExitCode: 2 } }], Container: { Command: ['fit-foreground', '--run', run] } });
  });

  it('runs a block of the children of an array job', async () => {
    await work('succeed');
    server.add('genview-analyze-foreground', 't1', block(3, 2));
    await until(() => server.of('SendTaskSuccess').length > 0);
    expect(JSON.parse(server.of('SendTaskSuccess')[0]!.body['output'] as string)).toMatchObject({ ArrayProperties: { Size: 9, StatusSummary: { SUCCEEDED: 2, FAILED: 0 } } });
    const children = [0, 1, 2, 3, 4, 5, 6, 7, 8].filter((index) => existsSync(path.join(folder, `seen${index}-1.json`)));
    expect(children).toEqual([3, 4]);
    expect(JSON.parse(readFileSync(path.join(folder, 'seen4-1.json'), 'utf8'))).toMatchObject({ input: { run, shard: 4 }, threads: 1, env: { AWS_BATCH_JOB_ARRAY_INDEX: '4', AWS_BATCH_JOB_ARRAY_SIZE: '9' } });
  });

  it('calls functions, and reports what they throw', async () => {
    await work('succeed');
    server.add('genview-record-failure', 't1', { HeartbeatSeconds: 60, Invoke: { FunctionName: 'record-failure', Payload: { run, error: 'Broken', cause: 'why' } } });
    await until(() => server.of('SendTaskSuccess').length > 0);
    expect(JSON.parse(server.of('SendTaskSuccess')[0]!.body['output'] as string)).toEqual({ ExecutedVersion: '$LATEST', StatusCode: 200, Payload: { record: `${run}failure.json` } });
    server.add('genview-record-failure', 't2', { HeartbeatSeconds: 60, Invoke: { FunctionName: 'record-failure', Payload: { run } } });
    await until(() => server.of('SendTaskFailure').length > 0);
    const { error, cause } = server.of('SendTaskFailure')[0]!.body;
    expect(error).toBe('EventInvalid');
    expect(JSON.parse(cause as string)).toMatchObject({ errorType: 'EventInvalid', errorMessage: expect.stringContaining('record-failure') as string });
  });

  it('gives its task back when it is stopped, once the program has ended, and takes no more', async () => {
    const { ended } = await work('wait');
    server.add('genview-fit-foreground', 't1', job());
    await until(() => existsSync(path.join(folder, 'seen-1.json')));
    stop.abort();
    server.endPolls();
    await ended;
    expect(notes()).toContain('stopped');
    expect(server.of('SendTaskFailure').map(({ body }) => body)).toEqual([{ taskToken: 't1', error: 'TaskReturned', cause: 'worker w: stopped' }]);
    expect(server.of('SendTaskSuccess')).toEqual([]);
    const polls = server.of('GetActivityTask').length;
    await sleep(300);
    expect(server.of('GetActivityTask')).toHaveLength(polls);
  });

  it('gives back at once what comes to a poll that was under way when it was stopped', async () => {
    const { ended } = await work('succeed');
    await until(() => server.of('GetActivityTask').length >= 3);
    stop.abort();
    server.add('genview-fit-foreground', 't1', job());
    server.endPolls();
    await ended;
    expect(server.of('SendTaskFailure').map(({ body }) => [body['taskToken'], body['error']])).toEqual([['t1', 'TaskReturned']]);
    expect(existsSync(path.join(folder, 'seen-1.json'))).toBe(false);
  });

  it('gives back what comes while its hands are full and stay so, and asks again when one is free', async () => {
    await work('until-told', { hold: 0 });
    await until(() => server.of('GetActivityTask').length >= 3);
    server.add('genview-fit-foreground', 't1', job());
    await until(() => said.includes('fit-foreground started'));
    server.add('genview-analyze-foreground', 't2', block(0, 1));
    await until(() => server.of('SendTaskFailure').length > 0);
    expect(server.of('SendTaskFailure')[0]!.body).toEqual({ taskToken: 't2', error: 'TaskReturned', cause: 'worker w: has its hands full' });
    server.add('genview-analyze-foreground', 't3', block(0, 1));
    tell();
    await until(() => server.of('SendTaskSuccess').length >= 2);
    expect(server.of('SendTaskSuccess').map(({ body }) => body['taskToken'])).toEqual(['t1', 't3']);
  });

  it('keeps what comes while its hands are full when one is free soon', async () => {
    await work('until-told', { hold: 60_000 });
    await until(() => server.of('GetActivityTask').length >= 3);
    server.add('genview-fit-foreground', 't1', job());
    await until(() => said.includes('fit-foreground started'));
    server.add('genview-analyze-foreground', 't2', { ...block(0, 1), HeartbeatSeconds: 1 });
    // The one that waits is not given up meanwhile.
    await until(() => server.of('SendTaskHeartbeat').filter(({ body }) => body['taskToken'] === 't2').length >= 2);
    expect(said).not.toContain('analyze-foreground 1 shards started');
    tell();
    await until(() => server.of('SendTaskSuccess').length >= 2);
    expect(server.of('SendTaskSuccess').map(({ body }) => String(body['taskToken'])).toSorted()).toEqual(['t1', 't2']);
    expect(server.of('SendTaskFailure')).toEqual([]);
  });

  it('ends a task that the workflow no longer waits for, and reports nothing', async () => {
    await work('wait');
    server.add('genview-fit-foreground', 't1', job(3));
    await until(() => existsSync(path.join(folder, 'seen-1.json')));
    server.refuse('SendTaskHeartbeat', [400, 'TaskTimedOut']);
    await until(() => said.some((line) => line.includes('does not wait for it any more')));
    expect(notes()).toContain('stopped');
    expect([...server.of('SendTaskSuccess'), ...server.of('SendTaskFailure')]).toEqual([]);
  });

  it.each(['TaskTimedOut', 'TaskDoesNotExist', 'InvalidToken'])('takes %s for the word that a task is not waited for', (name) => {
    expect(isGone(Object.assign(new Error('x'), { name }))).toBe(true);
    expect(isGone(Object.assign(new Error(name), { name: 'ThrottlingException' }))).toBe(false);
  });

  it('repeats a report until the server takes it', async () => {
    server.refuse('SendTaskSuccess', ...Array.from({ length: 7 }, () => [500, 'InternalError'] as const));
    await work('succeed');
    server.add('genview-fit-foreground', 't1', job());
    await until(() => server.of('SendTaskSuccess').length >= 8);
    await sleep(300);
    expect(server.of('SendTaskSuccess')).toHaveLength(8);
  });

  it('ends with what is to be done when the server refuses it', async () => {
    server.refuse('GetActivityTask', [400, 'AccessDeniedException']);
    const { ended } = await work('succeed', { patience: 100 });
    await expect(ended).rejects.toMatchObject({ code: 'AccessDenied', message: expect.stringContaining('WorkerPolicy') as string });
  });
});

describe('a task', () => {
  const none = new AbortController().signal;
  const failure = (runTask: RunTask, input: unknown): Promise<StatesError> => runTask(input, none).then(() => { throw new Error('it succeeded'); }, (error: unknown) => { expect(error).toBeInstanceOf(StatesError); return error as StatesError; });

  it('that is not understood is refused', async () => {
    const runTask = createTaskRunner({ log });
    for (const input of [null, 'text', {}, { HeartbeatSeconds: 60 }, { ...job(), More: 1 }, { HeartbeatSeconds: 60, SubmitJob: { ContainerOverrides: { Command: ['x'] } } }, { HeartbeatSeconds: 60, Invoke: { FunctionName: 'rm', Payload: {} } }]) {
      expect((await failure(runTask, input)).error, JSON.stringify(input)).toBe('TaskInvalid');
    }
    expect((await failure(runTask, { ...job(), Children: { first: 0, count: 1 } })).error).toBe('Batch.ClientException');
    expect((await failure(runTask, block(8, 2))).error).toBe('Batch.ClientException');
  });

  it('of another store is refused', async () => {
    const runTask = createTaskRunner({ log, store: path.join(folder, 'stor') });
    expect((await failure(runTask, job())).error).toBe('StoreForeign');
    expect((await failure(runTask, { HeartbeatSeconds: 60, Invoke: { FunctionName: 'resolve-recipe', Payload: { recipe: 'x', store: 's3://bucket/' } } })).cause).toContain('s3://bucket/');
    const own = createTaskRunner({ log, store: path.join(folder, 'store') });
    expect(await own({ HeartbeatSeconds: 60, Invoke: { FunctionName: 'record-failure', Payload: { run, error: 'E', cause: 'c' } } }, none)).toMatchObject({ StatusCode: 200 });
  });

  it('of a function leaves what it said in the logs of its run, behind what earlier calls said', async () => {
    const call = (FunctionName: string, Payload: object): Promise<unknown> => createTaskRunner({ log })({ HeartbeatSeconds: 60, Invoke: { FunctionName, Payload } }, none);
    await call('record-failure', { run, error: 'E', cause: 'c' });
    await call('record-failure', { run, error: 'E', cause: 'c' });
    await expect(call('plan-views', { run })).rejects.toBeInstanceOf(StatesError);
    const lines = async (name: string): Promise<unknown[]> => Buffer.from(await openStore(run).get(`logs/${name}.log`)).toString().trimEnd().split('\n').map((line) => JSON.parse(line) as unknown);
    const done = { time: expect.stringMatching(/Z$/) as string, level: 'info', message: expect.stringMatching(/^record-failure done in \S+ s$/) as string };
    expect(await lines('record-failure')).toEqual([done, done]);
    expect(await lines('plan-views')).toEqual([{ ...done, level: 'error', message: expect.stringMatching(/^plan-views: .*plan\.json/) as string }]);
  });

  it('of a run that does not exist fails with the reason', async () => {
    const input = JSON.parse(JSON.stringify(job()).replace('/r/', '/absent/')) as object;
    expect((await failure(createTaskRunner({ log }), input)).cause).toContain('absent');
  });
});

describe('the activities of a deployment', () => {
  it('are found by name', async () => {
    const service = await openStepFunctions();
    const arn = (name: string): string => `arn:aws:states:us-east-1:000000000000:activity:genview-${name}`;
    expect(await findActivities(service, 'genview')).toEqual(['fit-foreground', 'analyze-foreground', 'record-failure'].map((name) => ({ name, arn: arn(name) })));
    expect(await findActivities(service, 'genview', ['record-failure', 'report'])).toEqual([{ name: 'record-failure', arn: arn('record-failure') }]);
    await expect(findActivities(service, 'genview', ['report'])).rejects.toMatchObject({ code: 'ActivitiesNotFound', message: expect.stringContaining('it has fit-foreground, analyze-foreground, record-failure') as string });
    await expect(findActivities(service, 'team')).rejects.toMatchObject({ code: 'ActivitiesNotFound', message: expect.stringContaining('cdk deploy -c target=localstack') as string });
  });

  it('can be chosen one by one and in groups', () => {
    expect(parseActivities('pretrain, report')).toEqual(['pretrain', 'report']);
    expect(parseActivities('functions,report')).toEqual(['resolve-recipe', 'shard-dataset', 'plan-views', 'report', 'record-failure']);
    expect(parseActivities('jobs')).toContain('pretrain-nodes');
    expect(() => parseActivities('pretrian')).toThrow(/there is no activity pretrian; there are .*pretrain/);
    expect(() => parseActivities(' ,')).toThrow('no activity is named');
  });

  it('cannot be asked for where there is no server', async () => {
    process.env['AWS_ENDPOINT_URL'] = 'http://127.0.0.1:9';
    await expect(findActivities(await openStepFunctions(), 'genview')).rejects.toMatchObject({ code: 'CloudUnreachable', exitCode: 75, message: expect.stringContaining('AWS_ENDPOINT_URL') as string });
  });
});
