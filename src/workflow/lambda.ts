import { z } from 'zod';
import { GenViewError } from '../errors.ts';
import { createLog, type Log } from '../log.ts';
import type { StageContext } from '../stages/contract.ts';

/** What AWS hands a function beside its event; the local runner adds its own signal and log. */
export interface InvocationContext {
  readonly awsRequestId?: string;
  getRemainingTimeInMillis?(): number;
  readonly signal?: AbortSignal;
  readonly log?: Log;
  readonly threads?: number;
}

/** Milliseconds kept for ending cleanly before Lambda would kill the function. */
const reserve = 5_000;

/**
 * A Lambda handler around a stage: checks the event, gives the stage its context, returns the small object that it
 * resolves to.
 *
 * @example export const handler = lambdaHandler('plan-views', z.object({ run: z.url() }), async () => (await import('../../src/stages/planViews.ts')).planViews);
 */
export function lambdaHandler<Input, Output>(name: string, event: z.ZodType<Input>, load: () => Promise<(input: Input, context: StageContext) => Promise<Output>>): (value: unknown, context?: InvocationContext) => Promise<Output> {
  return async (value, context = {}) => {
    const parsed = event.safeParse(value);
    if (!parsed.success) throw new GenViewError('EventInvalid', `${name}: the event does not fit: ${z.prettifyError(parsed.error)}`);
    const log = context.log ?? createLog({ stage: name, ...(context.awsRequestId !== undefined && { request: context.awsRequestId }) });
    const left = context.getRemainingTimeInMillis?.();
    const signal = context.signal ?? (left === undefined ? new AbortController().signal : AbortSignal.timeout(Math.max(0, left - reserve)));
    const stage = await load();
    return stage(parsed.data, { signal, log, threads: context.threads ?? 1 });
  };
}
