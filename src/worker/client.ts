import type { SFNClient } from '@aws-sdk/client-sfn';
import { connectionErrors, credentialErrors, explainUnreachable } from '../cloud/callErrors.ts';
import { ExitCode, GenViewError } from '../errors.ts';
import { checkAwsEnvironment } from '../storage/awsEnvironment.ts';

export type Sdk = typeof import('@aws-sdk/client-sfn');

/**
 * A client of Step Functions. Region, credentials and endpoint come from where the AWS SDK finds them: environment
 * (`AWS_ENDPOINT_URL_SFN` or `AWS_ENDPOINT_URL` for any other server), profile, role.
 */
export async function openStepFunctions(): Promise<{ readonly sdk: Sdk; readonly client: SFNClient }> {
  checkAwsEnvironment();
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const sdk = await import('@aws-sdk/client-sfn');
  const { AWS_REGION: region, AWS_DEFAULT_REGION: otherwise, AWS_ENDPOINT_URL_SFN: own, AWS_ENDPOINT_URL: all } = process.env;
  // A server of one's own has no regions.
  const fallback = otherwise || (own || all ? 'us-east-1' : undefined);
  // One poll for each kind of work stays open for a minute, beside heartbeats.
  return { sdk, client: new sdk.SFNClient({ maxAttempts: 5, requestHandler: { connectionTimeout: 5_000, httpAgent: { maxSockets: 200 }, httpsAgent: { maxSockets: 200 } }, ...(!region && fallback && { region: fallback }) }) };
}

/** Whether the call may succeed when it is repeated later: the server could not be reached, took too long, was too busy, or failed. */
export function isPassing(error: unknown): boolean {
  const { name, code, $metadata } = error as { name?: string; code?: string; $metadata?: { httpStatusCode?: number } };
  return (code !== undefined && connectionErrors.has(code)) || name === 'TimeoutError' || name === 'AbortError' || /Throttl|TooManyRequests|ServiceUnavailable/.test(name ?? '') || ($metadata?.httpStatusCode ?? 0) >= 500;
}

/** Whether the workflow no longer waits for a task: it timed out, its execution ended or was stopped, or a sibling failed. */
export function isGone(error: unknown): boolean {
  return ['TaskTimedOut', 'TaskDoesNotExist', 'InvalidToken'].includes((error as Error).name);
}

/** What a person can do about a refused call; other errors as they are. */
export function explainCall(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof GenViewError) return error;
  const { name, message } = error;
  const unreachable = explainUnreachable(error, 'Step Functions');
  if (unreachable) return unreachable;
  if (name.startsWith('AccessDenied') || credentialErrors.has(name)) {
    return new GenViewError('AccessDenied', `Step Functions denies the call (${name}): ${message}; the policy that the stack's output WorkerPolicy names has the rights of a worker`, { cause: error });
  }
  if (name === 'ActivityDoesNotExist') return new GenViewError('ActivitiesNotFound', `${message}; the deployment was removed or changed: start the worker again`, { cause: error });
  if (isPassing(error)) return new GenViewError('CloudUnreachable', `Step Functions cannot be reached (${name}); check network, AWS_REGION and AWS_ENDPOINT_URL`, { cause: error, exitCode: ExitCode.TemporaryFailure });
  return error;
}
