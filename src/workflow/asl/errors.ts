/** A failure in the terms of Amazon States Language: an error name that Retry and Catch match, and a cause. */
export class StatesError extends Error {
  readonly error: string;
  /** Free text or JSON, at most 32 KiB in AWS. */
  override readonly cause: string;

  constructor(error: string, cause: string) {
    super(cause === '' ? error : `${error}: ${cause}`);
    this.name = 'StatesError';
    this.error = error;
    this.cause = cause;
  }
}

/** The longest cause that Step Functions keeps, in characters. */
export const causeLimit = 32_768;

/** A defect of the definition or of a task handler: no Retry or Catch with `States.ALL` matches it. */
export const runtimeError = (cause: string): StatesError => new StatesError('States.Runtime', cause);

/** Whether `ErrorEquals` matches an error, with AWS's rules for the two wildcards. */
export function matchesError(errorEquals: readonly string[], error: string): boolean {
  return errorEquals.some((name) =>
    name === error
    // The specification gives a missed heartbeat both names.
    || (name === 'States.Timeout' && error === 'States.HeartbeatTimeout')
    || (name === 'States.ALL' && error !== 'States.Runtime' && error !== 'States.DataLimitExceeded')
    || (name === 'States.TaskFailed' && error !== 'States.Timeout' && error !== 'States.Runtime' && error !== 'States.DataLimitExceeded'));
}
