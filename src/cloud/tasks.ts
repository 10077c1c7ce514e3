import type { HistoryEvent } from '../workflow/asl/history.ts';

/** A task of a running execution that workers are to do and that has not ended. */
export interface OpenTask {
  /** As jobs of Batch are called: `generate-views`, `pretrain-baseline`; a function by its name. */
  readonly label: string;
  /** Who has it; undefined while it waits for a worker. */
  readonly worker?: string;
}

/**
 * What workers do and what waits for them, by the events of a running execution.
 * @param runId the run's, which the names of its jobs begin with
 */
export async function openTasks(history: AsyncIterable<HistoryEvent>, runId: string): Promise<OpenTask[]> {
  const open = new Map<number, OpenTask>();
  /** Event -> the event that scheduled its task. */
  const scheduled = new Map<number, number>();
  for await (const { id, previousEventId, type, ...details } of history) {
    if (type === 'ActivityScheduled') {
      scheduled.set(id, id);
      open.set(id, { label: labelOf((details.activityScheduledEventDetails as { input?: string } | undefined)?.input, runId) });
      continue;
    }
    const task = scheduled.get(previousEventId), known = task === undefined ? undefined : open.get(task);
    if (task === undefined || known === undefined || !type.startsWith('Activity')) continue;
    if (type === 'ActivityStarted') {
      scheduled.set(id, task);
      open.set(task, { ...known, worker: (details.activityStartedEventDetails as { workerName?: string } | undefined)?.workerName ?? 'a worker' });
    } else open.delete(task);
  }
  return [...open.values()];
}

function labelOf(input: string | undefined, runId: string): string {
  try {
    const { SubmitJob, Invoke } = JSON.parse(input ?? '') as { SubmitJob?: { JobName?: string }; Invoke?: { FunctionName?: string } };
    return SubmitJob?.JobName?.replace(`${runId}-`, '') ?? Invoke?.FunctionName ?? '?';
  } catch { return '?'; }
}
