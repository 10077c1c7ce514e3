import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Json } from '../../src/workflow/asl/definition.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';
import { LocalBatch, retries, type LocalBatchOptions } from '../../src/workflow/batch/localBatch.ts';
import { Display } from '../../src/workflow/display.ts';
import type { Log } from '../../src/log.ts';
import { batchStages } from '../../src/workflow/stages.ts';

const program = fileURLToPath(new URL('fixtures/program.ts', import.meta.url));
let folder: string;
let said: string[];
beforeEach(() => { folder = mkdtempSync(join(tmpdir(), 'batch test ')); said = []; process.env['FIXTURE_FOLDER'] = folder; });
afterEach(() => { delete process.env['FIXTURE_BEHAVIOUR']; delete process.env['FIXTURE_FOLDER']; rmSync(folder, { recursive: true }); });

const log: Log = { info: (message) => said.push(message), warn: (message) => said.push(`warning: ${message}`), error: (message) => said.push(`error: ${message}`), progress: () => { throw new Error('not used'); } };

interface Outcome { job?: Record<string, any>; error?: StatesError; cause?: Record<string, any> }

async function submit(behaviour: string, request: Record<string, Json> = {}, options: Partial<LocalBatchOptions> = {}, signal = new AbortController().signal): Promise<Outcome> {
  process.env['FIXTURE_BEHAVIOUR'] = behaviour;
  const batch = new LocalBatch({ display: new Display(log, undefined), cores: 2, variants: () => [1], program: () => program, grace: 20_000, ...options });
  const job: Record<string, Json> = { JobName: 'job', JobDefinition: 'fit-foreground', JobQueue: 'gpu', ...('NodeOverrides' in request ? {} : { ContainerOverrides: { Command: ['fit-foreground', '--run', 'file:///x/'] } }), ...request };
  try {
    const context = { signal, submitted: (output: Json) => said.push(`submitted ${(output as { JobName: string }).JobName}`) };
    return { job: await ('NodeOverrides' in request ? batch.run(job, context) : batch.submitJob(job, context)) as Record<string, any> };
  } catch (error) {
    if (!(error instanceof StatesError)) throw error;
    return { error, ...(error.error === 'States.TaskFailed' && { cause: JSON.parse(error.cause) as Record<string, any> }) };
  }
}
const array = (size: number): Record<string, Json> => ({ JobDefinition: 'analyze-foreground', ArrayProperties: { Size: size }, ContainerOverrides: { Command: ['analyze-foreground', '--run', 'r'] } });
const nodes = (count: number): Record<string, Json> => ({ JobDefinition: 'pretrain-nodes', NodeOverrides: { NumNodes: count, NodePropertyOverrides: [{ TargetNodes: '0:', ContainerOverrides: { Command: ['pretrain', '--run', 'r', '--variant', 'v'] } }] } });
const seen = (name: string): Record<string, any> => JSON.parse(readFileSync(join(folder, `seen${name}.json`), 'utf8')) as Record<string, any>;
const notes = (): string => (existsSync(join(folder, 'notes')) ? readFileSync(join(folder, 'notes'), 'utf8') : '');
/** A dead process that nobody has collected yet (state Z) is not alive. */
const alive = (pid: number): boolean => {
  try { process.kill(pid, 0); } catch { return false; }
  const stat = `/proc/${pid}/stat`;
  return !existsSync(stat) || readFileSync(stat, 'utf8').split(') ')[1]?.[0] !== 'Z';
};
/** By a clock of its own, that no test turns. */
const later = setTimeout;
const until = async (test: () => boolean): Promise<void> => { for (let i = 0; !test(); i++) { if (i > 2000) throw new Error(`waited in vain\n${said.join('\n')}`); await new Promise((done) => { later(done, 25); }); } };

describe('a single job', () => {
  it('runs the program with the variables of Batch and all cores, and returns its description', async () => {
    const { job } = await submit('succeed', {}, { logFolder: () => join(folder, 'logs') });
    expect(job).toMatchObject({ JobName: 'job', JobQueue: 'gpu', Status: 'SUCCEEDED', Attempts: [{ Container: { ExitCode: 0, LogStreamName: join(folder, 'logs', 'fit-foreground.log') } }] });
    expect(seen('-1')).toMatchObject({ input: { run: 'file:///x/' }, threads: 2, env: { AWS_BATCH_JOB_ID: job!['JobId'], AWS_BATCH_JOB_ATTEMPT: '1', AWS_BATCH_JQ_NAME: 'gpu' } });
    expect(said).toEqual(['submitted job', 'fit-foreground started', expect.stringMatching(/^fit-foreground: working 4\/4 images/), expect.stringMatching(/^fit-foreground done in/)]);
    expect(readFileSync(join(folder, 'logs', 'fit-foreground.log'), 'utf8').split('\n')[0]).toContain('attempt 1');
  });

  it("fails with the program's own last error line, once, for a user's mistake", async () => {
    const { error, cause } = await submit('user-error');
    expect(error!.error).toBe('States.TaskFailed');
    expect(cause).toMatchObject({ Status: 'FAILED', StatusReason: 'DatasetMissing: there are no files at x: y; look there', Attempts: [{ StatusReason: 'Essential container in task exited', Container: { ExitCode: 2 } }] });
    expect(cause!['Attempts']).toHaveLength(1);
    expect(said).toContain('warning: fit-foreground: about to fail');
  });

  it('shows the stack of a defect', async () => {
    const { cause } = await submit('defect');
    expect(cause).toMatchObject({ StatusReason: 'InternalError: TypeError: cannot read undefined', Container: { ExitCode: 1 } });
    expect(said.find((line) => line.startsWith('error: TypeError'))).toContain('program.ts');
  });

  it('says what killed the program', async () => {
    expect((await submit('crash')).cause).toMatchObject({ StatusReason: 'killed by SIGKILL', Container: { ExitCode: 137 } });
  });

  it('is repeated after exit code 75, and says why', async () => {
    const { job } = await submit('twice');
    expect(job!['Attempts'].map((attempt: any) => attempt.Container.ExitCode)).toEqual([75, 0]);
    expect(seen('-2').env.AWS_BATCH_JOB_ATTEMPT).toBe('2');
    expect(said).toContain('warning: fit-foreground: PeerLost: rank 1 is gone; attempt 2');
  });

  it('is not repeated for ever', async () => {
    const stage = batchStages['fit-foreground'];
    const { cause } = await submit('always-75', {}, { stages: { ...batchStages, 'fit-foreground': { ...stage, retry: { ...stage.retry, attempts: 2 } } } });
    expect(cause!['Attempts']).toHaveLength(2);
    expect(cause).toMatchObject({ Container: { ExitCode: 75 } });
  });

  it('is ended after its timeout, by SIGKILL when it ignores SIGTERM, and is not repeated', async () => {
    const stages = { ...batchStages, 'fit-foreground': { ...batchStages['fit-foreground'], timeoutSeconds: 60 } };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const ended = submit('stubborn', {}, { stages, grace: 2000 });
      await until(() => notes().includes('deaf'));
      vi.advanceTimersByTime(59_999);
      expect(notes()).not.toContain('ignored');
      vi.advanceTimersByTime(1);
      await until(() => notes().includes('ignored'));
      expect(alive(seen('-1').pid)).toBe(true);
      vi.advanceTimersByTime(2000);
      const { cause } = await ended;
      expect(cause).toMatchObject({ StatusReason: 'Job attempt duration exceeded timeout (60 s)', Container: { ExitCode: 137 } });
      expect(cause!['Attempts']).toHaveLength(1);
    } finally { vi.useRealTimers(); }
  });

  it('is stopped by the signal: SIGTERM, time to end, and nothing left of its group', async () => {
    const stop = new AbortController();
    const ended = submit('grandchild', {}, {}, stop.signal);
    await until(() => notes().includes('grandchild'));
    stop.abort(new Error('enough'));
    await expect(ended).rejects.toThrow('enough');
    expect(notes()).toContain('stopped');
    expect(alive(seen('-1').pid)).toBe(false);
    const grandchild = Number(/grandchild (\d+)/.exec(notes())![1]);
    await until(() => !alive(grandchild));
  });

  it('refuses what it does not implement', async () => {
    for (const request of [{ DependsOn: [] }, { Tags: { name: 1 } }, { ArrayProperties: { Size: 1 } }, { ArrayProperties: { Size: 10_001 } }, { JobName: 'a b' }, { JobDefinition: 'other' }, { JobDefinition: 'pretrain-nodes' }, { ContainerOverrides: { Command: [] } }] as Record<string, Json>[]) {
      expect((await submit('succeed', request)).error?.error).toBe('Batch.ClientException');
    }
  });
});

describe('an array job', () => {
  it('runs one child an index, one thread each, as many at a time as there are cores', async () => {
    const { job } = await submit('pause', array(4));
    expect(job).toMatchObject({ ArrayProperties: { Size: 4, StatusSummary: { SUCCEEDED: 4, FAILED: 0 } } });
    const children = [0, 1, 2, 3].map((index) => seen(`${index}-1`));
    expect(children.map(({ input, threads, env }) => [input.shard, threads, env.AWS_BATCH_JOB_ID, env.AWS_BATCH_JOB_ARRAY_SIZE])).toEqual([0, 1, 2, 3].map((index) => [index, 1, `${job!['JobId']}:${index}`, '4']));
    const starts = children.map(({ start }) => start as number).toSorted((a, b) => a - b);
    expect(starts[2]! - starts[0]!).toBeGreaterThanOrEqual(300);
    expect(said.at(-2)).toBe('analyze-foreground 4/4 shards');
  });

  it('fails with the message of the child that failed, starts no more, and lets the others end', async () => {
    const { cause } = await submit('third-fails', array(8));
    expect(cause).toMatchObject({ StatusReason: 'ShardBroken: shard 2 is broken', Container: { ExitCode: 2 } });
    // One beside it at most, which ends after it: no later one may start.
    expect(cause!['ArrayProperties'].StatusSummary.SUCCEEDED).toBeLessThanOrEqual(3);
    expect([4, 5, 6, 7].filter((index) => existsSync(join(folder, `seen${index}-1.json`)))).toEqual([]);
  });

  it('stops every child', async () => {
    const stop = new AbortController();
    const ended = submit('wait', array(4), {}, stop.signal);
    const started = (): string[] => readdirSync(folder).filter((name) => name.startsWith('seen'));
    await until(() => started().length >= 2);
    stop.abort(new Error('enough'));
    await expect(ended).rejects.toThrow('enough');
    expect(started()).toHaveLength(2);
    for (const name of started()) expect(alive((JSON.parse(readFileSync(join(folder, name), 'utf8')) as { pid: number }).pid)).toBe(false);
  });
});

describe('a multi-node job', () => {
  it('runs a process a node, and ends with the main node', async () => {
    const { job } = await submit('nodes', nodes(2), { cores: 4, variants: () => [2] });
    expect(job).toMatchObject({ Status: 'SUCCEEDED', NodeProperties: { MainNode: 0, NumNodes: 2 } });
    const [main, other] = [seen('0-1'), seen('1-1')];
    expect(main).toMatchObject({ input: { run: 'r', variant: 'v' }, threads: 2, env: { AWS_BATCH_JOB_ID: `${job!['JobId']}#0`, AWS_BATCH_JOB_NUM_NODES: '2', AWS_BATCH_JOB_MAIN_NODE_INDEX: '0' } });
    expect(main.env.AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS).toBeUndefined();
    expect(other.env).toMatchObject({ AWS_BATCH_JOB_NODE_INDEX: '1', AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1', GENVIEW_RENDEZVOUS_PORT: main.env.GENVIEW_RENDEZVOUS_PORT });
    expect(notes()).toContain('stopped 1');
  });

  it('has nothing of the multi-node job that it may itself be run in', async () => {
    const outer = { GENVIEW_PROCESSES_PER_NODE: '4', GENVIEW_PROCESSES: '8', GENVIEW_RENDEZVOUS_ADDRESS: '10.0.0.1', AWS_BATCH_JOB_NUM_NODES: '3' };
    Object.assign(process.env, outer);
    try { await submit('succeed'); } finally { for (const name of Object.keys(outer)) delete process.env[name]; }
    expect(Object.keys(seen('-1').env as object).toSorted()).toEqual(['AWS_BATCH_CE_NAME', 'AWS_BATCH_JOB_ATTEMPT', 'AWS_BATCH_JOB_ID', 'AWS_BATCH_JQ_NAME']);
  });
});

describe('a job that is submitted and looked at', () => {
  const open = (behaviour: string) => {
    process.env['FIXTURE_BEHAVIOUR'] = behaviour;
    const batch = new LocalBatch({ display: new Display(log, undefined), cores: 4, variants: () => [2], program: () => program, grace: 20_000 });
    const stop = new AbortController();
    const context = { signal: stop.signal, state: 'S', heartbeat: () => {}, submitted: () => {} };
    const { 'states:::aws-sdk:batch:submitJob': submitJob, 'states:::aws-sdk:batch:describeJobs': describeJobs } = batch.handlers;
    return {
      batch, stop,
      submit: async (request: Record<string, Json>) => await submitJob!({ JobName: 'job', JobQueue: 'training', Tags: { 'genview:execution': 'e' }, ...request }, context) as { JobId: string; JobName: string },
      look: async (...ids: string[]) => (await describeJobs!({ Jobs: ids }, context) as { Jobs: Record<string, Json>[] }).Jobs,
    };
  };

  it('runs beside the workflow and is described as Batch would', async () => {
    const { batch, submit, look } = open('nodes');
    const { JobId, JobName } = await submit(nodes(2));
    expect(JobName).toBe('job');
    expect(await look(JobId, 'unknown')).toEqual([{ JobId, JobName, Status: 'RUNNING' }]);
    await batch.settled();
    expect(await look(JobId)).toMatchObject([{ JobId, JobName, Status: 'SUCCEEDED', NodeProperties: { MainNode: 0, NumNodes: 2 } }]);
  });

  it('has failed when its main node has, with the reason', async () => {
    const { batch, submit, look } = open('user-error');
    const { JobId } = await submit(nodes(2));
    await batch.settled();
    expect(await look(JobId)).toMatchObject([{ Status: 'FAILED', StatusReason: 'DatasetMissing: there are no files at x: y; look there', Container: { ExitCode: 2 } }]);
  });

  it('ends with the part of the workflow that submitted it', async () => {
    const { batch, stop, submit } = open('wait');
    await submit(nodes(2));
    await until(() => existsSync(join(folder, 'seen0-1.json')) && existsSync(join(folder, 'seen1-1.json')));
    stop.abort(new Error('enough'));
    await batch.settled();
    expect(alive((seen('0-1') as { pid: number }).pid) || alive((seen('1-1') as { pid: number }).pid)).toBe(false);
  });

  it('is refused at once when its request does not fit', async () => {
    await expect(open('succeed').submit({ ...nodes(2), DependsOn: [] })).rejects.toMatchObject({ error: 'Batch.ClientException', cause: expect.stringContaining('DependsOn') as string });
  });

  it('may have several nodes, which one that is awaited may not, as in AWS', async () => {
    const batch = new LocalBatch({ display: new Display(log, undefined), variants: () => [1] });
    await expect(batch.submitJob({ JobName: 'job', JobQueue: 'training', ...nodes(2) }, { signal: new AbortController().signal, submitted: () => {} })).rejects.toMatchObject({ error: 'Batch.AWSBatchException' });
  });
});

it('no process outlives a runner that is killed', async () => {
  process.env['FIXTURE_BEHAVIOUR'] = 'wait';
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const runner = spawn(process.execPath, ['--import', tsx, fileURLToPath(new URL('fixtures/runner.ts', import.meta.url))], { stdio: 'inherit', cwd: tmpdir() });
  try {
    await until(() => existsSync(join(folder, 'seen-1.json')));
    const { pid, cwd } = seen('-1');
    expect(cwd).toBe(tmpdir());
    expect(alive(pid)).toBe(true);
    runner.kill('SIGKILL');
    await until(() => !alive(pid));
  } finally { runner.kill('SIGKILL'); }
});

it('the first rule that matches decides about a repetition, and without one Batch repeats', () => {
  const { retry } = batchStages.pretrain;
  const end = { statusReason: 'Essential container in task exited', reason: '', exitCode: 1 };
  expect(retries(retry, end)).toBe(false);
  expect(retries(retry, { ...end, exitCode: 75 })).toBe(true);
  expect(retries(retry, { ...end, reason: 'OutOfMemoryError: Container killed due to memory usage', exitCode: 137 })).toBe(false);
  for (const statusReason of ['Host EC2 (instance i-0) terminated.', 'Your Spot Task was interrupted.', 'Task failed to start', 'Timeout waiting for network interface provisioning to complete.']) {
    expect(retries(retry, { ...end, statusReason, exitCode: 143 }), statusReason).toBe(true);
  }
  expect(retries({ attempts: 2, evaluateOnExit: [{ action: 'EXIT', onExitCode: '2' }] }, end)).toBe(true);
});
