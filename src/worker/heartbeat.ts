/** Sends heartbeats until it is stopped. */
export interface Heartbeat {
  /** Aborts once the workflow no longer waits for the task. */
  readonly gone: AbortSignal;
  stop(): void;
}

/**
 * Calls `send` three times in every `seconds`, so that one lost call or a pause of the process does no harm. A failure
 * that `isGone` recognizes ends it; any other is told to `complain`, once in a row, and the next beat tries again.
 */
export function startHeartbeat(seconds: number, send: () => Promise<unknown>, isGone: (error: unknown) => boolean, complain: (error: unknown) => void): Heartbeat {
  const gone = new AbortController();
  let sending = false, complained = false;
  const timer = setInterval(() => {
    // A call that hangs is repeated by its client, not by us.
    if (sending) return;
    sending = true;
    void send().then(() => { complained = false; }, (error: unknown) => {
      if (isGone(error)) { clearInterval(timer); gone.abort(error); return; }
      if (!complained) complain(error);
      complained = true;
    }).finally(() => { sending = false; });
  }, seconds * 1000 / 3);
  return { gone: gone.signal, stop: () => clearInterval(timer) };
}
