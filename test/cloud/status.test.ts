import { expect, it } from 'vitest';
import { combine, describeJob, progressOfTasks } from '../../src/cloud/status.ts';
import { formatStatus } from '../../src/cli/showStatus.ts';

const execution = { arn: 'arn', name: 'birds-01234567-89abcdef', state: 'running', startedAt: '2026-01-02T03:00:00.000Z', input: '{}' } as const;
const stored = {
  runId: 'birds-01234567', run: 's3://b/runs/birds-01234567/', state: 'failed', failure: { error: 'Old', message: 'of an earlier execution', cause: '', time: 'then' },
  stages: [{ stage: 'analyze-foreground', done: 2, of: 100 }, { stage: 'pretrain', variant: 'genview', done: 0, of: 1 }, { stage: 'fit-foreground', done: 1, of: 1 }],
} as const;

it('a running execution counts more than what an earlier one left, and jobs stand beside their stages', () => {
  const jobs = new Map([
    ['analyze-foreground', { id: 'a', status: 'PENDING', summary: { RUNNING: 7, STARTING: 1, RUNNABLE: 88, SUCCEEDED: 3, FAILED: 1 } }],
    ['pretrain-genview', { id: 'p', status: 'RUNNABLE' }], ['fit-foreground', { id: 'f', status: 'RUNNING' }],
  ] as const);
  const status = combine('birds-01234567', stored, execution, jobs);
  expect(status).toMatchObject({ state: 'running', run: stored.run });
  expect(status.failure).toBeUndefined();
  expect(formatStatus(status, Date.parse('2026-01-02T04:30:00Z'))).toBe(`birds-01234567: running for 1 h 30 min (execution birds-01234567-89abcdef)
  analyze-foreground  2/100  8 running, 88 waiting, 1 failed
  pretrain genview    0/1    waiting for a machine
  fit-foreground      done`);
});

it('a failed execution says why, in the stage\'s own words where the store has them', () => {
  const failed = { ...execution, state: 'failed', error: 'States.TaskFailed', cause: '{"StatusReason":"disk full"}', stoppedAt: '2026-01-02T03:00:07.000Z' } as const;
  expect(combine('r', stored, failed, new Map()).failure).toMatchObject({ error: 'States.TaskFailed', message: 'disk full' });
  expect(combine('r', { ...stored, failure: { ...stored.failure, error: 'States.TaskFailed' } }, failed, new Map()).failure?.message).toBe('of an earlier execution');
  expect(formatStatus(combine('r', undefined, failed, new Map()))).toBe('r: failed after 7.0 s (execution birds-01234567-89abcdef)\n  failed: States.TaskFailed: disk full\n  nothing in the store yet');
});

it('without an execution the store is all there is', () => {
  expect(combine('r', stored, undefined, new Map())).toMatchObject({ state: 'failed', failure: stored.failure });
});

it('of a run that workers do, it says who is at each stage, and what waits for a worker', () => {
  const tasks = [{ label: 'analyze-foreground', worker: 'b' }, { label: 'analyze-foreground', worker: 'a' }, { label: 'analyze-foreground' }, { label: 'pretrain-genview' }];
  expect(formatStatus(combine('birds-01234567', stored, execution, progressOfTasks(tasks)), Date.parse('2026-01-02T04:30:00Z'))).toBe(`birds-01234567: running for 1 h 30 min (execution birds-01234567-89abcdef)
  analyze-foreground  2/100  running on a, b
  pretrain genview    0/1    waiting for a worker
  fit-foreground      done`);
  // Before there is a recipe in the store there are no stages to stand beside.
  expect(formatStatus(combine('birds-01234567', undefined, execution, progressOfTasks([{ label: 'resolve-recipe' }])), Date.parse('2026-01-02T03:00:07Z'))).toBe('birds-01234567: running for 7.0 s (execution birds-01234567-89abcdef)\n  resolve-recipe  0/1  waiting for a worker');
});

it.each([
  [{ status: 'RUNNING', workers: ['a', 'b', 'c', 'd'] }, 'running on 4 workers'],
  [{ status: 'RUNNING' }, 'running'], [{ status: 'SUBMITTED' }, 'waiting for a machine'], [{ status: 'SUCCEEDED' }, ''],
  [{ status: 'FAILED', reason: 'Host EC2 terminated' }, 'failed: Host EC2 terminated'],
] as const)('a job in words: %j', (job, words) => {
  expect(describeJob({ id: 'x', ...job })).toBe(words);
});
