import type { ChildProcess } from 'node:child_process';
import { deferred } from '../../../src/distributed/deferred.ts';
import { StatesError } from '../../../src/workflow/asl/errors.ts';
import type { TaskHandler } from '../../../src/workflow/asl/interpreter.ts';
import { retries } from '../../../src/workflow/batch/localBatch.ts';
import { submittedJobs, type RunJob } from '../../../src/workflow/batch/submittedJobs.ts';
import { Slots } from '../../../src/workflow/batch/slots.ts';
import { batchStages, localThreads, programOf, type JobDefinitionName, type LambdaName } from '../../../src/workflow/stages.ts';
import type { Docker } from './docker.ts';

export interface ContainerOptions {
  readonly docker: Docker;
  /** Tag of an image. */
  readonly image: (name: string) => string;
  readonly network: string;
  /** For every container: where the store is. */
  readonly env: Readonly<Record<string, string>>;
  /** As the runner with child processes would have them: decide the threads. */
  readonly cores: number;
  readonly variants: readonly number[];
  /** More variables for an attempt. */
  readonly extra?: (container: Container) => Readonly<Record<string, string>>;
  /** Called with each line that a container writes. */
  readonly onLine: (line: string, container: Container) => void;
}

/** One attempt of a job, of a child of an array job, or of a node. */
export interface Container {
  readonly name: string;
  readonly stage: string;
  readonly index: number | undefined;
  readonly attempt: number;
}

interface Job {
  readonly JobName: string;
  readonly JobDefinition: JobDefinitionName;
  readonly ArrayProperties?: { readonly Size: number };
  readonly ContainerOverrides?: { readonly Command: readonly string[] };
  readonly NodeOverrides?: { readonly NumNodes: number; readonly NodePropertyOverrides: readonly [{ readonly ContainerOverrides: { readonly Command: readonly string[] } }] };
}

/** AWS Batch and Lambda with containers on this machine: the images, variables, retries and networks as there, each node with an address of its own. */
export function containerHandlers(options: ContainerOptions): { readonly handlers: Readonly<Record<string, TaskHandler>>; readonly codes: Readonly<Record<string, number[]>> } {
  const { docker } = options;
  const slots = new Slots(2 * options.cores);
  /** Exit codes of all attempts, by job, child or node. */
  const codes: Record<string, number[]> = {};
  let started = 0;

  const flags = (name: string, env: Readonly<Record<string, string>>): string[] => ['run', '--rm', '--name', name, '--network', options.network,
    // As strict as a job definition can be.
    '--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', ...Object.entries({ ...options.env, ...env }).flatMap(([key, value]) => ['--env', `${key}=${value}`])];

  const run = async (job: Job, id: string, index: number | undefined, attempt: number, variables: Readonly<Record<string, string>>, begun?: (container: Container) => void): Promise<number> => {
    const stage = programOf(job.JobDefinition);
    const container: Container = { name: `${options.network}-${started++}`, stage, index, attempt };
    const env = {
      AWS_BATCH_JOB_ID: id, AWS_BATCH_JOB_ATTEMPT: String(attempt), AWS_BATCH_CE_NAME: 'containers', AWS_BATCH_JQ_NAME: 'test', AWS_EXECUTION_ENV: 'AWS_ECS_EC2',
      AWS_EC2_METADATA_DISABLED: 'true',
      GENVIEW_THREADS: String(localThreads(stage, options.cores, options.variants)), ...variables, ...options.extra?.(container),
    };
    const { Command } = job.ContainerOverrides ?? job.NodeOverrides!.NodePropertyOverrides[0].ContainerOverrides;
    const child = docker.start([...flags(container.name, env), options.image(batchStages[stage].image), ...Command]);
    for (const stream of [child.stdout!, child.stderr!]) readLines(stream, (line) => options.onLine(line, container));
    begun?.(container);
    const code = await ended(child);
    (codes[id] ??= []).push(code);
    return code;
  };

  /** Until an attempt succeeds or the retry strategy says no. */
  const attempts = async (job: Job, once: (attempt: number) => Promise<number>): Promise<void> => {
    const { retry } = batchStages[programOf(job.JobDefinition)];
    const release = await slots.take(job.NodeOverrides?.NumNodes ?? 1, new AbortController().signal);
    try {
      for (let attempt = 1; ; attempt++) {
        const exitCode = await once(attempt);
        if (exitCode === 0) return;
        if (attempt === retry.attempts || !retries(retry, { statusReason: 'Essential container in task exited', reason: '', exitCode })) {
          throw new StatesError('States.TaskFailed', JSON.stringify({ JobName: job.JobName, StatusReason: `exit code ${exitCode}` }));
        }
      }
    } finally { release(); }
  };

  const nodes = async (job: Job, count: number, attempt: number): Promise<number> => {
    const common = { AWS_BATCH_JOB_NUM_NODES: String(count), AWS_BATCH_JOB_MAIN_NODE_INDEX: '0' };
    const address = deferred<string>();
    const main = run(job, `${job.JobName}#0`, 0, attempt, { ...common, AWS_BATCH_JOB_NODE_INDEX: '0' }, ({ name }) => { void addressOf(docker, name).then((found) => address.resolve(found), (error: unknown) => address.reject(error)); });
    const AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS = await address.promise;
    const others = Array.from({ length: count - 1 }, (_, i) => run(job, `${job.JobName}#${i + 1}`, i + 1, attempt, { ...common, AWS_BATCH_JOB_NODE_INDEX: String(i + 1), AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS }));
    return (await Promise.all([main, ...others]))[0]!;
  };

  const runJob: RunJob = async (argument, context) => {
    const job = argument as unknown as Job;
    context.submitted({ JobId: job.JobName, JobName: job.JobName });
    const { ArrayProperties, NodeOverrides } = job;
    if (NodeOverrides) await attempts(job, (attempt) => nodes(job, NodeOverrides.NumNodes, attempt));
    else if (ArrayProperties) {
      await Promise.all(Array.from({ length: ArrayProperties.Size }, (_, index) => attempts(job, (attempt) =>
        run(job, `${job.JobName}:${index}`, index, attempt, { AWS_BATCH_JOB_ARRAY_INDEX: String(index), AWS_BATCH_JOB_ARRAY_SIZE: String(ArrayProperties.Size) }))));
    } else await attempts(job, (attempt) => run(job, job.JobName, undefined, attempt, {}));
    return { JobId: job.JobName, JobName: job.JobName, Status: 'SUCCEEDED' };
  };

  return {
    codes,
    handlers: {
      'states:::batch:submitJob.sync': runJob,
      ...submittedJobs(runJob).handlers,
      'states:::lambda:invoke': async (argument) => {
        const { FunctionName, Payload } = argument as unknown as { FunctionName: LambdaName; Payload: object };
        const call = 'const { handler } = await import(`/var/task/lambdas/${process.argv[1]}/handler.mjs`); process.stdout.write(JSON.stringify((await handler(JSON.parse(process.argv[2]), {})) ?? null), () => process.exit(0));';
        const name = `${options.network}-${started++}`;
        const written = await docker.run([...flags(name, {}), options.image('functions'), 'node', '--input-type=module', '--eval', call, FunctionName, JSON.stringify(Payload)]);
        // The function's log lines come first.
        return { StatusCode: 200, Payload: JSON.parse(written.trimEnd().split('\n').at(-1)!) as unknown };
      },
    },
  };
}

/** The address of a container that is starting. */
async function addressOf(docker: Docker, name: string): Promise<string> {
  for (let i = 0; i < 600; i++) {
    const address = await docker.run(['inspect', '--format', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', name]).catch(() => '');
    if (address !== '') return address;
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`container ${name} has no address`);
}

function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => { child.on('error', reject); child.on('close', (code) => resolve(code ?? -1)); });
}

function readLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    lines.forEach(onLine);
  });
}
