import { z } from 'zod';
import { ExitCode, GenViewError } from '../errors.ts';

/** The error by which one process ends, as the others of its group are told. */
export interface Failure {
  /** Of the process. */
  readonly rank: number;
  /** Its machine, as AWS Batch counts: the log of that node says more. */
  readonly node: number;
  /** As of a {@link GenViewError}; `InternalError` for anything else. */
  readonly code: string;
  readonly message: string;
  /** Decides whether the job is tried again: 75 is, nothing else. */
  readonly exitCode: number;
}

/** In UTF-16 units: what a person reads of it, also if somebody put a file into a message. */
const longestMessage = 4000;
/** Bytes of a failure as JSON; no character needs more than six. */
export const longestFailure = 32_768;

const failure = z.object({
  rank: z.int().min(0), node: z.int().min(0), code: z.string().regex(/^\w{1,100}$/), message: z.string().max(longestMessage), exitCode: z.int().min(1).max(255),
});

/** What the others are to be told of an error of this process. */
export function failureOf(error: unknown, { rank, node }: { readonly rank: number; readonly node: number }): Failure {
  const known = error instanceof GenViewError ? error : undefined;
  const text = known?.message ?? (error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  return {
    rank, node, code: known?.code ?? 'InternalError', exitCode: known?.exitCode ?? ExitCode.Failure,
    message: text.length > longestMessage ? `${text.slice(0, longestMessage - 1)}…` : text,
  };
}

/** What the others are to be told of a process that is asked to stop: it has not failed, and the job may be tried again. */
export function failureOfStop(reason: unknown, where: { readonly rank: number; readonly node: number }): Failure {
  const failure = failureOf(reason, where);
  return reason instanceof GenViewError ? failure : { ...failure, code: 'Stopped', exitCode: ExitCode.TemporaryFailure };
}

/** A failure that came over the network; undefined for anything else. */
export function checkFailure(value: unknown): Failure | undefined {
  return failure.safeParse(value).data;
}

/** The error by which all others of the group end: with the same code and exit status, and the place of the one that failed. */
export function errorOfFailure({ rank, node, code, message, exitCode }: Failure, size: number): GenViewError {
  return new GenViewError(code, `rank ${rank} of ${size} (node ${node}): ${message}`, { exitCode });
}
