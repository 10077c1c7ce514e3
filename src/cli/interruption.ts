import { availableParallelism } from 'node:os';
import { createLog } from '../log.ts';
import type { StageContext } from '../stages/contract.ts';

/** The user, or the system, asked the command to stop. */
export class Interrupted extends Error {
  readonly exitCode: number;

  constructor(signal: 'SIGINT' | 'SIGTERM', message: string) {
    super(message);
    this.name = 'Interrupted';
    // As a shell reports a process that the signal killed.
    this.exitCode = signal === 'SIGINT' ? 130 : 143;
  }
}

/**
 * Runs `work` with a signal that Ctrl-C and SIGTERM abort, so that it can leave everything in order; a second Ctrl-C
 * ends the process at once. Whatever `work` then throws, the command ends as interrupted.
 * @param message said at the end of an interrupted command; asked when it is interrupted
 */
export async function interruptible<T>(work: (context: StageContext) => Promise<T>, message: () => string = () => 'stopped; run the same command again to continue'): Promise<T> {
  const log = createLog();
  const controller = new AbortController();
  let interruption: Interrupted | undefined;
  const stop = (signal: 'SIGINT' | 'SIGTERM'): void => {
    if (interruption) process.exit(interruption.exitCode);
    interruption = new Interrupted(signal, message());
    log.warn('stopping; once more to stop at once');
    controller.abort(interruption);
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const result = await work({ signal: controller.signal, log, threads: availableParallelism() });
    if (interruption) throw interruption;
    return result;
  } catch (error) {
    throw interruption ?? error;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}
