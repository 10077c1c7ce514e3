import { SFNClient, DescribeExecutionCommand, DescribeStateMachineCommand, paginateGetExecutionHistory, StartExecutionCommand, type DescribeExecutionOutput, type HistoryEvent as ServerEvent } from '@aws-sdk/client-sfn';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { openStore } from '../../src/storage/index.ts';
import { createTaskRunner } from '../../src/worker/task.ts';
import type { Json, StateMachineDefinition } from '../../src/workflow/asl/definition.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { execute, type TaskHandler } from '../../src/workflow/asl/interpreter.ts';
import { genview, genviewHere } from '../cli/program.ts';
import { artefactsIn } from './support/artefacts.ts';
import { installLocalStack, startLocalStack, type LocalStack } from './support/localstack.ts';
import { readable, type Readable } from './support/readableHistory.ts';
import { processesOf } from './support/program.ts';
import { colouredSquare } from './support/squares.ts';

const missing = installLocalStack();
if (missing) console.warn(`skipped: ${missing}`);

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Seconds without a heartbeat after which a worker counts as lost. */
const heartbeat = 9;

const recipe = `
name: tiny
dataset: { url: images, shardSize: 16 }
foreground: { sampleImages: 16 }
generation: { noise: adaptive, steps: 2, batch: 4 }
pretraining:
  method: mocov2
  backbone: { name: resnet-small, width: 8 }
  epochs: 6
  batch: 8
  queue: 16
  checkpointSteps: 2
  schedule: { warmupEpochs: 1 }
variants:
  - name: genview
    pretraining: { qualityLoss: { enabled: true }, nodes: 2 }
evaluation:
  linear: { epochs: 1, batch: 8 }
  knn: { k: 3 }
  semiSupervised: { fraction: 0.5, epochs: 1, batch: 8 }
`;

/** Two classes of coloured squares on noise. */
async function putDataset(folder: string): Promise<void> {
  const store = openStore(folder);
  for (const [split, count] of [['train', 12], ['val', 4]] as const) for (const [channel, name] of ['red', 'green'].entries()) {
    for (let i = 0; i < count; i++) {
      await store.put(`${split}/${name}/${i}.png`, await colouredSquare(channel, split, name, i));
    }
  }
}

interface Worker {
  readonly child: ChildProcess;
  readonly text: () => string;
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

async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined, seconds = 600): Promise<T> {
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
    execFileSync(process.execPath, [path.join(root, 'node_modules', 'aws-cdk', 'bin', 'cdk'), 'deploy', '-c', 'target=localstack', '-c', `heartbeatSeconds=${heartbeat}`, '--require-approval', 'never', '--no-notices', '--output', path.join(folder, 'cdk.out'), '--outputs-file', path.join(folder, 'outputs.json')], { cwd: root, stdio: 'pipe', timeout: 800_000, env: { ...process.env, CDK_DISABLE_CLI_TELEMETRY: 'true', CDK_VALIDATION: 'false' } });
    client = new SFNClient({});
    const { GenViewLocal: outputs } = JSON.parse(readFileSync(path.join(folder, 'outputs.json'), 'utf8')) as { GenViewLocal: { StateMachineArn: string; StoreUrl: string } };
    machine = outputs.StateMachineArn;
    bucket = /^s3:\/\/([^/]+)\/$/.exec(outputs.StoreUrl)![1]!;
    const described = await client.send(new DescribeStateMachineCommand({ stateMachineArn: machine }));
    definition = JSON.parse(described.definition!) as StateMachineDefinition;
    await putDataset(path.join(folder, 'images'));
  });
  afterAll(async () => {
    for (const { child } of workers) child.kill('SIGKILL');
    await localStack?.stop();
    process.env = before;
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const executionOf = (name: string): string => `${machine.replace(':stateMachine:', ':execution:')}:${name}`;
  /** `genview submit`. @returns the run and its execution */
  async function submit(name: string, text: string): Promise<{ runId: string; execution: string; stdout: string }> {
    const file = path.join(folder, `${name}.yaml`);
    writeFileSync(file, text);
    const { code, stdout, stderr } = await genview(['submit', file, '--upload']);
    expect(code, stderr).toBe(0);
    const [, runId, execution] = /^(\S+) started: execution (\S+)$/m.exec(stdout)!;
    return { runId: runId!, execution: executionOf(execution!), stdout };
  }
  /** A command that looks at the deployment and prints something. */
  async function see(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await genviewHere([...args, '--cloud']);
    expect(code, stderr).toBe(0);
    return stdout;
  }
  const ended = (executionArn: string): Promise<DescribeExecutionOutput> => until('the execution has ended', async () => {
    const execution = await client.send(new DescribeExecutionCommand({ executionArn }));
    return execution.status === 'RUNNING' ? undefined : execution;
  });
  const keys = async (prefix: string): Promise<string[]> => {
    const found: string[] = [];
    for await (const { key } of openStore(`s3://${bucket}/`).list(prefix)) found.push(key);
    return found;
  };
  const historyOf = async (executionArn: string): Promise<ServerEvent[]> => {
    const events: ServerEvent[] = [];
    for await (const page of paginateGetExecutionHistory({ client }, { executionArn })) events.push(...page.events ?? []);
    return events;
  };

  /** The deployed definition in our own interpreter, with the same stage programs. */
  async function interpret(input: { readonly recipe: string; readonly store: string }): Promise<{ output: Json; events: HistoryEvent[] }> {
    const events: HistoryEvent[] = [];
    const runTask = createTaskRunner({ log: silentLog });
    const resources = new Set([...JSON.stringify(definition).matchAll(/"arn:aws:(states:[^"]*:activity:[^"]*)"/g)].map(([, resource]) => resource!));
    const handler: TaskHandler = async (argument, { signal, heartbeat: beat }) => {
      const timer = setInterval(beat, 500);
      try { return await runTask(argument, signal); } finally { clearInterval(timer); }
    };
    const output = await execute(definition, input, { handlers: Object.fromEntries([...resources].map((resource) => [resource, handler])), onEvent: (event) => events.push(event) });
    return { output, events };
  }

  it('succeeds although one worker is killed and one is stopped half-way, with the history, the outputs and the bytes that our own interpreter gives', async () => {
    const { runId, execution, stdout: submitted } = await submit('tiny', recipe);
    expect(submitted).toContain('workers do the work of this deployment: that is what AWS Batch would cost\n');
    expect(submitted).toContain(`  run     s3://${bucket}/runs/${runId}/\n  status  genview status ${runId} --cloud --watch\n`);
    // Java starts first, for JSONata.
    await until('the first task waits', async () => new RegExp(`^${runId}: running for [^\n]+\n {2}resolve-recipe {2}0/1 {2}waiting for a worker\n$`).test(await see('status')) || undefined);
    const watching = genview(['status', 'tiny', '--cloud', '--watch', '--interval', '1']);

    const killed = startWorker('killed');
    // The lease of a shard that is under way, or the marker of one that was quicker than we are.
    await until('views are generated', async () => (await keys('views/')).some((key) => /shard-\d+\.done(\.lease)?$/.test(key)) || undefined);
    killed.child.kill('SIGKILL');
    const stopped = startWorker('stopped');
    await until('a checkpoint was written', async () => (await keys('pretrain/')).some((key) => key.endsWith('checkpoint.safetensors')) || undefined);
    stopped.child.kill('SIGTERM');
    startWorker('last');
    expect(await see('submit', path.join(folder, 'tiny.yaml'), '--upload')).toContain(`\n${runId} is running already: execution `);

    const watched = await watching;
    expect(watched.code, watched.stderr).toBe(0);
    expect(watched.stdout).toMatch(/ running on (killed|stopped|last)\n/);
    expect(watched.stdout).toMatch(new RegExp(`\n${runId}: done after [^\n]+\n {2}report {22}done\n$`));
    const { status, output } = await ended(execution);
    const events = await historyOf(execution);
    expect(status, JSON.stringify(events.at(-1))).toBe('SUCCEEDED');
    expect(await stopped.ended, stopped.text()).toBe(0);
    expect(stopped.text()).toContain('worker stopped stopped; nothing is left on its hands');

    const expected = await interpret({ recipe: `s3://${bucket}/recipes/${runId}.json`, store: `s3://${bucket}/here/` });
    const bytes = await artefactsIn(openStore(`s3://${bucket}/here/`));
    expect(Object.keys(bytes).length).toBeGreaterThan(25);
    const server = readable(events), here = readable(expected.events);
    expect(entered(server)).toEqual(entered(here));
    expect(results(server, bucket)).toEqual(results(here, bucket));
    expect(plain(output!, bucket)).toEqual(plain(JSON.stringify(expected.output), bucket));
    // The dataset that was uploaded lies beside what was made of it.
    expect(Object.fromEntries(Object.entries(await artefactsIn(openStore(`s3://${bucket}/`))).filter(([key]) => !key.startsWith('datasets/images/')))).toEqual(bytes);

    // What went on between: a missed heartbeat for the one, a task given back by the other, and work of all three.
    expect(server.filter(({ type }) => type === 'ActivityTimedOut').length).toBeGreaterThanOrEqual(1);
    expect(server.filter(({ type }) => type === 'ActivityFailed').map(({ details }) => details['error'])).toContain('TaskReturned');
    expect(new Set(server.filter(({ type }) => type === 'ActivityFailed').map(({ details }) => details['error']))).toEqual(new Set(['TaskReturned']));
    expect(new Set(server.filter(({ type }) => type === 'ActivityStarted').map(({ details }) => details['workerName']))).toEqual(new Set(['killed', 'stopped', 'last']));

    // What the other commands say of it.
    expect(await see('logs', 'tiny')).toMatch(/ {2}execution started\n[^]* {2}GenerateViewsBlock started\n[^]* {2}ActivityTimedOut [^]* {2}execution succeeded\n$/);
    const pretrained = await see('logs', 'tiny', 'pretrain');
    expect(pretrained).toMatch(/^==> pretrain-genview-node-0\n[^]*\n==> pretrain-genview-node-1\n/);
    // The process that was stopped and the one that went on.
    expect(pretrained).toMatch(/==> pretrain-genview-node-0\n[^=]*error: stopped: SIGTERM[^=]*pretrain: done in [^=]*==>/);
    expect(await see('logs', 'tiny', 'generate-views-00001')).toMatch(/^==> generate-views-00001\n/);
    expect(await see('logs', 'tiny', 'plan-views')).toMatch(/^==> plan-views\n\S+ {2}24 training and 8 validation images usable, 0 quarantined\n\S+ {2}plan-views done in \S+ s\n$/);
    expect(await genviewHere(['logs', 'tiny', 'record-failure', '--cloud'])).toMatchObject({ code: 2, stderr: expect.stringMatching(/^genview: there is no log of record-failure; there are [^;]*, shard-dataset; workers put the log of a job or function there when it has ended\n$/) as string });
    expect(await see('report', 'tiny', '--fetch', folder)).toMatch(new RegExp(`^variant [^\n]+\ngenview +[\\d.]+ [^]*\n\nreport {2}${folder}/report.html\n$`));
    expect(readFileSync(path.join(folder, 'report.html'), 'utf8')).toMatch(/^<!doctype html>/i);
    expect(await see('ls')).toMatch(new RegExp(`^run [^\n]+\n${runId} +done +\\S+ \\S+ +[^\n]+ 1\n$`));
    expect(await see('submit', path.join(folder, 'tiny.yaml'), '--upload')).toContain(`\n${runId} is done already: execution `);
  });

  it('fails with the error and cause that the function gave', async () => {
    await openStore(`s3://${bucket}/recipes/`).put('bad.yaml', 'name: bad\nnonsense: 1\n');
    const { executionArn } = await client.send(new StartExecutionCommand({ stateMachineArn: machine, input: JSON.stringify({ recipe: `s3://${bucket}/recipes/bad.yaml`, store: `s3://${bucket}/` }) }));
    const { status, error, cause } = await ended(executionArn!);
    expect([status, error]).toEqual(['FAILED', 'RecipeInvalid']);
    expect(JSON.parse(cause!)).toMatchObject({ errorType: 'RecipeInvalid', errorMessage: expect.stringContaining('nonsense') as string });
  });

  it('leaves no process behind when a run is cancelled while a worker is at it', async () => {
    // A pretraining that would take hours, on the views that are there.
    const { runId, execution } = await submit('long', recipe.replace('tiny', 'long').replace('epochs: 6', 'epochs: 50000'));
    const mine = (): string[] => processesOf(`s3://${bucket}/runs/${runId}/`);
    await until('it pretrains', () => mine().filter((line) => line.includes('containers/pretraining')).length === 2 || undefined);
    expect(await see('status', 'long')).toMatch(/\n {2}pretrain genview +0\/1 +running on last\n/);
    const cancelled = await genview(['cancel', 'long', '--cloud']);
    expect(cancelled).toMatchObject({ code: 0, stdout: `${runId} cancelled: 1 execution stopped; workers end what they do of it at their next heartbeat, within ${heartbeat / 3} seconds\n` });
    await until('its processes have ended', () => mine().length === 0 || undefined);
    await until('the worker says why', () => workers.at(-1)!.text().includes('the workflow does not wait for it any more') || undefined);
    // LocalStack calls it FAILED where a branch, which the stop ends with an error, is quicker than its own word.
    expect(['ABORTED', 'FAILED']).toContain((await ended(execution)).status);
    expect(await see('cancel', 'long')).toBe(`${runId} was not running; nothing to cancel\n`);
    expect(await see('logs', 'long', 'pretrain')).toMatch(/error: stopped: SIGTERM/);
  });
});

/** States of the machine itself in the order in which they were entered; behind each, sorted, those inside it: branches and iterations have no order. */
function entered(events: readonly Readable[]): string[][] {
  const outer = new Set(['ResolveRecipe', 'ShardDataset', 'DatasetComplete', 'FitForeground', 'AnalyzeForeground', 'PlanViews', 'GenerateViews', 'Train', 'Report', 'RecordFailure', 'Failed']);
  const groups: string[][] = [];
  for (const { type, details } of events) {
    if (!type.endsWith('StateEntered')) continue;
    if (outer.has(details['name']!)) groups.push([details['name']!]); else groups.at(-1)!.push(details['name']!);
  }
  return groups.map(([first, ...inner]) => [first!, ...inner.toSorted()]);
}

/** State, input and output of every task that succeeded, sorted. */
function results(events: readonly Readable[], bucket: string): string[] {
  const byId = new Map(events.map((event) => [event.id, event]));
  const before = (event: Readable, type: string): Readable => {
    let found = event;
    while (found.type !== type) found = byId.get(found.previous)!;
    return found;
  };
  return events.filter(({ type }) => type === 'ActivitySucceeded').map((event) => {
    const scheduled = before(event, 'ActivityScheduled');
    return JSON.stringify([before(scheduled, 'TaskStateEntered').details['name'], plain(scheduled.details['input']!, bucket), plain(event.details['output']!, bucket)]);
  }).toSorted();
}

/** A value without what differs between two runs: the store (of the deployment, or `here/` in its bucket), times, identities, and how often a job was tried. */
function plain(text: string, bucket: string): unknown {
  return JSON.parse(text.replaceAll(new RegExp(`s3://${bucket}/(here/)?`, 'g'), 's3://store/'), (key, value: unknown) =>
    (['JobId', 'CreatedAt', 'StartedAt', 'StoppedAt', 'Attempts'].includes(key) ? undefined : value)) as unknown;
}
