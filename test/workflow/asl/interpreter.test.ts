import { describe, expect, it } from 'vitest';
import type { Json, State, StateMachineDefinition } from '../../../src/workflow/asl/definition.ts';
import { StatesError } from '../../../src/workflow/asl/errors.ts';
import type { HistoryEvent } from '../../../src/workflow/asl/history.ts';
import { execute, type ExecutionOptions, type TaskContext, type TaskHandler } from '../../../src/workflow/asl/interpreter.ts';
import { VirtualClock } from '../virtualClock.ts';

const machine = (states: Record<string, unknown>, more: Partial<StateMachineDefinition> = {}): StateMachineDefinition =>
  ({ QueryLanguage: 'JSONata', StartAt: Object.keys(states)[0]!, States: states as Record<string, State>, ...more });

const call = (name: string, more: object = {}): object => ({ Type: 'Task', Resource: 'arn:aws:states:::lambda:invoke', Arguments: { FunctionName: name, Payload: '{% $states.input %}' }, ...more });

type Functions = Record<string, (payload: Json, context: TaskContext) => unknown>;
interface Ran { output?: Json; error?: StatesError; events: HistoryEvent[]; clock: VirtualClock }

async function run(definition: StateMachineDefinition, input: Json = {}, functions: Functions = {}, options: Partial<ExecutionOptions> = {}): Promise<Ran> {
  const clock = new VirtualClock(), events: HistoryEvent[] = [];
  const invoke: TaskHandler = async (argument, context) => {
    const { FunctionName, Payload } = argument as { FunctionName: string; Payload: Json };
    return functions[FunctionName]!(Payload, context);
  };
  const all: ExecutionOptions = { handlers: { 'states:::lambda:invoke': invoke }, clock, random: () => 0.5, onEvent: (event) => events.push(event), ...options };
  try {
    return { output: await execute(definition, input, all), events, clock };
  } catch (error) {
    if (!(error instanceof StatesError)) throw error;
    return { error, events, clock };
  }
}

const types = (ran: Ran): string[] => ran.events.map((event) => event.type);
const fails = (error: string, cause = '') => (): never => { throw new StatesError(error, cause); };
const failing = (states: Record<string, unknown>, functions: Functions = {}): Promise<StatesError> => run(machine(states), {}, functions).then((ran) => ran.error!);

describe('data flow', () => {
  it('passes the input on, and a task result where there is no Output', async () => {
    const ran = await run(machine({ A: { Type: 'Pass', Next: 'B' }, B: call('add', { End: true }) }), { x: 1 }, { add: (payload) => ({ sum: (payload as { x: number }).x + 1 }) });
    expect(ran.output).toEqual({ sum: 2 });
  });

  it('uses the input as arguments where there are none', async () => {
    const definition = machine({ A: { Type: 'Task', Resource: 'arn:aws-cn:states:::lambda:invoke', End: true } });
    expect((await run(definition, { FunctionName: 'echo', Payload: 5 }, { echo: (payload) => payload })).output).toBe(5);
  });

  it('evaluates Output with the input, the result and the context', async () => {
    const ran = await run(machine({ A: call('one', { Output: { in: '{% $states.input.x %}', out: '{% $states.result %}', state: '{% $states.context.State.Name %}', execution: '{% $states.context.Execution.Input.x %}', list: ['{% 1 + 1 %}', 'text'] }, End: true }) }), { x: 7 }, { one: () => 1 });
    expect(ran.output).toEqual({ in: 7, out: 1, state: 'A', execution: 7, list: [2, 'text'] });
  });

  it('assigns all variables at once, from the values before', async () => {
    const ran = await run(machine({
      A: { Type: 'Pass', Assign: { a: 1, b: 2 }, Next: 'B' },
      B: { Type: 'Pass', Assign: { a: '{% $b %}', b: '{% $a %}' }, Output: '{% [$a, $b] %}', Next: 'C' },
      C: { Type: 'Pass', Output: { before: '{% $states.input %}', after: '{% [$a, $b] %}' }, End: true },
    }));
    expect(ran.output).toEqual({ before: [1, 2], after: [2, 1] });
  });

  it('keeps arrays of one element, null and empty lists as they are', async () => {
    const ran = await run(machine({ A: call('f', { Assign: { v: '{% $states.result.Payload.variants %}', n: '{% $states.result.Payload.none %}' }, Output: {}, Next: 'B' }), B: { Type: 'Pass', Output: { v: '{% $v %}', n: '{% $n %}', is: '{% $n = null %}' }, End: true } }), {}, { f: () => ({ Payload: { variants: [{ name: 'a' }], none: null } }) });
    expect(ran.output).toEqual({ v: [{ name: 'a' }], n: null, is: true });
  });

  it('refuses payloads above 256 KiB, and States.ALL does not catch that', async () => {
    const ran = await run(machine({ A: call('big', { Catch: [{ ErrorEquals: ['States.ALL'], Next: 'B' }], End: true }), B: { Type: 'Succeed' } }), {}, { big: () => 'x'.repeat(262_143) });
    expect(ran.error?.error).toBe('States.DataLimitExceeded');
    expect((await run(machine({ A: call('fits', { Output: 1, End: true }) }), {}, { fits: () => 'x'.repeat(262_142) })).output).toBe(1);
  });

  it('refuses a task result that is not JSON', async () => {
    for (const value of [undefined, NaN, () => 1, { a: [Symbol('x')] }]) {
      expect(await failing({ A: call('f', { Catch: [{ ErrorEquals: ['States.ALL'], Next: 'B' }], End: true }), B: { Type: 'Succeed' } }, { f: () => value })).toMatchObject({ error: 'States.Runtime' });
    }
  });
});

describe('Choice', () => {
  const choose = machine({
    A: { Type: 'Choice', Choices: [{ Condition: '{% $states.input.n > 10 %}', Next: 'Big', Assign: { size: 'big' }, Output: 1 }, { Condition: '{% $states.input.n > 5 %}', Next: 'Middle' }], Default: 'Small', Assign: { size: 'small' }, Output: 2 },
    Big: { Type: 'Pass', Output: '{% [$size, $states.input] %}', End: true },
    Middle: { Type: 'Pass', End: true },
    Small: { Type: 'Pass', Output: '{% [$size, $states.input] %}', End: true },
  });
  it('takes the first rule that is true, with the Assign and Output of that rule', async () => {
    expect((await run(choose, { n: 11 })).output).toEqual(['big', 1]);
    expect((await run(choose, { n: 6 })).output).toEqual({ n: 6 });
    expect((await run(choose, { n: 1 })).output).toEqual(['small', 2]);
  });
  it('fails without a match and without a default', async () => {
    expect(await failing({ A: { Type: 'Choice', Choices: [{ Condition: '{% false %}', Next: 'B' }] }, B: { Type: 'Succeed' } })).toMatchObject({ error: 'States.NoChoiceMatched' });
  });
  it('wants a boolean', async () => {
    expect(await failing({ A: { Type: 'Choice', Choices: [{ Condition: '{% 1 %}', Next: 'B' }] }, B: { Type: 'Succeed' } })).toMatchObject({ error: 'States.QueryEvaluationError' });
  });
});

describe('Wait', () => {
  it('sleeps for seconds and until a time on the injected clock', async () => {
    const ran = await run(machine({ A: { Type: 'Wait', Seconds: '{% $states.input.s %}', Next: 'B' }, B: { Type: 'Wait', Timestamp: '2026-01-01T00:01:00Z', End: true } }), { s: 20 });
    expect(ran.clock.sleeps).toEqual([20_000, 40_000]);
    expect(ran.output).toEqual({ s: 20 });
  });
});

describe('Fail and Succeed', () => {
  it('fails with the evaluated error and cause', async () => {
    expect(await run(machine({ A: { Type: 'Fail', Error: '{% $states.input.e %}', Cause: '{% "because " & $states.input.c %}' } }), { e: 'Broken', c: 'x' }).then((ran) => ran.error)).toMatchObject({ error: 'Broken', cause: 'because x' });
  });
  it('ends with an output', async () => {
    expect((await run(machine({ A: { Type: 'Succeed', Output: '{% $states.input.a %}' } }), { a: 3 })).output).toBe(3);
  });
});

describe('Retry', () => {
  it('backs off, up to the largest delay, and tells the task which attempt it is', async () => {
    const counts: Json[] = [];
    const definition = machine({ A: { ...call('f'), Arguments: { FunctionName: 'f', Payload: '{% $states.context.State.RetryCount %}' }, Retry: [{ ErrorEquals: ['Flaky'], IntervalSeconds: 2, BackoffRate: 3, MaxDelaySeconds: 10, MaxAttempts: 4 }], End: true } });
    const ran = await run(definition, {}, { f: (payload) => { counts.push(payload); if (counts.length < 5) throw new StatesError('Flaky', ''); return 'ok'; } });
    expect(ran.output).toBe('ok');
    expect(counts).toEqual([0, 1, 2, 3, 4]);
    expect(ran.clock.sleeps).toEqual([2000, 6000, 10_000, 10_000]);
  });

  it('defaults to three attempts more, one second, doubling', async () => {
    const ran = await run(machine({ A: call('f', { Retry: [{ ErrorEquals: ['States.ALL'] }], End: true }) }), {}, { f: fails('Flaky', 'again') });
    expect(ran.error).toMatchObject({ error: 'Flaky', cause: 'again' });
    expect(ran.clock.sleeps).toEqual([1000, 2000, 4000]);
  });

  it('draws the delay with full jitter', async () => {
    const ran = await run(machine({ A: call('f', { Retry: [{ ErrorEquals: ['Flaky'], IntervalSeconds: 8, MaxAttempts: 1, JitterStrategy: 'FULL' }], End: true }) }), {}, { f: fails('Flaky') });
    expect(ran.clock.sleeps).toEqual([4000]);
  });

  it('counts for each retrier, and the first that names the error decides', async () => {
    const errors = ['One', 'Two', 'One', 'Two', 'One'];
    const ran = await run(machine({ A: call('f', { Retry: [{ ErrorEquals: ['One'], MaxAttempts: 2 }, { ErrorEquals: ['States.ALL'], IntervalSeconds: 7, BackoffRate: 1 }], End: true }) }), {}, { f: () => fails(errors.shift()!)() });
    expect(ran.clock.sleeps).toEqual([1000, 7000, 2000, 7000]);
    expect(ran.error?.error).toBe('One');
  });

  it('never retries with MaxAttempts 0', async () => {
    const ran = await run(machine({ A: call('f', { Retry: [{ ErrorEquals: ['One'], MaxAttempts: 0 }, { ErrorEquals: ['States.ALL'] }], End: true }) }), {}, { f: fails('One') });
    expect(ran.clock.sleeps).toEqual([]);
  });

  it('runs a Parallel state again as a whole, with fresh variables', async () => {
    let calls = 0;
    const ran = await run(machine({ P: { Type: 'Parallel', Retry: [{ ErrorEquals: ['Flaky'] }], Branches: [machineBranch({ A: { Type: 'Pass', Assign: { v: 1 }, Next: 'B' }, B: call('f', { Output: '{% $v %}', End: true }) })], End: true } }), {}, { f: () => (++calls < 2 ? fails('Flaky')() : 1) });
    expect(ran.output).toEqual([1]);
    expect(calls).toBe(2);
  });
});

function machineBranch(states: Record<string, unknown>): object {
  return { StartAt: Object.keys(states)[0]!, States: states };
}

describe('Catch', () => {
  const caught = (errorEquals: string[]): StateMachineDefinition => machine({
    A: call('f', { Catch: [{ ErrorEquals: errorEquals, Assign: { failure: '{% $states.errorOutput %}' }, Output: '{% $states.input %}', Next: 'B' }], End: true }),
    B: { Type: 'Pass', Output: { input: '{% $states.input %}', failure: '{% $failure %}' }, End: true },
  });

  it('hands the error on, with Assign and Output of its own', async () => {
    expect((await run(caught(['Broken']), 5, { f: fails('Broken', 'why') })).output).toEqual({ input: 5, failure: { Error: 'Broken', Cause: 'why' } });
  });

  it('gives error and cause as output by default', async () => {
    const definition = machine({ A: call('f', { Catch: [{ ErrorEquals: ['States.ALL'], Next: 'B' }], End: true }), B: { Type: 'Pass', End: true } });
    expect((await run(definition, {}, { f: () => { throw new TypeError('not a function'); } })).output).toEqual({ Error: 'TypeError', Cause: 'not a function' });
  });

  it('States.TaskFailed matches everything but a timeout, States.ALL a timeout too', async () => {
    expect((await run(caught(['States.TaskFailed']), {}, { f: fails('Any') })).error).toBeUndefined();
    expect((await run(caught(['States.TaskFailed']), {}, { f: fails('States.Timeout') })).error?.error).toBe('States.Timeout');
    expect((await run(caught(['States.ALL']), {}, { f: fails('States.Timeout') })).error).toBeUndefined();
    expect((await run(caught(['States.ALL']), {}, { f: fails('States.Runtime') })).error?.error).toBe('States.Runtime');
  });

  it('comes after the retries', async () => {
    let calls = 0;
    const definition = machine({ A: call('f', { Retry: [{ ErrorEquals: ['Broken'], MaxAttempts: 2 }], Catch: [{ ErrorEquals: ['Broken'], Next: 'B' }], End: true }), B: { Type: 'Succeed' } });
    await run(definition, {}, { f: () => { calls++; throw new StatesError('Broken', ''); } });
    expect(calls).toBe(3);
  });

  it('catches a failed evaluation', async () => {
    const definition = machine({ A: { ...call('f'), Arguments: '{% $states.input.nothing %}', Catch: [{ ErrorEquals: ['States.QueryEvaluationError'], Next: 'B' }], End: true }, B: { Type: 'Pass', Output: 'caught', End: true } });
    const ran = await run(definition);
    expect(ran.output).toBe('caught');
    expect(types(ran)).toContain('EvaluationFailed');
  });

  it('preserves the error of a branch through Parallel and Map', async () => {
    const inner = machineBranch({ M: { Type: 'Map', Items: [1], ItemProcessor: machineBranch({ T: call('f', { End: true }) }), End: true } });
    expect(await failing({ P: { Type: 'Parallel', Branches: [inner], End: true } }, { f: fails('Deep', 'down') })).toMatchObject({ error: 'Deep', cause: 'down' });
  });
});

describe('Map', () => {
  it('runs each item and keeps the order of the results', async () => {
    const definition = machine({ M: { Type: 'Map', Items: '{% $states.input.items %}', ItemSelector: { index: '{% $states.context.Map.Item.Index %}', value: '{% $states.context.Map.Item.Value %}', all: '{% $count($states.input.items) %}' }, ItemProcessor: { ProcessorConfig: { Mode: 'INLINE' }, ...machineBranch({ T: call('f', { End: true }) }) }, End: true } });
    const ran = await run(definition, { items: ['a', 'b', 'c'] }, { f: async (payload) => { await new Promise((done) => setTimeout(done, 10 - 5 * (payload as { index: number }).index)); return payload; } });
    expect(ran.output).toEqual([{ index: 0, value: 'a', all: 3 }, { index: 1, value: 'b', all: 3 }, { index: 2, value: 'c', all: 3 }]);
  });

  it('gives an empty list for no items, and refuses what is not a list', async () => {
    const definition = machine({ M: { Type: 'Map', ItemProcessor: machineBranch({ T: { Type: 'Pass', End: true } }), End: true } });
    expect((await run(definition, [])).output).toEqual([]);
    expect((await run(definition, { a: 1 })).error?.error).toBe('States.QueryEvaluationError');
  });

  it('runs at most MaxConcurrency iterations at a time', async () => {
    let now = 0, most = 0;
    const definition = machine({ M: { Type: 'Map', Items: [1, 2, 3, 4, 5], MaxConcurrency: 2, ItemProcessor: machineBranch({ T: call('f', { End: true }) }), End: true } });
    await run(definition, {}, { f: async () => { most = Math.max(most, ++now); await new Promise((done) => setTimeout(done, 2)); now--; return 0; } });
    expect(most).toBe(2);
  });

  it('gives every iteration variables of its own, and lets it read the outer ones', async () => {
    const definition = machine({
      A: { Type: 'Pass', Assign: { outer: 10 }, Next: 'M' },
      M: { Type: 'Map', Items: [1, 2, 3], ItemProcessor: machineBranch({ S: { Type: 'Pass', Assign: { mine: '{% $outer + $states.input %}' }, Next: 'T' }, T: call('f', { Output: '{% $mine %}', End: true }) }), End: true },
    });
    expect((await run(definition, {}, { f: () => new Promise((done) => setTimeout(() => done(0), 2)) })).output).toEqual([11, 12, 13]);
  });
});

describe('what is aborted', () => {
  /** A task that ends only by its signal, some time after it. */
  const stubborn = (log: string[], name: string) => (_: Json, { signal }: TaskContext): Promise<never> => new Promise((_done, reject) => {
    signal.addEventListener('abort', () => setTimeout(() => { log.push(`${name} ended`); reject(signal.reason as Error); }, 5));
  });

  it('a failing branch stops its siblings, and waits for their end before the catch', async () => {
    const log: string[] = [];
    const ran = await run(machine({
      P: { Type: 'Parallel', Branches: [machineBranch({ Slow: call('slow', { Retry: [{ ErrorEquals: ['States.ALL'] }], Catch: [{ ErrorEquals: ['States.ALL'], Next: 'Never' }], Next: 'Never' }), Never: { Type: 'Pass', End: true } }), machineBranch({ Bad: call('bad', { End: true }) })], Catch: [{ ErrorEquals: ['Bad'], Next: 'After' }], End: true },
      After: call('after', { End: true }),
    }), {}, { slow: stubborn(log, 'slow'), bad: fails('Bad'), after: () => { log.push('after'); return 0; } });
    expect(log).toEqual(['slow ended', 'after']);
    expect(ran.output).toBe(0);
    expect(types(ran)).toContain('TaskStateAborted');
    expect(types(ran)).not.toContain('PassStateEntered');
  });

  it('a failing iteration stops the others and starts no new ones', async () => {
    const log: string[] = [];
    const ran = await run(machine({ M: { Type: 'Map', Items: ['slow', 'bad', 'unstarted'], MaxConcurrency: 2, ItemProcessor: machineBranch({ T: { ...call(''), Arguments: { FunctionName: '{% $states.input %}', Payload: 0 }, End: true } }), End: true } }), {}, { slow: stubborn(log, 'slow'), bad: fails('Bad'), unstarted: () => { log.push('started'); return 0; } });
    expect(log).toEqual(['slow ended']);
    expect(ran.error?.error).toBe('Bad');
    expect(types(ran).filter((type) => type.startsWith('MapIteration'))).toEqual(['MapIterationStarted', 'MapIterationStarted', 'MapIterationFailed', 'MapIterationAborted']);
  });

  it('a task that runs too long gets States.Timeout once it has ended', async () => {
    const log: string[] = [];
    const ran = await run(machine({ A: call('slow', { TimeoutSeconds: '{% $states.input.limit %}', Catch: [{ ErrorEquals: ['States.Timeout'], Next: 'B' }], End: true }), B: { Type: 'Succeed' } }), { limit: 30 }, { slow: stubborn(log, 'slow') });
    expect(log).toEqual(['slow ended']);
    expect(ran.clock.sleeps).toEqual([30_000]);
    expect(types(ran)).toContain('TaskTimedOut');
    expect(ran.error).toBeUndefined();
  });

  it('the execution times out as a whole, and nothing catches that', async () => {
    const log: string[] = [];
    const ran = await run(machine({ A: call('slow', { Catch: [{ ErrorEquals: ['States.ALL'], Next: 'B' }], End: true }), B: { Type: 'Succeed' } }, { TimeoutSeconds: 60 }), {}, { slow: stubborn(log, 'slow') });
    expect(ran.error?.error).toBe('States.Timeout');
    expect(types(ran).at(-1)).toBe('ExecutionTimedOut');
    expect(log).toEqual(['slow ended']);
  });

  it('stopping the execution stops its tasks and runs no Retry or Catch', async () => {
    const log: string[] = [], events: HistoryEvent[] = [];
    const stop = new AbortController();
    const reason = new Error('stopped by the user');
    const slow: Functions[string] = (payload, context) => { setTimeout(() => stop.abort(reason), 10); return stubborn(log, 'slow')(payload, context); };
    const definition = machine({ A: call('slow', { Retry: [{ ErrorEquals: ['States.ALL'] }], Catch: [{ ErrorEquals: ['States.ALL'], Next: 'B' }], End: true }), B: call('after', { End: true }) });
    await expect(run(definition, {}, { slow, after: () => log.push('after') }, { signal: stop.signal, onEvent: (event) => events.push(event) })).rejects.toBe(reason);
    expect(log).toEqual(['slow ended']);
    expect(events.at(-1)).toMatchObject({ type: 'ExecutionAborted', executionAbortedEventDetails: { cause: 'stopped by the user' } });
  });

  it('a wait ends at once when stopped', async () => {
    await expect(run(machine({ A: { Type: 'Wait', Seconds: 100, End: true } }), {}, {}, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
  });
});

describe('history', () => {
  it('has the events, names and links of Step Functions', async () => {
    const ran = await run(machine({ A: { Type: 'Pass', Assign: { v: [1] }, Next: 'P' }, P: { Type: 'Parallel', Branches: [machineBranch({ T: call('f', { End: true }) }), machineBranch({ U: { Type: 'Pass', End: true } })], End: true } }), {}, { f: (_, context) => { context.submitted({ JobId: 'j' }); return 1; } });
    expect(types(ran).toSorted()).toEqual([
      'ExecutionStarted', 'ExecutionSucceeded', 'ParallelStateEntered', 'ParallelStateExited', 'ParallelStateStarted', 'ParallelStateSucceeded', 'PassStateEntered', 'PassStateEntered', 'PassStateExited',
      'PassStateExited', 'TaskScheduled', 'TaskStarted', 'TaskStateEntered', 'TaskStateExited', 'TaskSubmitted', 'TaskSucceeded']);
    expect(ran.events.map((event) => event.id)).toEqual(ran.events.map((_, i) => i + 1));
    const by = (type: string): HistoryEvent => ran.events.find((event) => event.type === type)!;
    expect(by('TaskScheduled')).toMatchObject({ previousEventId: by('TaskStateEntered').id, timestamp: '2026-01-01T00:00:00.000Z', taskScheduledEventDetails: { resourceType: 'lambda', resource: 'invoke' } });
    expect(by('TaskStateEntered').previousEventId).toBe(by('ParallelStateStarted').id);
    expect(by('PassStateExited')).toMatchObject({ stateExitedEventDetails: { name: 'A', output: '{}', assignedVariables: { v: '[1]' } } });
  });

  it('ends with the failure', async () => {
    const ran = await run(machine({ A: call('f', { End: true }) }), {}, { f: fails('Broken', 'why') });
    expect(types(ran)).toEqual(['ExecutionStarted', 'TaskStateEntered', 'TaskScheduled', 'TaskStarted', 'TaskFailed', 'ExecutionFailed']);
    expect(ran.events.at(-1)).toMatchObject({ executionFailedEventDetails: { error: 'Broken', cause: 'why' } });
  });
});
