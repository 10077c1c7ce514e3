import { describe, expect, it } from 'vitest';
import type { Json, State, StateMachineDefinition } from '../../../src/workflow/asl/definition.ts';
import { matchesError, StatesError } from '../../../src/workflow/asl/errors.ts';
import type { HistoryEvent } from '../../../src/workflow/asl/history.ts';
import { execute, type TaskHandler } from '../../../src/workflow/asl/interpreter.ts';
import { validateDefinition } from '../../../src/workflow/asl/validate.ts';
import { VirtualClock } from '../virtualClock.ts';

const resource = 'states:eu-west-1:123456789012:activity:a';
const arn = `arn:aws:${resource}`;
const machine = (task: object, more: Record<string, unknown> = {}): StateMachineDefinition =>
  ({ QueryLanguage: 'JSONata', StartAt: 'A', States: { A: { Type: 'Task', Resource: arn, End: true, ...task }, ...more } as Record<string, State> });

async function run(definition: StateMachineDefinition, handler: (clock: VirtualClock, beat: () => void, signal: AbortSignal, count: number) => Promise<Json>): Promise<{ output?: Json; error?: StatesError; events: HistoryEvent[]; clock: VirtualClock }> {
  const clock = new VirtualClock(), events: HistoryEvent[] = [];
  let count = 0;
  const work: TaskHandler = (_argument, { signal, heartbeat }) => handler(clock, heartbeat, signal, ++count);
  try {
    return { output: await execute(definition, { x: 1 }, { handlers: { [resource]: work }, clock, random: () => 1, onEvent: (event) => events.push(event) }), events, clock };
  } catch (error) {
    if (!(error instanceof StatesError)) throw error;
    return { error, events, clock };
  }
}

const aborted = (signal: AbortSignal): Promise<never> => new Promise((_resolve, reject) => { signal.addEventListener('abort', () => reject(signal.reason as Error)); });

describe('the task of an Activity', () => {
  it('gives its result, and leaves the events of an Activity in the history', async () => {
    const { output, events } = await run(machine({ Arguments: { y: '{% $states.input.x + 1 %}' }, TimeoutSeconds: 60, HeartbeatSeconds: '{% 5 %}', Output: '{% $states.result.z %}' }), async () => ({ z: 3 }));
    expect(output).toBe(3);
    expect(events.map(({ type }) => type)).toEqual(['ExecutionStarted', 'TaskStateEntered', 'ActivityScheduled', 'ActivityStarted', 'ActivitySucceeded', 'TaskStateExited', 'ExecutionSucceeded']);
    expect(events[2]).toMatchObject({ activityScheduledEventDetails: { resource: arn, input: '{"y":2}', timeoutInSeconds: 60, heartbeatInSeconds: 5 } });
    expect(events[4]).toMatchObject({ activitySucceededEventDetails: { output: '{"z":3}' } });
  });

  it('goes on as long as there are heartbeats', async () => {
    const { output } = await run(machine({ HeartbeatSeconds: 10 }), async (clock, beat) => { for (let i = 0; i < 6; i++) { await clock.sleep(8000); beat(); } return 'done'; });
    expect(output).toBe('done');
  });

  it('fails with States.HeartbeatTimeout when they stop, once its worker has ended, and can be retried', async () => {
    let ended = 0;
    const { output, events, clock } = await run(machine({ HeartbeatSeconds: 10, Retry: [{ ErrorEquals: ['States.HeartbeatTimeout'], IntervalSeconds: 1 }] }), async (_clock, _beat, signal, count) => (count > 1 ? 'second' : aborted(signal).finally(() => { ended++; })));
    expect(output).toBe('second');
    expect(ended).toBe(1);
    expect(events.map(({ type }) => type).slice(2, -2)).toEqual(['ActivityScheduled', 'ActivityStarted', 'ActivityTimedOut', 'ActivityScheduled', 'ActivityStarted', 'ActivitySucceeded']);
    expect(events.find(({ type }) => type === 'ActivityTimedOut')).toMatchObject({ activityTimedOutEventDetails: { error: 'States.HeartbeatTimeout', cause: 'no heartbeat for 10 s' } });
    expect(clock.now() - Date.parse('2026-01-01T00:00:00Z')).toBe(11_000);
  });

  it('fails with States.Timeout when it takes too long in spite of its heartbeats', async () => {
    const { error } = await run(machine({ TimeoutSeconds: 30, HeartbeatSeconds: 10 }), async (clock, beat, signal) => { for (;;) { await clock.sleep(5000, signal); beat(); } });
    expect(error).toMatchObject({ error: 'States.Timeout', cause: 'not finished after 30 s' });
  });

  it('keeps the name of what its worker reports', async () => {
    const { error, events } = await run(machine({}), async () => { throw new StatesError('RecipeInvalid', 'why'); });
    expect(error).toMatchObject({ error: 'RecipeInvalid', cause: 'why' });
    expect(events.at(-2)).toMatchObject({ type: 'ActivityFailed', activityFailedEventDetails: { error: 'RecipeInvalid', cause: 'why' } });
  });
});

it('a missed heartbeat is a timeout too', () => {
  expect(matchesError(['States.Timeout'], 'States.HeartbeatTimeout')).toBe(true);
  expect(matchesError(['States.HeartbeatTimeout'], 'States.Timeout')).toBe(false);
});

describe('a definition is refused when', () => {
  it.each<[string, object, string]>([
    ['nothing here does the work of the Activity', { Resource: arn.replace(/:a$/, ':b') }, 'nothing here runs the resource'],
    ['something else than an Activity has a heartbeat', { Resource: 'arn:aws:states:::lambda:invoke', HeartbeatSeconds: 5 }, 'HeartbeatSeconds is implemented for Activities only'],
    ['the heartbeat is no number of seconds', { HeartbeatSeconds: 0.5 }, 'HeartbeatSeconds is not a positive whole number'],
    ['the heartbeat is no shorter than the time-out', { HeartbeatSeconds: 60, TimeoutSeconds: 60 }, 'HeartbeatSeconds must be less than TimeoutSeconds'],
    ['the heartbeat is a JSONPath', { HeartbeatSecondsPath: '$.x' }, 'HeartbeatSecondsPath'],
  ])('%s', (_name, task, reason) => {
    expect(() => validateDefinition(machine(task), [resource, 'states:::lambda:invoke'])).toThrow(reason);
  });
});
