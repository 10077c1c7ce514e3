/**
 * A mistake of the user, or of the world, that a person can mend: printed as one line without a stack trace.
 * The message says what is wrong, where (file, field, URL), and what to do.
 */
export class GenViewError extends Error {
  /** Stable machine-readable name, for example `RecipeInvalid`, `ImageUnreadable`. Also the error name in the workflow. */
  readonly code: string;
  /** Exit status of a program that ends by this error. @default 2 */
  readonly exitCode: number;

  constructor(code: string, message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = code;
    this.code = code;
    this.exitCode = options.exitCode ?? ExitCode.UserError;
  }
}

/** Exit statuses of every program of ours. */
export const ExitCode = {
  Ok: 0,
  /** A defect of ours, or an unexpected failure: the stack is printed. */
  Failure: 1,
  /** Bad input: one line is printed. */
  UserError: 2,
  /** EX_TEMPFAIL: stopped or lost a peer; run the same command again and it continues. AWS Batch retries it. */
  TemporaryFailure: 75,
} as const;
