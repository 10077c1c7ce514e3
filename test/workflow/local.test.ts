import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { failureOf, runLocal } from '../../src/workflow/local.ts';

let folder: string;
beforeEach(() => { folder = mkdtempSync(join(tmpdir(), 'local-')); });
afterEach(() => rmSync(folder, { recursive: true }));
const store = (): string => pathToFileURL(`${folder}/store/`).href;

describe('a local run', () => {
  it("throws the failing stage's own error, after recording the failure", async () => {
    const recipe = join(folder, 'bad.yaml');
    writeFileSync(recipe, 'name: bad\ndatasett: {}\n');
    const events: HistoryEvent[] = [];
    const run = runLocal({ recipe: pathToFileURL(recipe).href, store: store(), log: silentLog, signal: new AbortController().signal, onEvent: (event) => events.push(event) });
    await expect(run).rejects.toMatchObject({ name: 'RecipeInvalid', code: 'RecipeInvalid', exitCode: 2, message: expect.stringContaining('bad.yaml') as string });
    expect(events.filter(({ type }) => type === 'TaskStateEntered').map((event) => (event['stateEnteredEventDetails'] as { name: string }).name)).toEqual(['ResolveRecipe', 'RecordFailure']);
    expect(events.at(-1)).toMatchObject({ type: 'ExecutionFailed', executionFailedEventDetails: { error: 'RecipeInvalid' } });
  });

  it('says how to go on when it was stopped, and leaves nothing', async () => {
    const run = runLocal({ recipe: 'file:///none.yaml', store: store(), log: silentLog, signal: AbortSignal.abort(new Error('x')) });
    await expect(run).rejects.toMatchObject({ code: 'Stopped', exitCode: 130, message: 'stopped; run the same command again and it continues' });
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('the error of a failed job', () => {
  const failed = (StatusReason: string, ExitCode: number): StatesError => new StatesError('States.TaskFailed', JSON.stringify({
    JobName: 'r-pretrain-a', StatusReason, Container: { Command: ['pretrain', '--run', 'r', '--variant', 'a'], ExitCode, LogStreamName: '/s/logs/pretrain-a.log' },
  }));
  it('has the code, message and exit status of the program', () => {
    expect(failureOf(failed('PeerLost: rank 1: gone', 75))).toMatchObject({ code: 'PeerLost', message: 'rank 1: gone', exitCode: 75 });
  });
  it('points to the log of a defect or a crash', () => {
    expect(failureOf(failed('InternalError: TypeError: x is undefined', 1))).toMatchObject({ code: 'StageFailed', exitCode: 1, message: 'pretrain failed: TypeError: x is undefined; its log is /s/logs/pretrain-a.log' });
    expect(failureOf(failed('killed by SIGKILL', 137))).toMatchObject({ code: 'StageFailed', exitCode: 1, message: 'pretrain failed: killed by SIGKILL; its log is /s/logs/pretrain-a.log' });
  });
  it('keeps errors of the workflow itself', () => {
    expect(failureOf(new StatesError('States.DataLimitExceeded', 'too much'))).toMatchObject({ code: 'States.DataLimitExceeded', message: 'too much', exitCode: 1 });
  });
});
