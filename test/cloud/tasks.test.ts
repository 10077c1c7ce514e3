import { expect, it } from 'vitest';
import { openTasks } from '../../src/cloud/tasks.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';

const job = (name: string): object => ({ activityScheduledEventDetails: { resource: 'arn', input: JSON.stringify({ HeartbeatSeconds: 60, SubmitJob: { JobName: name } }) } });
const call = (name: string): object => ({ activityScheduledEventDetails: { resource: 'arn', input: JSON.stringify({ HeartbeatSeconds: 60, Invoke: { FunctionName: name, Payload: {} } }) } });
const by = (workerName: string): object => ({ activityStartedEventDetails: { workerName } });
async function* history(...events: readonly (readonly [id: number, previous: number, type: HistoryEvent['type'], details?: object])[]): AsyncGenerator<HistoryEvent> {
  for (const [id, previousEventId, type, details] of events) yield { id, previousEventId, type, timestamp: 'then', ...details } as HistoryEvent;
}

it('knows what waits for a worker, who has the rest, and that a task given back or timed out waits again', async () => {
  const events = history(
    [1, 0, 'ExecutionStarted'], [2, 1, 'TaskStateEntered'], [3, 2, 'ActivityScheduled', call('resolve-recipe')], [4, 3, 'ActivityStarted', by('a')], [5, 4, 'ActivitySucceeded'], [6, 5, 'TaskStateExited'],
    // Two branches, interleaved: a worker is lost in one, gives the task back in the other, where no one has it yet.
    [7, 6, 'ActivityScheduled', job('r-01234567-pretrain-a')], [8, 6, 'ActivityScheduled', job('r-01234567-pair-similarity')], [9, 7, 'ActivityStarted', by('a')], [10, 8, 'ActivityStarted', by('b')],
    [11, 9, 'ActivityTimedOut'], [12, 11, 'ActivityScheduled', job('r-01234567-pretrain-a')], [13, 10, 'ActivityFailed'], [14, 13, 'ActivityScheduled', job('r-01234567-pair-similarity')], [15, 12, 'ActivityStarted', by('b')],
  );
  expect(await openTasks(events, 'r-01234567')).toEqual([{ label: 'pretrain-a', worker: 'b' }, { label: 'pair-similarity' }]);
});
