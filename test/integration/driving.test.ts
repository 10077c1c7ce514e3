import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listExecutions } from '../../src/cloud/executions.ts';
import { openClients } from '../../src/cloud/clients.ts';
import { jobsOfRun } from '../../src/cloud/jobs.ts';
import type { Estimate } from '../../src/estimate/estimate.ts';
import { silentLog } from '../../src/log.ts';
import { resolveRecipe } from '../../src/stages/resolveRecipe.ts';
import { shardDataset } from '../../src/stages/shardDataset.ts';
import { openStore } from '../../src/storage/index.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { defaultMachines, type DeployedMachines } from '../../src/workflow/deployedMachines.ts';
import { localRefs } from '../../src/workflow/local.ts';
import { genviewHere } from '../cli/program.ts';
import { type Cloud, installCloud, resolveRecipeState, stageCommand, startCloud } from './support/cloud.ts';
import { processesLeft, processesOf } from './support/program.ts';
import { keysOf } from '../storage/objectStoreContract.ts';

const missing = installCloud();
if (missing) console.warn(`skipped: ${missing}`);

/** Marks the jobs' processes of this test among all others of the machine. */
const mark = `genview-driving-${process.pid}`;
/** By the run's name: works for ever, fails, or ends at once. */
const script = `
echo '{"time":"then","level":"info","message":"'"$1 of shard $AWS_BATCH_JOB_ARRAY_INDEX"'"}'
case "$*" in
  */runs/slow-*) exec node -e 'setTimeout(() => {}, 3600000)' ${mark} ;;
  */runs/broken-*) echo '{"time":"then","level":"error","message":"disk full"}'; exit 1 ;;
esac`;

/**
 * A workflow as the real one looks to who drives it: jobs named by run and stage, under one state after another. moto reads no
 * JSONata, so it is written in JSONPath; that the real definition runs elsewhere is the business of other tests.
 */
const definition = (queue: string): object => ({
  StartAt: 'ResolveRecipe',
  States: {
    ResolveRecipe: resolveRecipeState('AnalyzeForeground'),
    AnalyzeForeground: {
      Type: 'Task', Resource: 'arn:aws:states:::batch:submitJob.sync',
      Parameters: {
        'JobName.$': "States.Format('{}-analyze-foreground', $.runId)", JobDefinition: 'stage', JobQueue: queue, ArrayProperties: { Size: 2 },
        ContainerOverrides: { 'Command.$': stageCommand('analyze-foreground') },
      },
      ResultPath: null, Next: 'Report',
    },
    Report: { Type: 'Pass', Parameters: { 'run.$': "States.Format('{}runs/{}/', $.store, $.runId)" }, End: true },
  },
});

describe.skipIf(missing)('driving a run in the cloud', () => {
  let cloud: Cloud;
  let folder: string, machine: string;
  // As deployed: what people put there beside what the stages make.
  const bucket = 'genview-driving', inputs = `s3://${bucket}/`, store = `${inputs}store/`;
  const clients = openClients();
  const recipeFile = (name: string): string => path.join(folder, `${name}.yaml`);
  const context = { signal: new AbortController().signal, log: silentLog, threads: 1 };

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-driving-'));
    for (const split of ['train', 'val']) {
      for (const name of ['cat', 'dog']) {
        mkdirSync(path.join(folder, 'pets', split, name), { recursive: true });
        for (let i = 0; i < 4; i++) writeFileSync(path.join(folder, 'pets', split, name, `${i} ü.jpg`), `${split} ${name} ${i}`);
      }
    }
    for (const name of ['slow', 'broken', 'quick']) writeFileSync(recipeFile(name), `name: ${name}\ndataset: { url: pets, shardSize: 8 }\npretraining: { batch: 4, queue: 8, epochs: 1 }\nvariants: [{ name: baseline }]\n`);
    cloud = await startCloud(bucket, script);
    Object.assign(process.env, cloud.env);
    machine = await cloud.deploy('Workflow', definition(cloud.queue), { 'genview:store': store, 'aws:cloudformation:stack-name': 'First' });
  }, 300_000);
  afterAll(async () => {
    if (cloud) for (const name of ['slow', 'broken', 'quick']) await genviewHere(['cancel', name, '--cloud', '--timeout', '20']);
    cloud?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const executionNames = async (): Promise<string[]> => (await listExecutions(clients, machine)).map(({ name }) => name).toSorted();
  const runIdOf = async (name: string): Promise<string> => {
    const [execution] = (await executionNames()).filter((other) => other.startsWith(`${name}-`));
    return execution!.slice(0, name.length + 9);
  };
  const until = async (what: () => Promise<boolean>): Promise<void> => {
    for (const end = performance.now() + 300_000; performance.now() < end; await sleep(200)) if (await what()) return;
    throw new Error('it did not come to pass within five minutes');
  };
  const statusOf = async (name: string): Promise<{ state: string; stages: { stage: string; done: number; of: number; job?: { status: string; summary?: Record<string, number> } }[]; failure?: { error: string; message: string } }> =>
    (JSON.parse((await genviewHere(['status', name, '--cloud', '--json'])).stdout) as [never])[0];
  /** Step Functions stops an execution some time after it was told to. */
  const cancelled = (name: string): Promise<void> => until(async () => (await statusOf(name)).state === 'cancelled');

  it('does not submit a dataset that the cloud cannot read, and says how to bring it there', async () => {
    const { code, stdout, stderr } = await genviewHere(['submit', recipeFile('slow')]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toBe(`genview: dataset.url is the folder ${folder}/pets/: --upload copies it to ${inputs}datasets/pets/, or copy it yourself and write the URL: aws s3 sync '${folder}/pets/' ${inputs}datasets/pets/\n`);
    expect(await executionNames()).toEqual([]);
  });

  it('refuses what costs more than the limit where nobody can be asked', async () => {
    const { code, stdout, stderr } = await genviewHere(['submit', recipeFile('slow'), '--upload', '--limit', '0.10']);
    expect(code).toBe(2);
    expect(stdout).toMatch(/^estimate for 8 training and 8 validation images, the embedded encoder, the embedded generator:\n/);
    expect(stderr).toMatch(/^genview: the estimate of \$0\.\d\d is above the limit of \$0\.10 and nothing was submitted; --yes submits all the same, --limit <dollars> sets another limit\n$/);
    expect(await keysOf(openStore(inputs))).toEqual([]);
  });

  it('uploads, starts once, and names the run as the workflow will', async () => {
    const first = await genviewHere(['submit', recipeFile('slow'), '--upload', '--limit', '0.10', '--yes']);
    expect(first.code, first.stderr).toBe(0);
    expect(await keysOf(openStore(`${inputs}datasets/pets/`))).toHaveLength(16);
    const runId = await runIdOf('slow');
    expect(first.stdout).toMatch(new RegExp(`\n${runId} started: execution ${runId}-[0-9a-f]{8}\n  run     ${store}runs/${runId}/\n`));

    const again = await genviewHere(['submit', recipeFile('slow'), '--upload', '--json']);
    expect(JSON.parse(again.stdout)).toMatchObject({ runId, outcome: 'running', estimate: { images: { train: 8, val: 8 } } });
    expect(await executionNames()).toHaveLength(1);

    const resolved = await resolveRecipe({ recipe: `${inputs}recipes/${runId}.json`, store }, context);
    expect(resolved).toEqual({ run: `${store}runs/${runId}/`, runId, variants: [{ name: 'baseline', nodes: 1 }] });
    expect(await shardDataset({ run: resolved.run }, context)).toEqual({ continuation: null, shards: 2 });
  });

  it('shows progress by stage and shard, logs, and the list of runs', async () => {
    await until(async () => (await statusOf('slow')).stages.find(({ stage }) => stage === 'analyze-foreground')?.job?.summary?.['RUNNING'] === 2);
    const { analysis } = JSON.parse(Buffer.from(await openStore(store).get(`runs/${await runIdOf('slow')}/plan.json`)).toString()) as { analysis: string };
    await openStore(store).put(`${analysis}shard-00000.done`, '{}');
    const status = await statusOf('slow');
    expect(status.state).toBe('running');
    expect(status.stages.find(({ stage }) => stage === 'analyze-foreground')).toMatchObject({ done: 1, of: 2, job: { summary: { RUNNING: 2, FAILED: 0 } } });
    const text = (await genviewHere(['status', 'slow', '--cloud'])).stdout;
    expect(text).toMatch(/^slow-[0-9a-f]{8}: running for \d[^(]+ \(execution slow-/);
    expect(text).toContain('\n  analyze-foreground           1/2   2 running\n');

    const logs = async (...args: string[]): Promise<string> => (await genviewHere(['logs', 'slow', ...args, '--cloud'])).stdout;
    // A job that runs need not have said anything yet.
    await until(async () => (await logs('analyze-foreground')).split('\n').filter((line) => line.startsWith('then')).length === 2);
    expect(await logs('analyze-foreground')).toBe('==> analyze-foreground-00000\nthen  analyze-foreground of shard 0\n==> analyze-foreground-00001\nthen  analyze-foreground of shard 1\n');
    expect(await logs('analyze-foreground-00001')).toBe('==> analyze-foreground-00001\nthen  analyze-foreground of shard 1\n');
    expect((await genviewHere(['logs', 'slow', 'pretrain', '--cloud'])).stderr).toBe('genview: there is no log of pretrain; there are analyze-foreground\n');
    expect((await genviewHere(['logs', 'slow', 'plan-views', '--cloud'])).stderr).toBe('genview: there is no log group /Workflow/plan-views: plan-views has not run, or its logs go elsewhere\n');
    await cloud.writeLog('/Workflow/plan-views', [`{"time":"then","level":"info","message":"8 images","run":"${await runIdOf('slow')}"}`, '{"time":"then","level":"info","message":"another run"}']);
    expect(await logs('plan-views')).toBe('then  8 images\n');
    expect(await logs()).toMatch(/ {2}execution started\n.* {2}ResolveRecipe started\n.* {2}ResolveRecipe ended\n.* {2}AnalyzeForeground started\n/);
    expect((await genviewHere(['ls', '--cloud'])).stdout).toMatch(/^run +state +started \(UTC\) +took +executions\nslow-[0-9a-f]{8} +running +20\S+ \S+ +\d.* s +1\n$/);
  });

  it('Ctrl-C ends the watching and not the run', async () => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('../../bin/genview.mjs', import.meta.url)), 'status', 'slow', '--cloud', '--watch', '--interval', '1'], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env } });
    let stdout = '', stderr = '', interrupted = false;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      // Once: a second one ends it at once.
      if (interrupted || !stdout.includes('analyze-foreground')) return;
      interrupted = child.kill('SIGINT');
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text; });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(code).toBe(130);
    expect(stderr).toMatch(/stopped watching; the run goes on in the cloud \(`genview cancel slow-[0-9a-f]{8}` would stop it\)\n$/);
    expect((await statusOf('slow')).state).toBe('running');
  });

  it('cancel leaves no job running', async () => {
    const runId = await runIdOf('slow');
    await until(async () => processesOf(mark).length === 2);
    const { code, stdout } = await genviewHere(['cancel', 'slow', '--cloud']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${runId} cancelled: 1 execution stopped, 1 job terminated, none is left\n` });
    expect((await jobsOfRun(clients, [cloud.queue], runId)).map(({ status }) => status)).toEqual(['FAILED']);
    expect(await processesLeft(mark)).toEqual([]);
    await cancelled('slow');
    expect((await genviewHere(['cancel', 'slow', '--cloud'])).stdout).toBe(`${runId} was not running; nothing to cancel\n`);
  });

  it('a cancelled run is continued by --redrive or --again, and not by accident', async () => {
    const runId = await runIdOf('slow');
    const plain = await genviewHere(['submit', recipeFile('slow'), '--upload']);
    expect(plain.code).toBe(2);
    expect(plain.stderr).toContain(`genview: ${runId} was cancelled; nothing was started: --again starts another execution, which goes on from what is in the store, --redrive continues this one where it was\n`);
    expect((await genviewHere(['submit', recipeFile('slow'), '--upload', '--redrive'])).stdout).toContain(`\n${runId} continues: execution ${runId}-`);
    await until(async () => processesOf(mark).length === 2);
    expect((await genviewHere(['cancel', runId, '--cloud'])).stdout).toContain('1 job terminated');
    await cancelled('slow');
    expect((await genviewHere(['submit', recipeFile('slow'), '--upload', '--again'])).stdout).toMatch(new RegExp(`\n${runId} started: execution ${runId}-[0-9a-f]{8}-2\n`));
    expect((await genviewHere(['ls', '--cloud', '--json'])).stdout).toContain('"executions": 2');
    await until(async () => processesOf(mark).length === 2);
    await genviewHere(['cancel', runId, '--cloud']);
    expect(await processesLeft(mark)).toEqual([]);
    await cancelled('slow');
  });

  it('a failed run says why, and goes on by --again only', async () => {
    expect((await genviewHere(['submit', recipeFile('broken'), '--upload'])).code).toBe(0);
    await until(async () => (await statusOf('broken')).state === 'failed');
    expect((await statusOf('broken')).failure).toMatchObject({ error: 'States.TaskFailed' });
    expect((await genviewHere(['logs', 'broken', 'analyze-foreground-00000', '--cloud'])).stdout).toBe('==> analyze-foreground-00000\nthen  analyze-foreground of shard 0\nthen  error: disk full\n');
    expect((await genviewHere(['submit', recipeFile('broken'), '--upload'])).stderr).toMatch(/genview: broken-[0-9a-f]{8} has failed \(States\.TaskFailed\); nothing was started: --again starts another/);
    expect((await genviewHere(['submit', recipeFile('broken'), '--upload', '--redrive'])).stderr).toContain('where a redrive would only fail again; --again starts another');
    const watched = await genviewHere(['submit', recipeFile('broken'), '--upload', '--again', '--watch']);
    process.exitCode = undefined;
    expect(watched.code).toBe(1);
    expect(watched.stdout).toMatch(/started: execution broken-[0-9a-f]{8}-[0-9a-f]{8}-2\n/);
    expect(watched.stdout).toMatch(/broken-[0-9a-f]{8}: failed after [^\n]+\n {2}failed: States\.TaskFailed: /);
  });

  it('a finished run is not run again unless asked, but is when its images have changed', async () => {
    const submit = async (...more: string[]): Promise<{ outcome: string; execution: string; runId: string }> =>
      JSON.parse((await genviewHere(['submit', recipeFile('quick'), '--upload', '--json', ...more])).stdout) as never;
    const first = await submit();
    expect(first.outcome).toBe('started');
    await until(async () => (await statusOf('quick')).state === 'done');
    expect(await submit()).toMatchObject({ outcome: 'done', execution: first.execution });
    writeFileSync(path.join(folder, 'pets/train/cat/new.jpg'), 'one more');
    const second = await submit();
    expect(second).toMatchObject({ outcome: 'started', runId: first.runId });
    expect(second.execution).not.toBe(first.execution);
  });

  it('finds the deployment by its tag, by its stack, or by what is given', async () => {
    const ls = (...args: string[]): ReturnType<typeof genviewHere> => genviewHere(['ls', ...args]);
    const second = await cloud.deploy('Other', definition(cloud.queue), { 'genview:store': `s3://${bucket}/other/`, 'aws:cloudformation:stack-name': 'Second' });
    expect((await ls('--cloud')).stderr).toBe('genview: GenView is deployed 2 times here; choose one by --stack: First, Second\n');
    expect((await ls('--stack', 'Second')).stdout).toBe(`no runs in s3://${bucket}/other/\n`);
    expect((await ls('--store', `s3://${bucket}/other`)).stdout).toBe('no runs in s3://genview-driving/other/\n');
    expect((await ls('--store', store)).stdout).toContain('slow-');
    expect((await ls('--state-machine', second, '--store', store)).stdout).toMatch(/^run +state/);
    // A run by its URL: its store, and with it the deployment.
    const slow = `${store}runs/${await runIdOf('slow')}/`;
    expect((await genviewHere(['status', slow])).stdout).toMatch(/^slow-[0-9a-f]{8}: cancelled after /);
    // `genview run --store s3://…` leaves a run without an execution in the same store.
    await openStore(store).put('runs/here-01234567/recipe.json', '{}');
    await openStore(store).put('runs/here-01234567/history.jsonl', '{"id":1,"previousEventId":0,"timestamp":"then","type":"TaskStateEntered","stateEnteredEventDetails":{"name":"PlanViews"}}\n');
    expect((await genviewHere(['logs', 'here', '--store', store])).stdout).toBe('then  PlanViews started\n');
    expect((await ls('--stack', 'Third')).stderr).toMatch(/^genview: no deployed GenView with stack Third in this account and region \(us-east-1\); deploy it \(docs\/aws\.md\), or give the outputs of its stack: --state-machine <arn> --store s3:\/\/bucket\/ \(or GENVIEW_STATE_MACHINE and GENVIEW_STORE\)\n$/);
  });

  it('estimates by the machines of the deployment, and refuses a recipe that needs more before anything is copied', async () => {
    const machines: DeployedMachines = { ...defaultMachines, spot: false, gpuInstanceTypes: ['g6.2xlarge'], training: { instanceType: 'p9.48xlarge', nodes: 2, gpus: 2 } };
    const { Comment } = buildWorkflow({ ...localRefs, machines });
    await cloud.deploy('Small', { Comment, ...definition(cloud.queue) }, { 'genview:store': `${inputs}small/`, 'aws:cloudformation:stack-name': 'Small' });
    const recipe = (nodes: number): string => {
      const file = path.join(folder, `nodes-${nodes}.yaml`);
      writeFileSync(file, `name: nodes-${nodes}\ndataset: { url: pets, shardSize: 8 }\npretraining: { batch: 20, queue: 20, epochs: 1, nodes: ${nodes} }\nvariants: [{ name: baseline }]\n`);
      return file;
    };
    const before = await keysOf(openStore(inputs));
    const refused = await genviewHere(['submit', recipe(5), '--upload', '--yes', '--stack', 'Small']);
    expect({ code: refused.code, stdout: refused.stdout }).toEqual({ code: 2, stdout: '' });
    expect(refused.stderr).toBe('genview: variant baseline: pretraining.nodes is 5, which takes 3 machines of 2 GPUs, and the deployment has 2 for training. '
      + 'Nothing is started: lower pretraining.nodes to 4 at most, or deploy with the option training.nodes 3 (docs/aws.md)\n');

    const seen = await genviewHere(['submit', recipe(4), '--dry-run', '--stack', 'Small']);
    expect(seen.code, seen.stderr).toBe(0);
    expect(seen.stdout).toMatch(/\nfit-foreground +9 +0\.1 +(GPU|CPU) +g6\.2xlarge +\$/);
    expect(seen.stdout).toMatch(/\npretrain baseline +9 +0\.\d +(CPU|GPU) +2 x p9\.48xlarge \(2 GPUs\) +\?\n/);
    expect(seen.stdout).toContain('\np9.48xlarge has no price, and what it costs is left out: add onDemandPerHour["p9.48xlarge"] to a copy of src/estimate/prices.json, and give that with --prices\n');
    expect(seen.stdout).not.toContain('a deployment without options');
    expect((await genviewHere(['submit', recipe(4), '--upload', '--stack', 'Small'])).stderr)
      .toBe('genview: whether the cost is below the limit of $25.00 is not known without a price of p9.48xlarge, and nothing was submitted; --yes submits all the same, --prices <file> gives prices\n');
    // One that says nothing of its machines is taken for one without options, and can be told otherwise.
    const old = JSON.parse((await genviewHere(['submit', recipe(5), '--dry-run', '--stack', 'First', '--json'])).stdout) as { estimate: Estimate };
    expect(old.estimate.machines).toEqual(defaultMachines);
    expect(old.estimate.notes).toEqual([expect.stringMatching(/^pretraining takes 5 machines at a time, /), expect.stringMatching(/^this deployment does not say which machines it has, /)]);
    expect(await keysOf(openStore(inputs))).toEqual(before);
  });
});
