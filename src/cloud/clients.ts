import type { BatchClient } from '@aws-sdk/client-batch';
import type { CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import type { SFNClient } from '@aws-sdk/client-sfn';
import { ExitCode, GenViewError } from '../errors.ts';
import { checkAwsEnvironment } from '../storage/awsEnvironment.ts';
import { credentialErrors, explainUnreachable } from './callErrors.ts';

/**
 * Clients of the services that drive a cloud run. Region, credentials and endpoints come from where the AWS SDK finds them:
 * environment, profile, role; `AWS_ENDPOINT_URL`, or `AWS_ENDPOINT_URL_SFN`, `…_BATCH` and `…_CLOUDWATCH_LOGS` for one service.
 * The SDKs are loaded on first use.
 */
export interface Clients {
  sfn<T>(call: (sdk: typeof import('@aws-sdk/client-sfn'), client: SFNClient) => Promise<T>): Promise<T>;
  batch<T>(call: (sdk: typeof import('@aws-sdk/client-batch'), client: BatchClient) => Promise<T>): Promise<T>;
  logs<T>(call: (sdk: typeof import('@aws-sdk/client-cloudwatch-logs'), client: CloudWatchLogsClient) => Promise<T>): Promise<T>;
}

export function openClients(): Clients {
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  // The services' rates are low (20 to 50 calls a second): many attempts, with the client's own slowing down.
  const common = { maxAttempts: 8, retryMode: 'adaptive', ...region() };
  return {
    sfn: service('Step Functions', () => import('@aws-sdk/client-sfn'), (sdk) => new sdk.SFNClient(common)),
    batch: service('Batch', () => import('@aws-sdk/client-batch'), (sdk) => new sdk.BatchClient(common)),
    logs: service('CloudWatch Logs', () => import('@aws-sdk/client-cloudwatch-logs'), (sdk) => new sdk.CloudWatchLogsClient(common)),
  };
}

/** Other tools also read AWS_DEFAULT_REGION; a server of one's own has no regions. */
function region(): { region?: string } {
  const { AWS_REGION: chosen, AWS_DEFAULT_REGION: otherwise, AWS_ENDPOINT_URL: endpoint } = process.env;
  if (chosen) return {};
  if (otherwise) return { region: otherwise };
  return endpoint ? { region: 'us-east-1' } : {};
}

function service<Sdk, Client>(name: string, load: () => Promise<Sdk>, create: (sdk: Sdk) => Client): <T>(call: (sdk: Sdk, client: Client) => Promise<T>) => Promise<T> {
  let opened: Promise<{ sdk: Sdk; client: Client }> | undefined;
  return async (call) => {
    checkAwsEnvironment();
    opened ??= load().then((sdk) => ({ sdk, client: create(sdk) }));
    const { sdk, client } = await opened;
    try { return await call(sdk, client); } catch (error) { throw explainFailure(error, name); }
  };
}

/** What a person can do about a refused call; other errors, those that the caller knows included, as they are. */
export function explainFailure(error: unknown, service: string): unknown {
  if (!(error instanceof Error) || error instanceof GenViewError) return error;
  const { name, message } = error, status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
  const unreachable = explainUnreachable(error, service);
  if (unreachable) return unreachable;
  if (credentialErrors.has(name)) return new GenViewError('AccessDenied', `${service} refuses these AWS credentials (${name}); renew them`, { cause: error });
  if (name.startsWith('AccessDenied') || status === 403) return new GenViewError('AccessDenied', `${service} denies the call: ${message}; docs/aws.md lists the rights that driving a run needs`, { cause: error });
  if (name === 'StateMachineDoesNotExist' || name === 'InvalidArn' || name === 'ResourceNotFound') {
    return new GenViewError('DeploymentNotFound', `there is no such state machine here (${message}); check AWS_REGION, and --state-machine or GENVIEW_STATE_MACHINE`, { cause: error });
  }
  if (status !== undefined && status >= 500 || /Throttling|TooManyRequests/.test(name)) {
    return new GenViewError('CloudFailure', `${service} answered ${name}: ${message}; run the same command again`, { cause: error, exitCode: ExitCode.TemporaryFailure });
  }
  return error;
}

/** Runs `work` over `items`, so many at a time; results in the order of the items. After a failure no further item is begun. */
export async function mapLimited<T, R>(items: readonly T[], limit: number, work: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = Array.from({ length: items.length });
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, async () => {
    while (next < items.length) {
      const index = next++;
      try { results[index] = await work(items[index]!, index); } catch (error) { next = items.length; throw error; }
    }
  }));
  return results;
}
