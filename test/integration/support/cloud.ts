import { spawn, execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BatchClient } from '@aws-sdk/client-batch';
import { DescribeExecutionCommand, type SFNClient, StopExecutionCommand } from '@aws-sdk/client-sfn';
import { freePort, waitForPort } from './ports.ts';

const version = '5.2.5';
const environment = path.join(os.tmpdir(), `genview-moto-cloud-${version}`);

/** A virtual environment with moto's server for S3, Step Functions, Batch and CloudWatch Logs, made once. @returns why not, when it cannot be had */
export function installCloud(): string | undefined {
  if (existsSync(path.join(environment, 'complete'))) return undefined;
  try {
    execFileSync('python3', ['-m', 'venv', environment], { stdio: 'pipe' });
    execFileSync(path.join(environment, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', `moto[s3,server,stepfunctions,batch]==${version}`], { stdio: 'pipe', timeout: 600_000 });
    writeFileSync(path.join(environment, 'complete'), '');
    return undefined;
  } catch (error) {
    return `Python with moto ${version} from PyPI cannot be had here: ${String((error as Error).message).split('\n')[0]}`;
  }
}

export interface Cloud {
  readonly env: Readonly<Record<string, string>>;
  readonly sfn: SFNClient;
  readonly batch: BatchClient;
  /** ARN of the job queue. */
  readonly queue: string;
  /** Creates a state machine, tagged as a deployment. @returns its ARN */
  deploy(name: string, definition: object, tags: Readonly<Record<string, string>>): Promise<string>;
  /** Writes lines into a new log group, as a function would. */
  writeLog(group: string, lines: readonly string[]): Promise<void>;
  stop(): void;
}

/** First state of a workflow as the real one looks to who drives it, in JSONPath: the run's identity from the name of its recipe, and its URL for the states behind. */
export const resolveRecipeState = (next: string): object => ({ Type: 'Pass', Parameters: { 'runId.$': "States.ArrayGetItem(States.StringSplit($.recipe, '/.'), 3)", 'store.$': '$.store' }, Next: next });
/** JSONPath for a stage's command in such a workflow. */
export const stageCommand = (stage: string): string => `States.Array('${stage}', '--run', States.Format('{}runs/{}/', $.store, $.runId))`;

/**
 * A state machine whose executions run until they are stopped. It wakes every second because moto's does not hear of a stop that comes
 * while it is between two states.
 */
export const waitingMachine = { StartAt: 'Wait', States: { Wait: { Type: 'Wait', Seconds: 1, Next: 'Wait' } } };

/** Stops an execution of such a machine and returns when it has stopped, which is later than the answer to the request. */
export async function stopExecution(client: SFNClient, executionArn: string): Promise<void> {
  await client.send(new StopExecutionCommand({ executionArn }));
  for (let i = 0; ; i++) {
    const { status } = await client.send(new DescribeExecutionCommand({ executionArn }));
    if (status === 'ABORTED') return;
    if (i === 600) throw new Error(`${executionArn} was stopped a minute ago and is ${status}`);
    await sleep(100);
  }
}

/** Log group of the jobs. */
export const jobLogGroup = '/genview/jobs';

/**
 * Starts the server with one empty bucket, a job queue and the job definitions `stage` and, for several nodes, `stage-nodes`.
 * @param script run by `sh` as each job, with the job's command as its arguments
 */
export async function startCloud(bucket: string, script: string): Promise<Cloud> {
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const env = { AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'us-east-1' };
  const server = spawn(path.join(environment, 'bin', 'python'), [fileURLToPath(new URL('cloudServer.py', import.meta.url)), String(port)],
    { stdio: ['ignore', 'ignore', process.env['GENVIEW_DEBUG'] ? 'inherit' : 'ignore'], env: { ...process.env, JOB_SCRIPT: script } });
  await waitForPort(port, server);
  await fetch(`${endpoint}/${bucket}`, { method: 'PUT' });
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
  const [batchSdk, sfnSdk, logsSdk] = await Promise.all([import('@aws-sdk/client-batch'), import('@aws-sdk/client-sfn'), import('@aws-sdk/client-cloudwatch-logs')]);
  const common = { endpoint, region: env.AWS_REGION, credentials: { accessKeyId: 'test', secretAccessKey: 'test' } };
  const batch = new batchSdk.BatchClient(common), sfn = new sfnSdk.SFNClient(common), logs = new logsSdk.CloudWatchLogsClient(common);
  // No client of IAM is installed; one call does not need one.
  await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'authorization': 'AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0' },
    body: new URLSearchParams({ Action: 'CreateRole', Version: '2010-05-08', RoleName: 'service', AssumeRolePolicyDocument: '{}' }),
  });
  const role = 'arn:aws:iam::123456789012:role/service';
  const { computeEnvironmentArn } = await batch.send(new batchSdk.CreateComputeEnvironmentCommand({ computeEnvironmentName: 'machines', type: 'UNMANAGED', serviceRole: role, state: 'ENABLED' }));
  const { jobQueueArn } = await batch.send(new batchSdk.CreateJobQueueCommand({ jobQueueName: 'gpu', priority: 1, state: 'ENABLED', computeEnvironmentOrder: [{ order: 1, computeEnvironment: computeEnvironmentArn! }] }));
  const container = { image: 'none', vcpus: 1, memory: 512, command: [], logConfiguration: { logDriver: 'awslogs' as const, options: { 'awslogs-group': jobLogGroup } } };
  await batch.send(new batchSdk.RegisterJobDefinitionCommand({ jobDefinitionName: 'stage', type: 'container', containerProperties: container }));
  await batch.send(new batchSdk.RegisterJobDefinitionCommand({
    jobDefinitionName: 'stage-nodes', type: 'multinode', nodeProperties: { numNodes: 2, mainNode: 0, nodeRangeProperties: [{ targetNodes: '0:', container }] },
  }));
  return {
    env, batch, sfn, queue: jobQueueArn!,
    deploy: async (name, definition, tags) => (await sfn.send(new sfnSdk.CreateStateMachineCommand({
      name, definition: JSON.stringify(definition), roleArn: role, tags: Object.entries(tags).map(([key, value]) => ({ key, value })),
    }))).stateMachineArn!,
    writeLog: async (logGroupName, lines) => {
      await logs.send(new logsSdk.CreateLogGroupCommand({ logGroupName }));
      await logs.send(new logsSdk.CreateLogStreamCommand({ logGroupName, logStreamName: 'stream' }));
      await logs.send(new logsSdk.PutLogEventsCommand({ logGroupName, logStreamName: 'stream', logEvents: lines.map((message) => ({ message, timestamp: Date.now() })) }));
    },
    stop: () => { logs.destroy(); batch.destroy(); sfn.destroy(); server.kill(); },
  };
}
