import validate from 'asl-validator';
import { describe, expect, it } from 'vitest';
import type { Json, StateMachineDefinition, Template } from '../../src/workflow/asl/definition.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';
import { execute, type TaskContext, type TaskHandler } from '../../src/workflow/asl/interpreter.ts';
import { evaluateTemplate } from '../../src/workflow/asl/jsonata.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { defaultMachines } from '../../src/workflow/deployedMachines.ts';
import { submittedJobs } from '../../src/workflow/batch/submittedJobs.ts';
import { localRefs } from '../../src/workflow/local.ts';
import { localThreads } from '../../src/workflow/stages.ts';
import { VirtualClock } from './virtualClock.ts';

const input = { recipe: 's3://b/recipe.yaml', store: 's3://b/' };
type Variants = { name: string; nodes: number }[];

/** A state of the branch that has the multi-node job. */
function nodesState(definition: StateMachineDefinition, name: string): Record<string, Template> {
  let found: Record<string, Template> | undefined;
  JSON.stringify(definition, (key, value: unknown) => { if (key === name) found = value as Record<string, Template>; return value; });
  return found!;
}

/** Functions and jobs that answer as the stages do, and a list of what was asked of them. A job of several nodes takes some seconds. */
function world(variants: Variants, fail: Record<string, StatesError> = {}, seconds = 0) {
  const calls: string[] = [], jobs: Record<string, Json>[] = [], payloads: Record<string, Json> = {};
  const answers: Record<string, (payload: Record<string, Json>) => Json> = {
    'resolve-recipe': () => ({ run: 's3://b/runs/r/', runId: 'r', variants }),
    'shard-dataset': ({ continuation }) => (continuation === 'b' ? { continuation: null, shards: 3 } : { continuation: continuation === null ? 'a' : 'b', shards: 0 }),
    'plan-views': () => ({ train: 5, val: 1, quarantined: 0 }),
    'report': () => ({ report: 's3://b/runs/r/report.html' }),
    'record-failure': () => null,
  };
  const invoke: TaskHandler = async (argument) => {
    const { FunctionName, Payload } = argument as { FunctionName: string; Payload: Record<string, Json> };
    calls.push(FunctionName);
    payloads[FunctionName] = Payload;
    if (fail[FunctionName]) throw fail[FunctionName];
    return { StatusCode: 200, Payload: answers[FunctionName]!(Payload) };
  };
  const submit: TaskHandler = async (argument) => {
    const job = argument as Record<string, Json>;
    calls.push(job['JobDefinition'] as string);
    jobs.push(job);
    if (fail[job['JobDefinition'] as string]) throw fail[job['JobDefinition'] as string]!;
    return { JobId: 'j', Status: 'SUCCEEDED' };
  };
  const clock = new VirtualClock();
  const nodes = submittedJobs(async (argument, context) => {
    context.submitted({ JobId: 'n', JobName: 'n' });
    const description = await submit(argument, context as TaskContext) as object;
    if (seconds > 0) await clock.sleep(seconds * 1000, context.signal);
    return { ...description, JobId: 'n' };
  });
  const handlers: Readonly<Record<string, TaskHandler>> = { 'states:::lambda:invoke': invoke, 'states:::batch:submitJob.sync': submit, ...nodes.handlers };
  const run = (definition = buildWorkflow(localRefs), others: Record<string, TaskHandler> = {}): Promise<Json> => execute(definition, input, { clock, random: () => 1, handlers: { ...handlers, ...others } });
  return { run, calls, jobs, payloads, clock, handlers };
}

describe('the workflow', () => {
  it('goes from the recipe to the report, listing the dataset until it is complete', async () => {
    const { run, calls, payloads } = world([{ name: 'base', nodes: 1 }]);
    expect(await run()).toEqual({ run: 's3://b/runs/r/', report: 's3://b/runs/r/report.html' });
    expect(calls.slice(0, 8)).toEqual(['resolve-recipe', 'shard-dataset', 'shard-dataset', 'shard-dataset', 'fit-foreground', 'analyze-foreground', 'plan-views', 'generate-views']);
    expect(calls.slice(8, -1).toSorted()).toEqual(['linear-probe', 'nearest-neighbours', 'pair-similarity', 'pretrain', 'semi-supervised']);
    expect(calls.at(-1)).toBe('report');
    expect(payloads).toMatchObject({ 'resolve-recipe': input, 'shard-dataset': { run: 's3://b/runs/r/', continuation: 'b' }, 'plan-views': { run: 's3://b/runs/r/' }, 'report': { run: 's3://b/runs/r/' } });
  });

  it('submits array jobs of as many children as there are shards, and multi-node jobs for variants of several nodes', async () => {
    const { run, jobs } = world([{ name: 'base', nodes: 1 }, { name: 'gen', nodes: 2 }]);
    await run();
    const job = (name: string): object => jobs.find(({ JobName }) => JobName === name)!;
    expect(job('r-analyze-foreground')).toEqual({ JobName: 'r-analyze-foreground', JobDefinition: 'analyze-foreground', JobQueue: 'gpu', ArrayProperties: { Size: 3 }, ContainerOverrides: { Command: ['analyze-foreground', '--run', 's3://b/runs/r/'] } });
    expect(job('r-pretrain-base')).toEqual({ JobName: 'r-pretrain-base', JobDefinition: 'pretrain', JobQueue: 'gpu', ContainerOverrides: { Command: ['pretrain', '--run', 's3://b/runs/r/', '--variant', 'base'] } });
    expect(job('r-pretrain-gen')).toEqual({ JobName: 'r-pretrain-gen', JobDefinition: 'pretrain-nodes', JobQueue: 'training', NodeOverrides: { NumNodes: 2, NodePropertyOverrides: [{ TargetNodes: '0:', ContainerOverrides: { Command: ['pretrain', '--run', 's3://b/runs/r/', '--variant', 'gen'] } }] }, Tags: { 'genview:execution': 'local:local' } });
    expect(jobs.map(({ JobName }) => JobName)).toHaveLength(1 + 1 + 1 + 2 * 4 + 1);
    expect(jobs.every(({ JobName }) => /^[A-Za-z0-9_-]{1,128}$/.test(JobName as string))).toBe(true);
  });

  it('tells the first function what machines there are for multi-node jobs, where that is known', async () => {
    const { run, payloads } = world([{ name: 'base', nodes: 1 }]);
    await run();
    expect(payloads['resolve-recipe']).toEqual(input);
    await run(buildWorkflow({ ...localRefs, machines: { ...defaultMachines, training: { instanceType: 'g5.12xlarge', nodes: 2, gpus: 4 } } }));
    expect(payloads['resolve-recipe']).toEqual({ ...input, training: { nodes: 2, gpus: 4 } });
  });

  it('records any failure and then fails with the error and cause of the stage', async () => {
    for (const stage of ['shard-dataset', 'fit-foreground', 'plan-views', 'pretrain', 'semi-supervised', 'pair-similarity', 'report']) {
      const { run, calls, payloads } = world([{ name: 'base', nodes: 1 }], { [stage]: new StatesError('Broken', `{"in":"${stage}"}`) });
      await expect(run()).rejects.toMatchObject({ error: 'Broken', cause: `{"in":"${stage}"}` });
      expect(calls.at(-1)).toBe('record-failure');
      expect(payloads['record-failure']).toEqual({ run: 's3://b/runs/r/', error: 'Broken', cause: `{"in":"${stage}"}` });
    }
  });

  it('records a failure without a run, and survives a failure to record', async () => {
    const first = world([], { 'resolve-recipe': new StatesError('RecipeInvalid', 'x') });
    await expect(first.run()).rejects.toMatchObject({ error: 'RecipeInvalid' });
    expect(first.payloads['record-failure']).toEqual({ run: null, error: 'RecipeInvalid', cause: 'x' });
    const both = world([], { 'resolve-recipe': new StatesError('RecipeInvalid', 'x'), 'record-failure': new StatesError('Full', 'disk') });
    await expect(both.run()).rejects.toMatchObject({ error: 'RecipeInvalid', cause: 'x' });
  });

  it('submits again with backoff when Batch is busy, but never repeats a job that failed', async () => {
    const busy = world([], { 'fit-foreground': new StatesError('Batch.TooManyRequestsException', '') });
    await expect(busy.run()).rejects.toMatchObject({ error: 'Batch.TooManyRequestsException' });
    // The first is the limit of the whole execution.
    const [limit, ...pauses] = busy.clock.sleeps;
    expect(limit).toBe(60 * 86_400_000);
    expect(pauses).toEqual([5, 10, 20, 40, 80, 160, 300, 300].map((seconds) => seconds * 1000));
    const failed = world([], { 'fit-foreground': new StatesError('States.TaskFailed', '') });
    await expect(failed.run()).rejects.toMatchObject({ error: 'States.TaskFailed' });
    expect(failed.clock.sleeps).toEqual([limit]);
  });

  describe('a job of several nodes', () => {
    const several: Variants = [{ name: 'gen', nodes: 2 }];
    /** All pauses but the limit of the execution. */
    const pauses = (sleeps: readonly number[]): number[] => sleeps.filter((milliseconds) => milliseconds !== 60 * 86_400_000).map((milliseconds) => milliseconds / 1000);

    it('is looked at less and less often, at least hourly', async () => {
      // Two days; the second of the pauses is the job itself.
      const { run, clock } = world(several, {}, 2 * 86_400);
      await run(buildWorkflow({ ...localRefs, firstLookSeconds: 30 }));
      const [first, looks] = [pauses(clock.sleeps).slice(0, 2), pauses(clock.sleeps).filter((pause) => pause !== 2 * 86_400)];
      expect(first.toSorted((a, b) => a - b)).toEqual([30, 2 * 86_400]);
      expect(looks.slice(0, 5)).toEqual([30, 32, 34, 35, 37]);
      expect(looks.at(-1)).toBe(3600);
      expect(looks.every((pause, i) => pause === Math.min(3600, Math.ceil(30 * 1.05 ** i)))).toBe(true);
      // Nine events each; 25,000 are the limit of an execution.
      expect(looks.length).toBeLessThan(150);
    });

    it('is looked at as often as whoever runs it asks for', async () => {
      const { run, clock } = world(several, {}, 8 * 3600);
      await run(buildWorkflow({ ...localRefs, longestLookSeconds: 30 }));
      const looks = pauses(clock.sleeps).filter((pause) => pause !== 8 * 3600);
      expect(looks.at(-1)).toBe(30);
      expect(looks.reduce((sum, pause) => sum + pause, 0)).toBeLessThanOrEqual(8 * 3600 + 30);
    });

    it('leaves room in the history for others, however many variants take two weeks', async () => {
      for (const variants of [2, 6, 10, 16, 30, 60]) {
        const { run, handlers } = world(Array.from({ length: variants }, (_, i) => ({ name: `gen${i}`, nodes: 2 })), {}, 14 * 86_400);
        let looks = 0;
        const counted: TaskHandler = (argument, context) => { looks++; return handlers['states:::aws-sdk:batch:describeJobs']!(argument, context); };
        await run(buildWorkflow({ ...localRefs, firstLookSeconds: 30 }), { 'states:::aws-sdk:batch:describeJobs': counted });
        // A look's events, the other events of a variant, and those of the run.
        expect(9 * looks + 60 * variants + 200, `${variants} variants`).toBeLessThan(25_000);
      }
    });

    it('is looked at soon after a redrive, however rarely before', async () => {
      const { Seconds } = nodesState(buildWorkflow({ ...localRefs, firstLookSeconds: 30 }), 'AwaitNodes');
      const seconds = (Execution: Record<string, Json>, redrives: number): Promise<Json> => evaluateTemplate(Seconds!, { looks: 90, redrives, variants: several, states: { context: { Execution } } });
      const usual = Math.ceil(30 * 1.05 ** 90);
      expect(await Promise.all([seconds({}, 0), seconds({ RedriveCount: 0 }, 0), seconds({ RedriveCount: 1 }, 0), seconds({ RedriveCount: 1 }, 1)])).toEqual([usual, usual, 30, usual]);
    });

    it('fails the workflow with its description, once', async () => {
      const { run, calls, payloads } = world(several, { 'pretrain-nodes': new StatesError('States.TaskFailed', JSON.stringify({ JobId: 'n', JobName: 'r-pretrain-gen', Status: 'FAILED', StatusReason: 'out of memory', NodeProperties: { NumNodes: 2 } })) });
      const cause = JSON.stringify({ JobId: 'n', JobName: 'r-pretrain-gen', Status: 'FAILED', StatusReason: 'out of memory' });
      await expect(run()).rejects.toMatchObject({ error: 'JobFailed', cause });
      expect(calls.filter((name) => name === 'pretrain-nodes')).toHaveLength(1);
      expect(payloads['record-failure']).toEqual({ run: 's3://b/runs/r/', error: 'JobFailed', cause });
    });

    it('is submitted again where it was ended because the execution was, which then goes on', async () => {
      const fail: Record<string, StatesError> = {};
      const { run, calls } = world(several, fail);
      fail['pretrain-nodes'] = new StatesError('States.TaskFailed', JSON.stringify({ JobId: 'n', Status: 'FAILED', StatusReason: 'ended with its execution, ABORTED' }));
      const ended = run();
      setTimeout(() => { delete fail['pretrain-nodes']; }, 50);
      expect(await ended).toMatchObject({ run: 's3://b/runs/r/' });
      expect(calls.filter((name) => name === 'pretrain-nodes').length).toBeGreaterThan(1);
    });

    it('is not lost by a look that fails, and fails the workflow when Batch does not know it', async () => {
      const { run, clock, handlers } = world(several);
      let broken = 3;
      const describe_ = handlers['states:::aws-sdk:batch:describeJobs']!;
      const flaky: TaskHandler = async (argument, context) => { if (broken-- > 0) throw new StatesError('Batch.BatchException', 'Too Many Requests'); return describe_(argument, context); };
      expect(await run(buildWorkflow(localRefs), { 'states:::aws-sdk:batch:describeJobs': flaky })).toMatchObject({ run: 's3://b/runs/r/' });
      expect(pauses(clock.sleeps)).toEqual([1, 5, 10, 20]);
      await expect(run(buildWorkflow(localRefs), { 'states:::aws-sdk:batch:describeJobs': async () => ({ Jobs: [] }) })).rejects.toMatchObject({ error: 'States.QueryEvaluationError' });
    });

    it('has as many machines as its processes need, and tells them how many processes there are', async () => {
      const { run, jobs } = world([{ name: 'gen', nodes: 6 }]);
      await run(buildWorkflow({ ...localRefs, processesPerNode: 4 }));
      expect(jobs.find(({ JobDefinition }) => JobDefinition === 'pretrain-nodes')).toMatchObject({ NodeOverrides: { NumNodes: 2, NodePropertyOverrides: [{ ContainerOverrides: { Environment: [{ Name: 'GENVIEW_PROCESSES', Value: '6' }] } }] } });
    });

    it('carries the execution that it belongs to, and its submission is repeated when Batch is busy', async () => {
      const { run, jobs, clock, handlers } = world(several);
      let busy = 2;
      const submit = handlers['states:::aws-sdk:batch:submitJob']!;
      await run(buildWorkflow(localRefs), { 'states:::aws-sdk:batch:submitJob': async (argument, context) => { if (busy-- > 0) throw new StatesError('Batch.BatchException', 'Too Many Requests'); return submit(argument, context); } });
      expect(jobs.find(({ JobDefinition }) => JobDefinition === 'pretrain-nodes')!['Tags']).toEqual({ 'genview:execution': 'local:local' });
      expect(pauses(clock.sleeps).slice(0, 2)).toEqual([5, 10]);
    });
  });

  it('waits for a function that nobody has called for weeks, up to five minutes', async () => {
    for (const error of ['Lambda.CodeArtifactUserPendingException', 'Lambda.ResourceConflictException', 'Lambda.ResourceNotReadyException']) {
      const asleep = world([], { 'resolve-recipe': new StatesError(error, '') });
      await expect(asleep.run()).rejects.toMatchObject({ error });
      expect(asleep.clock.sleeps.filter((milliseconds) => milliseconds < 1e6)).toEqual([5, 10, 20, 40, 60, 60, 60, 60].map((seconds) => 1000 * seconds));
      expect(asleep.calls.filter((name) => name === 'resolve-recipe')).toHaveLength(9);
    }
  });

  it('calls a function again that Lambda ended, three times', async () => {
    for (const error of ['Sandbox.Timedout', 'FunctionTimedOut', 'Lambda.Unknown']) {
      const ended = world([], { 'shard-dataset': new StatesError(error, '') });
      await expect(ended.run()).rejects.toMatchObject({ error });
      expect(ended.clock.sleeps.filter((milliseconds) => milliseconds < 1e6)).toHaveLength(3);
      expect(ended.calls.filter((name) => name === 'shard-dataset')).toHaveLength(4);
    }
  });

  it('is accepted by an independent validator', () => {
    expect(validate(buildWorkflow(localRefs))).toMatchObject({ isValid: true, errors: [] });
  });
});

describe('threads of local processes', () => {
  it.each<[Parameters<typeof localThreads>, number]>([
    [['fit-foreground', 2, [1, 1]], 2],
    [['analyze-foreground', 8, [1]], 1],
    [['pair-similarity', 8, [1]], 1],
    [['pretrain', 2, [1]], 2],
    [['pretrain', 2, [1, 1]], 1],
    [['pretrain', 8, [1, 1]], 4],
    [['pretrain', 8, [2, 1, 1]], 2],
    [['pretrain', 2, [1, 1, 1]], 1],
    [['linear-probe', 12, [1, 1]], 2],
    [['semi-supervised', 2, [1]], 1],
  ])('%j -> %d', ([program, cores, variants], threads) => {
    expect(localThreads(program, cores, variants)).toBe(threads);
  });
});
