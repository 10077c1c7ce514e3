import { heartbeatsInTime } from '../workflow/activities.ts';

/** Sends heartbeats until it is stopped. */
export interface Heartbeat {
  /** Aborts once the workflow no longer waits for the task. */
  readonly gone: AbortSignal;
  stop(): void;
}

/**
 * Calls `send` `heartbeatsInTime` times in every `seconds`. A failure that `isGone` recognizes ends it; any other is told
 * to `complain`, once in a row, and the next beat tries again.
 */
export function startHeartbeat(seconds: number, send: (signal: AbortSignal) => Promise<unknown>, isGone: (error: unknown) => boolean, complain: (error: unknown) => void): Heartbeat {
  const interval = Math.round(seconds * 1000 / heartbeatsInTime);
  const gone = new AbortController();
  let sending = false, complained = false;
  const timer = setInterval(() => {
    if (sending) return;
    sending = true;
    // A connection that has died without a word must not silence us.
    void send(AbortSignal.timeout(interval)).then(() => { complained = false; }, (error: unknown) => {
      if (isGone(error)) { clearInterval(timer); gone.abort(error); return; }
      if (!complained) complain(error);
      complained = true;
    }).finally(() => { sending = false; });
  }, interval);
  return { gone: gone.signal, stop: () => clearInterval(timer) };
}
