import { setTimeout as sleep } from 'node:timers/promises';

/** Waits, in milliseconds. Rejects with the signal's reason as soon as it is aborted. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { ...(signal && { signal }) }).catch((error: unknown) => { signal?.throwIfAborted(); throw error; });
}
