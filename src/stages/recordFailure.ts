import { openStore, writeJson } from '../storage/index.ts';
import { splitRunUrl } from './artefacts.ts';
import type { RecordFailureInput } from './contract.ts';

/** `runs/<runId>/failure.json` */
export interface FailureRecord {
  /** Name of the error: a code of ours, or `States.TaskFailed` and its kin. */
  readonly error: string;
  /** The failing stage's own message, in one line. */
  readonly message: string;
  /** As the workflow has it: that message, or the service's JSON description of the failed function or job. */
  readonly cause: string;
  readonly time: string;
}

/**
 * Leaves the reason of a failure beside the run's recipe; nothing that the run made is deleted. A failure before the
 * run has a name (a faulty recipe) has no place in the store: the execution's own error tells of it.
 * @returns URL of the record
 */
export async function recordFailure(input: RecordFailureInput): Promise<{ readonly record: string | null }> {
  const { run, error, cause } = input;
  if (!run) return { record: null };
  const { store: root, runId } = splitRunUrl(run);
  const store = openStore(root);
  const key = `runs/${runId}/failure.json`;
  const record: FailureRecord = { error, message: messageOf(cause), cause, time: new Date().toISOString() };
  await writeJson(store, key, record);
  return { record: store.url(key) };
}

/** What a failure's cause says: Lambda and Batch wrap the message of a function or a job in a description of it. */
export function messageOf(cause: string): string {
  try {
    const { errorMessage, StatusReason, Container } = JSON.parse(cause) as { errorMessage?: string; StatusReason?: string; Container?: { Reason?: string } };
    return errorMessage ?? StatusReason ?? Container?.Reason ?? cause;
  } catch { return cause; }
}
