import type { z } from 'zod';
import { ExitCode, GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { StageContext } from '../stages/contract.ts';

/** What AWS hands a function beside its event; the local runner adds its own signal and log. */
export interface InvocationContext {
  readonly awsRequestId?: string;
  readonly functionName?: string;
  getRemainingTimeInMillis?(): number;
  readonly signal?: AbortSignal;
  readonly log?: Log;
  readonly threads?: number;
}

/** Milliseconds kept for ending cleanly before Lambda would kill the function. */
const reserve = 5_000;

/**
 * A Lambda handler around a stage: checks the event, gives the stage its context, returns the small object that it
 * resolves to. Without a log of the caller's, lines go to standard output as JSON (`lambdaLog.ts`), the last of a call that fails
 * with its error's code.
 *
 * Throws `EventInvalid`, which names every field that does not fit, `FunctionTimedOut` shortly before Lambda would end the function, and what the stage throws.
 *
 * @example export const handler = lambdaHandler('plan-views', z.object({ run: z.url() }), async () => (await import('../../src/stages/planViews.ts')).planViews);
 */
export function lambdaHandler<Input, Output>(name: string, event: z.ZodType<Input>, load: () => Promise<(input: Input, context: StageContext) => Promise<Output>>): (value: unknown, context?: InvocationContext) => Promise<Output> {
  let own: ReturnType<typeof import('./lambdaLog.ts').createLambdaLog> | undefined;
  return async (value, context = {}) => {
    // Not loaded where the caller has a log: a local run would pay for it.
    const log = context.log ?? (own ??= (await import('./lambdaLog.ts')).createLambdaLog(name)).of(context, runOf(value));
    let timer: NodeJS.Timeout | undefined;
    try {
      const parsed = event.safeParse(value);
      if (!parsed.success) throw new GenViewError('EventInvalid', `${name}: the event does not fit: ${parsed.error.issues.map(explain).join('; ')}`);
      const remaining = context.getRemainingTimeInMillis?.bind(context);
      const stopped = new AbortController();
      if (remaining) timer = setTimeout(() => stopped.abort(outOfTime(name)), Math.max(0, remaining() - reserve)).unref();
      const signal = context.signal ?? stopped.signal;
      const stage = await load();
      return await stage(parsed.data, { signal, log, threads: context.threads ?? 1, ...(remaining && { remaining }) });
    } catch (error) {
      // The local runner says it by itself.
      if (!context.log) log.error((error as Error).message, error instanceof GenViewError ? { code: error.code } : { code: 'InternalError', stack: (error as Error).stack });
      throw error;
    } finally {
      clearTimeout(timer);
    }
  };
}

/** The workflow calls again. */
function outOfTime(name: string): GenViewError {
  return new GenViewError('FunctionTimedOut', `${name}: not done ${reserve / 1000} s before the function's time limit; call it again with the same event, or give it more memory, and so more speed`, { exitCode: ExitCode.TemporaryFailure });
}

/** Known before the event is checked, so that its refusal carries it too. */
function runOf(value: unknown): { run?: string } {
  const run = (value as { run?: unknown } | null | undefined)?.run;
  return typeof run === 'string' ? { run: run.slice(0, 2048) } : {};
}

function explain(issue: z.core.$ZodIssue): string {
  const field = issue.path.length === 0 ? 'the event itself' : issue.path.map(String).join('.');
  return issue.code === 'unrecognized_keys' ? `${issue.keys.join(', ')}: not a field of this event` : `${field}: ${issue.message}`;
}
