import { causeLimit, type StatesError } from '../workflow/asl/errors.ts';

/** SendTaskFailure's limit for the name of an error, in characters. */
const nameLimit = 256;

/**
 * An error as SendTaskFailure takes it. Names that begin with `States.` are reserved for the service, which is why the
 * `States.TaskFailed` of a Batch job arrives as `TaskFailed`; the cause is the same description of the job.
 */
export function toFailure({ error, cause }: StatesError): { readonly error: string; readonly cause: string } {
  return { error: error.replace(/^States\./, '').slice(0, nameLimit), cause: fit(cause) };
}

/** A cause in JSON stays JSON: its long parts go first. */
function fit(cause: string): string {
  if (cause.length <= causeLimit) return cause;
  let value: unknown;
  try { value = JSON.parse(cause); } catch { return cause.slice(0, causeLimit); }
  if (value === null || typeof value !== 'object') return cause.slice(0, causeLimit);
  const short = (text: unknown): unknown => (typeof text === 'string' && text.length > 4000 ? `${text.slice(0, 4000)}…` : text);
  const { trace: _trace, Attempts: _attempts, ...rest } = value as Record<string, unknown>;
  const shorter = JSON.stringify(Object.fromEntries(Object.entries(rest).map(([key, item]) => [key, short(item)])));
  return shorter.length <= causeLimit ? shorter : shorter.slice(0, causeLimit);
}
