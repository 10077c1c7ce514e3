import { SFNClient, DescribeExecutionCommand, DescribeStateMachineCommand, ListStateMachinesCommand, paginateGetExecutionHistory, StartExecutionCommand, StopExecutionCommand, type DescribeExecutionOutput, type HistoryEvent as ServerEvent } from '@aws-sdk/client-sfn';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { Random } from '../../src/random.ts';
import { openStore } from '../../src/storage/index.ts';
import { createTaskRunner } from '../../src/worker/task.ts';
import type { Json, StateMachineDefinition } from '../../src/workflow/asl/definition.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { execute } from '../../src/workflow/asl/interpreter.ts';
import { artefactsIn } from './support/artefacts.ts';
import { installLocalStack, startLocalStack, type LocalStack } from './support/localstack.ts';
import { processesOf } from './support/program.ts';

const missing = installLocalStack();
if (missing) console.warn(`skipped: ${missing}`);

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Seconds without a heartbeat after which a worker counts as lost. */
const heartbeat = 4;

const recipe = `
name: tiny
dataset: { url: images, shardSize: 12 }
foreground: { sampleImages: 16 }
generation: { noise: adaptive, steps: 2, batch: 4 }
pretraining:
  method: mocov2
  backbone: { name: resnet-small, width: 8 }
  epochs: 8
  batch: 8
  queue: 16
  checkpointSteps: 2
  schedule: { warmupEpochs: 1 }
variants:
  - name: baseline
    pretraining: { views: { probability: 0 } }
  - name: genview
    pretraining: { qualityLoss: { enabled: true }, nodes: 2 }
evaluation:
  linear: { epochs: 1, batch: 8 }
  knn: { k: 3 }
  semiSupervised: { fraction: 0.5, epochs: 1, batch: 8 }
`;

/** Two classes of coloured squares on noise. */
async function putDataset(url: string): Promise<void> {
  const store = openStore(url);
  for (const [split, count] of [['train', 12], ['val', 4]] as const) for (const [channel, name] of ['red', 'green'].entries()) {
    for (let i = 0; i < count; i++) {
      const random = new Random(split, name, i), data = Buffer.alloc(32 * 32 * 3);
      const [left, top] = [random.integer(16), random.integer(16)];
      for (let y = 0; y < 32; y++) for (let x = 0; x < 32; x++) for (let c = 0; c < 3; c++) {
        const inside = x >= left && x < left + 14 && y >= top && y < top + 14;
        data[3 * (32 * y + x) + c] = inside ? (c === channel ? 230 : 30) : 90 + random.integer(60);
      }
      await store.put(`${split}/${name}/${i}.png`, await sharp(data, { raw: { width: 32, height: 32, channels: 3 } }).png().toBuffer());
    }
  }
}

interface Worker {
  readonly child: ChildProcess;
  text(): string;
  readonly ended: Promise<number | null>;
}
const workers: Worker[] = [];
/** `genview worker`, the real program. */
function startWorker(name: string, ...options: readonly string[]): Worker {
  const child = spawn(process.execPath, [path.join(root, 'bin', 'genview.mjs'), 'worker', '--name', name, ...options], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
  let text = '';
  for (const stream of [child.stdout!, child.stderr!]) stream.setEncoding('utf8').on('data', (part: string) => { text += part; });
  const worker = { child, text: () => text, ended: new Promise<number | null>((resolve) => { child.once('close', resolve); }) };
  workers.push(worker);
  return worker;
}

async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined, seconds = 240): Promise<T> {
  for (const end = Date.now() + 1000 * seconds; ;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}\n${workers.map(({ text }) => text().slice(-3000)).join('\n--\n')}`);
    await sleep(100);
  }
}

describe.skipIf(missing)('the workflow on LocalStack, with workers', () => {
  let folder: string, localStack: LocalStack, client: SFNClient, machine: string, definition: StateMachineDefinition, bucket: string;
  const before = { ...process.env };

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-localstack-'));
    localStack = await startLocalStack(path.join(folder, 'server'));
    Object.assign(process.env, localStack.env);
    execFileSync(process.execPath, [path.join(root, 'node_modules', 'aws-cdk', 'bin', 'cdk'), 'deploy', '-c', 'target=localstack', '-c', `heartbeatSeconds=${heartbeat}`, '--require-approval', 'never', '--no-notices', '--output', path.join(folder, 'cdk.out')], { cwd: root, stdio: 'pipe', timeout: 400_000, env: { ...process.env, CDK_DISABLE_CLI_TELEMETRY: 'true' } });
    client = new SFNClient({});
    const { stateMachines } = await client.send(new ListStateMachinesCommand({}));
    machine = stateMachines![0]!.stateMachineArn!;
    const described = await client.send(new DescribeStateMachineCommand({ stateMachineArn: machine }));
    definition = JSON.parse(described.definition!) as StateMachineDefinition;
    bucket = (await (await fetch(`${localStack.env['AWS_ENDPOINT_URL']}/`, { headers: { authorization: 'AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0' } })).text()).match(/<Name>([^<]+)<\/Name>/)![1]!;
    await putDataset(`s3://${bucket}/recipes/images/`);
    await openStore(`s3://${bucket}/recipes/`).put('tiny.yaml', recipe);
  });
  afterAll(async () => {
    for (const { child } of workers) child.kill('SIGKILL');
    await localStack?.stop();
    process.env = before;
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const input = (store: string): { recipe: string; store: string } => ({ recipe: `s3://${bucket}/recipes/tiny.yaml`, store: `s3://${bucket}/${store}/` });
  const start = async (store: string): Promise<string> => (await client.send(new StartExecutionCommand({ stateMachineArn: machine, input: JSON.stringify(input(store)) }))).executionArn!;
  const ended = (executionArn: string): Promise<DescribeExecutionOutput> => until('the execution has ended', async () => {
    const execution = await client.send(new DescribeExecutionCommand({ executionArn }));
    return execution.status === 'RUNNING' ? undefined : execution;
  });
  const historyOf = async (executionArn: string): Promise<ServerEvent[]> => {
    const events: ServerEvent[] = [];
    for await (const page of paginateGetExecutionHistory({ client }, { executionArn })) events.push(...page.events ?? []);
    return events;
  };

  it('times', async () => {
    const t0 = Date.now();
    const events: HistoryEvent[] = [];
    const runTask = createTaskRunner({ log: silentLog });
    const resources = [...JSON.stringify(definition).matchAll(/"arn:aws:(states:[^"]*:activity:[^"]*)"/g)].map(([, resource]) => resource!);
    const output = await execute(definition, input('local'), {
      handlers: Object.fromEntries(resources.map((resource) => [resource, async (argument, { signal, heartbeat: beat }) => {
        const timer = setInterval(beat, 1000);
        try { return await runTask(argument, signal); } finally { clearInterval(timer); }
      }])),
      onEvent: (event) => events.push(event),
    });
    console.log('local', (Date.now() - t0) / 1000, output);
    const t1 = Date.now();
    const one = startWorker('one');
    const arn = await start('served');
    const execution = await ended(arn);
    console.log('served', (Date.now() - t1) / 1000, execution.status, execution.output, execution.error, execution.cause);
    console.log(one.text().slice(-2000));
    const history = await historyOf(arn);
    const { writeFileSync } = await import('node:fs');
    writeFileSync('/tmp/w4/local.json', JSON.stringify(events, null, 1));
    writeFileSync('/tmp/w4/served.json', JSON.stringify(history, null, 1));
    expect(await artefactsIn(openStore(`s3://${bucket}/served/`))).toEqual(await artefactsIn(openStore(`s3://${bucket}/local/`)));
  });
  void (readdirSync, processesOf, StopExecutionCommand, [] as Json[]);
});
