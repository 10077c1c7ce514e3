import validate from 'asl-validator';
import jsonata from 'jsonata';
import { describe, expect, it } from 'vitest';
import { activityInput, blocks, taskReturned } from '../../src/workflow/activities.ts';
import type { Json } from '../../src/workflow/asl/definition.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { execute, type TaskHandler } from '../../src/workflow/asl/interpreter.ts';
import { buildWorkflow, type WorkflowRefs } from '../../src/workflow/definition.ts';
import { localRefs } from '../../src/workflow/local.ts';
import { jobDefinitionNames, lambdaNames } from '../../src/workflow/stages.ts';
import { VirtualClock } from './virtualClock.ts';

const arn = (name: string): string => `arn:aws:states:eu-west-1:123456789012:activity:genview-${name}`;
const record = <Name extends string>(names: readonly Name[]): Record<Name, string> => Object.fromEntries(names.map((name) => [name, arn(name)])) as Record<Name, string>;
const refs: WorkflowRefs = { ...localRefs, activities: { jobs: record(jobDefinitionNames), functions: record(lambdaNames) } };

/** Runs the workflow with workers that answer at once; `fail` may throw. */
async function run(shards: number, fail: (task: string, count: number) => void = () => undefined): Promise<{ output: Json; events: HistoryEvent[]; tasks: Record<string, Json[]>; clock: VirtualClock }> {
  const tasks: Record<string, Json[]> = {}, events: HistoryEvent[] = [];
  const payloads: Record<string, Json> = {
    'resolve-recipe': { run: 's3://b/runs/r/', runId: 'r', variants: [{ name: 'base', nodes: 1 }, { name: 'gen', nodes: 2 }] }, 'shard-dataset': { continuation: null, shards }, 'report': { report: 's3://b/runs/r/report.html' },
  };
  const handler = (name: string): TaskHandler => async (argument) => {
    expect(activityInput.safeParse(argument).error).toBeUndefined();
    (tasks[name] ??= []).push(argument);
    fail(name, tasks[name].length);
    return 'Invoke' in (argument as object) ? { StatusCode: 200, Payload: payloads[name] ?? null } : { Status: 'SUCCEEDED' };
  };
  const clock = new VirtualClock();
  const handlers = Object.fromEntries([...jobDefinitionNames, ...lambdaNames].map((name) => [arn(name).replace('arn:aws:', ''), handler(name)]));
  const output = await execute(buildWorkflow(refs), { recipe: 's3://b/recipe.yaml', store: 's3://b/' }, { clock, random: () => 1, handlers, onEvent: (event) => events.push(event) });
  return { output, events, tasks, clock };
}

describe('the workflow with activities', () => {
  it('asks workers for what Batch and Lambda would be asked for', async () => {
    const { output, tasks } = await run(3);
    expect(output).toEqual({ run: 's3://b/runs/r/', report: 's3://b/runs/r/report.html' });
    expect(Object.fromEntries(Object.entries(tasks).map(([name, list]) => [name, list.length]))).toEqual({
      'resolve-recipe': 1, 'shard-dataset': 1, 'fit-foreground': 1, 'analyze-foreground': 3, 'plan-views': 1, 'generate-views': 3, 'pair-similarity': 1,
      'pretrain': 1, 'pretrain-nodes': 1, 'linear-probe': 2, 'nearest-neighbours': 2, 'semi-supervised': 2, 'report': 1,
    });
    expect(tasks['resolve-recipe']).toEqual([{ HeartbeatSeconds: 60, Invoke: { FunctionName: 'resolve-recipe', Payload: { recipe: 's3://b/recipe.yaml', store: 's3://b/' } } }]);
    expect(tasks['analyze-foreground']![1]).toEqual({
      HeartbeatSeconds: 60, Children: { first: 1, count: 1 },
      SubmitJob: { JobName: 'r-analyze-foreground', JobDefinition: 'analyze-foreground', JobQueue: 'gpu', ArrayProperties: { Size: 3 }, ContainerOverrides: { Command: ['analyze-foreground', '--run', 's3://b/runs/r/'] } },
    });
    expect(tasks['pretrain-nodes']![0]).toMatchObject({ SubmitJob: { JobDefinition: 'pretrain-nodes', NodeOverrides: { NumNodes: 2 } } });
  });

  it('gives a lost or returned task to the next worker, and no other failure', async () => {
    const { tasks, clock } = await run(2, (task, count) => {
      if (task === 'pretrain' && count <= 2) throw new StatesError(count === 1 ? 'States.HeartbeatTimeout' : taskReturned, '');
      if (task === 'report' && count === 1) throw new StatesError('States.Timeout', '');
    });
    expect(tasks['pretrain']).toHaveLength(3);
    expect(tasks['report']).toHaveLength(2);
    // None of them is the task's fault.
    expect(clock.sleeps.filter((milliseconds) => milliseconds < 60_000)).toEqual([1000, 1000, 1000]);
    await expect(run(2, (task) => { if (task === 'pretrain') throw new StatesError('TaskFailed', 'x'); })).rejects.toMatchObject({ error: 'TaskFailed', cause: 'x' });
  });

  it('gives up on a task that loses 21 workers', async () => {
    let count = 0;
    await expect(run(2, (task) => { if (task === 'fit-foreground') { count++; throw new StatesError('States.HeartbeatTimeout', ''); } })).rejects.toMatchObject({ error: 'States.HeartbeatTimeout' });
    expect(count).toBe(21);
  });

  it('stays far below the 25,000 events of an execution with the most shards', async () => {
    const { events, tasks } = await run(10_000);
    expect(tasks['generate-views']).toHaveLength(250);
    expect(events.length).toBeLessThan(4000);
  });

  it('leaves functions without an activity to Lambda', () => {
    const states = buildWorkflow({ ...refs, activities: { ...refs.activities!, functions: { report: arn('report') }, heartbeatSeconds: 7 } }).States;
    expect(states['PlanViews']).toMatchObject({ Resource: 'arn:aws:states:::lambda:invoke', Arguments: { FunctionName: 'plan-views' } });
    expect(states['Report']).toMatchObject({ Resource: arn('report'), HeartbeatSeconds: 7, Arguments: { HeartbeatSeconds: 7 } });
  });

  it('is accepted by an independent validator', () => {
    expect(validate(buildWorkflow(refs))).toMatchObject({ isValid: true, errors: [] });
  });
});

describe('blocks of an array job', () => {
  it.each([2, 3, 255, 256, 257, 511, 5000, 10_000])('of %d children cover each once, in at most 256 parts', async (children) => {
    const parts = await jsonata(blocks('$n').slice(2, -2)).evaluate(undefined, { n: children }) as { first: number; count: number }[];
    expect(parts.length).toBeLessThanOrEqual(256);
    expect(parts.length).toBeGreaterThanOrEqual(Math.min(children, 128));
    let next = 0;
    for (const { first, count } of parts) { expect(first).toBe(next); expect(count).toBeGreaterThanOrEqual(1); next += count; }
    expect(next).toBe(children);
  });
});
