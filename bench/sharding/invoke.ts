import type { ChildProcess } from 'node:child_process';

/** What came of a call of the function in `function.ts`. */
export interface Call {
  readonly milliseconds: number;
  readonly cpuSeconds: number;
  /** Bytes, of the process since its start. */
  readonly peakRss: number;
  readonly result?: { readonly continuation: string | null; readonly shards: number };
  readonly error?: { readonly name: string; readonly message: string; readonly stack: string };
}

/** Sends an event to a process that runs `function.ts`. Rejects when the process ends instead of answering. @param limit milliseconds that the function is told it has */
export async function invoke(child: ChildProcess, event: unknown, limit: number, id: string): Promise<Call> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null, signal: string | null): void => reject(new Error(`the function's process ended (${code ?? signal})`));
    child.once('exit', ended);
    child.once('message', (call: Call) => { child.off('exit', ended); resolve(call); });
    child.send({ event, limit, id });
  });
}
