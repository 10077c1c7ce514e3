import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { GenViewError } from '../../src/errors.ts';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

const variables = { _X_AMZN_TRACE_ID: 'Root=1-6926-abc;Parent=1;Sampled=1', AWS_LAMBDA_FUNCTION_NAME: 'genview-plan-views', AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand' };
const before = { ...process.env };
let written: string[] = [];
const standardOutput = process.stdout.write.bind(process.stdout), standardError = process.stderr.write.bind(process.stderr);
beforeEach(() => {
  Object.assign(process.env, variables);
  written = [];
  const keep = ((text: string | Uint8Array) => { written.push(...String(text).split('\n').filter((line) => line.startsWith('{'))); return true; }) as typeof process.stdout.write;
  process.stdout.write = keep;
  process.stderr.write = keep;
});
afterEach(() => { process.stdout.write = standardOutput; process.stderr.write = standardError; process.env = { ...before }; });
const lines = (): Record<string, unknown>[] => written.map((line) => JSON.parse(line) as Record<string, unknown>);

const event = z.strictObject({ run: z.string().min(1), count: z.int().optional() });

describe('the log of a function', () => {
  it('has a JSON object a line, with stage, run, request, cold start and X-Ray trace', async () => {
    const handler = lambdaHandler('plan-views', event, async () => async (_input, { log }) => {
      log.info('three of them', { images: 3 });
      log.warn('careful');
      log.progress('planning', 10, 'shards').done();
      return {};
    });
    await handler({ run: 's3://b/runs/r/' }, { awsRequestId: 'first' });
    await handler({ run: 's3://b/runs/other/' }, { awsRequestId: 'second' });
    const common = { stage: 'plan-views', function: 'genview-plan-views', trace: '1-6926-abc' };
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string;
    expect(lines().slice(0, 4)).toEqual([
      { ...common, time, level: 'info', message: 'three of them', images: 3, run: 's3://b/runs/r/', request: 'first', coldStart: true },
      { ...common, time, level: 'warning', message: 'careful', run: 's3://b/runs/r/', request: 'first', coldStart: true },
      { ...common, time, level: 'info', message: 'planning 0/10 shards', progress: 0, total: 10, run: 's3://b/runs/r/', request: 'first', coldStart: true },
      { ...common, time, level: 'info', message: 'three of them', images: 3, run: 's3://b/runs/other/', request: 'second', coldStart: false },
    ]);
  });

  it('ends with the error of a call that fails: its code, or its stack where it is a defect', async () => {
    const failing = (error: Error) => lambdaHandler('plan-views', event, async () => async () => { throw error; });
    await expect(failing(new GenViewError('RunNotFound', 'no run at x'))({ run: 'x' })).rejects.toThrow('no run at x');
    await expect(failing(new TypeError('undefined is no function'))({ run: 'x' })).rejects.toThrow(TypeError);
    await expect(failing(new Error('never reached'))({ run: '', count: 'two', more: 1 })).rejects.toMatchObject({ code: 'EventInvalid' });
    expect(lines()).toMatchObject([
      { level: 'error', message: 'no run at x', code: 'RunNotFound', run: 'x' },
      { level: 'error', message: 'undefined is no function', code: 'InternalError', stack: expect.stringContaining('log.test.ts') as string },
      { level: 'error', message: expect.stringMatching(/^plan-views: the event does not fit: run: .*; count: .*; more: not a field of this event$/) as string, code: 'EventInvalid' },
    ]);
  });

  it('is the caller\'s where the caller has one', async () => {
    const said: string[] = [];
    const log = { info: (message: string) => { said.push(message); }, warn() {}, error() {}, progress: () => ({ advance() {}, done() {} }) };
    await lambdaHandler('plan-views', event, async () => async (_input, context) => { context.log.info('hello'); return {}; })({ run: 'x' }, { log });
    expect(said).toEqual(['hello']);
    expect(written).toEqual([]);
  });
});

describe('a function that runs out of time', () => {
  it('fails shortly before Lambda would end it, with an error that the workflow repeats', async () => {
    const handler = lambdaHandler('plan-views', event, async () => async (_input, { signal, remaining }) => {
      expect(remaining!()).toBe(5_050);
      await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => reject(signal.reason as Error)); });
      return {};
    });
    await expect(handler({ run: 'x' }, { getRemainingTimeInMillis: () => 5_050 })).rejects.toMatchObject({ name: 'FunctionTimedOut', message: expect.stringMatching(/^plan-views: not done 5 s before/) as string });
  });
});

it('malformed events are named by their fields', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-event-'));
  try {
    const { handler } = await import('../../lambdas/shard-dataset/handler.ts');
    const message = (value: unknown): Promise<string> => handler(value, {}).then(() => 'no error', (error: Error) => error.message);
    for (const [value, expected] of [
      [undefined, /the event itself: /], ['text', /the event itself: /], [{}, /: run: /], [{ run: 7 }, /: run: /], [{ run: 'x', continuation: '../../other/1' }, /: continuation: not a continuation that this function returned$/],
      [{ run: 'x', continuation: 'abc-def' }, /: continuation: not a continuation/], [{ run: 'x', contnuation: null }, /contnuation: not a field of this event$/], [{ run: path.join(folder, 'runs') }, /is not the URL of a run; expected <store>\/runs\/<run>\/$/],
    ] as const) expect(await message(value)).toMatch(expected);
  } finally { rmSync(folder, { recursive: true }); }
});
