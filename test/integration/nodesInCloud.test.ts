import { DescribeJobsCommand, ListJobsCommand, SubmitJobCommand, TerminateJobCommand, type JobDetail } from '@aws-sdk/client-batch';
import { StartExecutionCommand } from '@aws-sdk/client-sfn';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { handler } from '../../lambdas/stop-jobs/handler.ts';
import { openClients } from '../../src/cloud/clients.ts';
import { listExecutions } from '../../src/cloud/executions.ts';
import { jobsOfRun } from '../../src/cloud/jobs.ts';
import { silentLog, type Log } from '../../src/log.ts';
import { resolveRecipe } from '../../src/stages/resolveRecipe.ts';
import { shardDataset } from '../../src/stages/shardDataset.ts';
import { endedWithExecution, executionTag } from '../../src/workflow/executionTag.ts';
import { stopJobs } from '../../src/workflow/stopJobs.ts';
import { genviewHere } from '../cli/program.ts';
import { type Cloud, installCloud, resolveRecipeState, stageCommand, startCloud, stopExecution, waitingMachine } from './support/cloud.ts';
import { processesLeft, processesOf } from './support/program.ts';

const missing = installCloud();
if (missing) console.warn(`skipped: ${missing}`);

/** Marks the jobs' processes of this test among all others of the machine; behind it stands what each was called with. */
const mark = `genview-nodes-${process.pid}`;
/** Says where it runs and stays; `quick` ends as its main node does, whose exit code is the third word. */
const script = `
echo '{"time":"then","level":"info","message":"'"$1: node $AWS_BATCH_JOB_NODE_INDEX of $AWS_BATCH_JOB_NUM_NODES, main $AWS_BATCH_JOB_MAIN_NODE_INDEX"'"}'
if [ "$2" = quick ] && [ "$AWS_BATCH_JOB_NODE_INDEX" = 0 ]; then sleep 0.5; exit "$3"; fi
exec node -e 'setTimeout(() => {}, 3600000)' ${mark} "$@"`;

/** What the deployed state machine does with a job of several nodes, in JSONPath: moto reads no JSONata. */
const definition = (queue: string): object => ({
  StartAt: 'ResolveRecipe',
  States: {
    ResolveRecipe: resolveRecipeState('SubmitNodes'),
    SubmitNodes: {
      Type: 'Task', Resource: 'arn:aws:states:::aws-sdk:batch:submitJob',
      Parameters: {
        'JobName.$': "States.Format('{}-pretrain-gen', $.runId)", JobDefinition: 'stage-nodes', JobQueue: queue,
        NodeOverrides: { NumNodes: 3, NodePropertyOverrides: [{ TargetNodes: '0:', ContainerOverrides: { 'Command.$': stageCommand('pretrain') } }] },
        Tags: { 'genview:execution.$': '$$.Execution.Id' },
      },
      ResultPath: '$.job', Next: 'AwaitNodes',
    },
    AwaitNodes: { Type: 'Wait', Seconds: 1, Next: 'DescribeNodes' },
    DescribeNodes: { Type: 'Task', Resource: 'arn:aws:states:::aws-sdk:batch:describeJobs', Parameters: { 'Jobs.$': 'States.Array($.job.JobId)' }, ResultPath: '$.nodes', Next: 'NodesEnded' },
    NodesEnded: {
      Type: 'Choice',
      Choices: [{ Variable: '$.nodes.Jobs[0].Status', StringEquals: 'SUCCEEDED', Next: 'Done' }, { Variable: '$.nodes.Jobs[0].Status', StringEquals: 'FAILED', Next: 'NodesFailed' }],
      Default: 'AwaitNodes',
    },
    NodesFailed: { Type: 'Fail', Error: 'JobFailed', CausePath: '$.nodes.Jobs[0].StatusReason' },
    Done: { Type: 'Succeed' },
  },
});

describe.skipIf(missing)('a job of several nodes in the cloud', () => {
  let cloud: Cloud;
  const bucket = 'genview-nodes', inputs = `s3://${bucket}/`, store = `${inputs}store/`;
  const clients = openClients();

  beforeAll(async () => {
    cloud = await startCloud(bucket, script);
    Object.assign(process.env, cloud.env, { GENVIEW_TRAINING_QUEUE: cloud.queue });
  }, 300_000);
  afterAll(async () => {
    for (const { jobId } of await listed()) await terminate(jobId!);
    cloud?.stop();
    delete process.env['GENVIEW_TRAINING_QUEUE'];
  });

  const until = async (what: () => Promise<boolean> | boolean): Promise<void> => {
    for (let i = 0; i < 1200; i++) { if (await what()) return; await sleep(100); }
    throw new Error('it did not come to pass within two minutes');
  };
  const described = async (...jobs: string[]): Promise<JobDetail[]> => (await cloud.batch.send(new DescribeJobsCommand({ jobs }))).jobs ?? [];
  const listed = async (): Promise<{ jobId?: string }[]> => (await cloud.batch.send(new ListJobsCommand({ jobQueue: cloud.queue, filters: [{ name: 'JOB_NAME', values: ['*'] }] }))).jobSummaryList ?? [];
  const terminate = async (jobId: string): Promise<void> => { await cloud.batch.send(new TerminateJobCommand({ jobId, reason: 'the test is over' })); };
  const submit = async (name: string, execution: string | undefined, ...command: string[]): Promise<string> => {
    const { jobId } = await cloud.batch.send(new SubmitJobCommand({
      jobName: name, jobDefinition: 'stage-nodes', jobQueue: cloud.queue,
      nodeOverrides: { numNodes: 2, nodePropertyOverrides: [{ targetNodes: '0:', containerOverrides: { command: [name, ...command] } }] },
      ...(execution !== undefined && { tags: { [executionTag]: execution } }),
    }));
    return jobId!;
  };
  const running = (name: string): string[] => processesOf(`${mark} ${name}`);

  describe('Batch, as these tests have it', () => {
    it('runs a process a node, and the parent follows the main one', async () => {
      for (const [code, status] of [['0', 'SUCCEEDED'], ['3', 'FAILED']] as const) {
        const id = await submit('alone', undefined, 'quick', code);
        await until(async () => (await described(id))[0]!.status === status);
        const [parent] = await described(id);
        expect(parent).toMatchObject({ jobId: id, nodeProperties: { numNodes: 2, mainNode: 0 }, statusReason: 'Essential container in task exited' });
        expect(parent).not.toHaveProperty('container');
        const nodes = await described(`${id}#0`, `${id}#1`);
        expect(nodes.map(({ nodeDetails, container, attempts }) => [nodeDetails?.nodeIndex, nodeDetails?.isMainNode, container?.logStreamName, attempts?.[0]?.container?.exitCode])).toEqual([
          [0, true, `stage-nodes/default/${id}#0`, Number(code)], [1, false, `stage-nodes/default/${id}#1`, 143],
        ]);
        expect(running('alone')).toEqual([]);
      }
    });

    it('refuses what AWS refuses', async () => {
      const request = { jobName: 'wrong', jobDefinition: 'stage-nodes', jobQueue: cloud.queue };
      const containerOverrides = { command: ['a'] };
      for (const wrong of [
        { ...request, containerOverrides },
        { ...request, nodeOverrides: { nodePropertyOverrides: [{ targetNodes: '0:2', containerOverrides }] } },
        { ...request, jobDefinition: 'stage', nodeOverrides: { numNodes: 2 } },
      ]) await expect(cloud.batch.send(new SubmitJobCommand(wrong))).rejects.toMatchObject({ name: 'ClientException' });
    });
  });

  describe('stop-jobs', () => {
    let machine: string;
    const log: Log = silentLog, signal = new AbortController().signal;
    const start = async (name: string): Promise<string> => (await cloud.sfn.send(new StartExecutionCommand({ stateMachineArn: machine, name, input: '{}' }))).executionArn!;
    const stop = (executionArn: string): Promise<void> => stopExecution(cloud.sfn, executionArn);
    beforeAll(async () => { machine = await cloud.deploy('Waiting', waitingMachine, {}); });
    afterEach(async () => {
      for (const { jobId } of await listed()) await terminate(jobId!);
      expect(await processesLeft(mark)).toEqual([]);
    });

    it('terminates all nodes of the jobs of the execution that has ended, and nothing else', async () => {
      const [ended, other] = await Promise.all([start('ended'), start('other')]);
      const id = await submit('mine', ended);
      const others = await Promise.all([submit('others', other), submit('nobodys', undefined), submit('longer', `${ended}-2`)]);
      await until(() => running('mine').length === 2 && processesOf(mark).length === 8);
      await stop(ended);
      expect(await handler({ execution: ended }, { log })).toEqual({ terminated: 1 });
      await until(() => running('mine').length === 0);
      await until(async () => (await described(id))[0]!.status === 'FAILED');
      expect((await described(id, `${id}#0`, `${id}#1`)).map(({ status, statusReason }) => [status, statusReason])).toEqual(Array.from({ length: 3 }, () => ['FAILED', 'ended with its execution, ABORTED']));
      expect((await described(...others)).map(({ status }) => status)).toEqual(['RUNNING', 'RUNNING', 'RUNNING']);
      expect(processesOf(mark)).toHaveLength(6);
      // The same event again, as EventBridge may send it.
      expect(await stopJobs({ execution: ended }, { clients, queue: cloud.queue, log, signal, pause: 50 })).toEqual({ terminated: 0 });
      expect((await described(id))[0]!.statusReason).toBe('ended with its execution, ABORTED');
    });

    it('leaves the job of an execution that runs, again or still', async () => {
      const execution = await start('goes-on');
      const id = await submit('stays', execution);
      await until(() => running('stays').length === 2);
      expect(await stopJobs({ execution }, { clients, queue: cloud.queue, log, signal, pause: 50 })).toEqual({ terminated: 0 });
      expect((await described(id))[0]!.status).toBe('RUNNING');
    });

    it('finds a job whose submission was under way', async () => {
      const execution = await start('late');
      await stop(execution);
      const stopped = stopJobs({ execution }, { clients, queue: cloud.queue, log, signal, pause: 6000 });
      await sleep(1500);
      const id = await submit('late', execution);
      expect(await stopped).toEqual({ terminated: 1 });
      await until(async () => (await described(id))[0]!.status === 'FAILED');
      expect(running('late')).toEqual([]);
    });

    it('looks again where Step Functions has not yet noticed that the execution has ended', async () => {
      const execution = await start('seems-to-run');
      const id = await submit('seen', execution);
      const stopped = stopJobs({ execution }, { clients, queue: cloud.queue, log, signal, pause: 6000 });
      await sleep(1000);
      await stop(execution);
      expect(await stopped).toEqual({ terminated: 1 });
      await until(async () => (await described(id))[0]!.status === 'FAILED');
    });

    it('sweeps up what no event told of, and nothing that may still be wanted', async () => {
      const [ended, goesOn] = await Promise.all([start('unnoticed'), start('swept-beside')]);
      const id = await submit('forgotten', ended);
      const others = await Promise.all([submit('wanted', goesOn), submit('nobodys', undefined), submit('unknown', `${ended}-2`)]);
      await until(() => processesOf(mark).length === 8);
      await stop(ended);
      const said: string[] = [];
      expect(await handler({ sweep: true }, { log: { ...log, warn: (message) => said.push(message) } })).toEqual({ terminated: 1 });
      await until(async () => (await described(id))[0]!.status === 'FAILED');
      expect((await described(...others)).map(({ status }) => status)).toEqual(['RUNNING', 'RUNNING', 'RUNNING']);
      expect(said).toEqual([`there is no execution ${ended}-2; its jobs unknown (${others[2]}) are left as they are`]);
    });

    it('refuses an event that names no execution', async () => {
      for (const event of [{}, { execution: 'late' }, { sweep: false }, { execution: 'arn:aws:states:x', status: 'ABORTED' }]) await expect(handler(event, { log })).rejects.toMatchObject({ code: 'EventInvalid' });
    });
  });

  describe('of a run that `genview` drives', () => {
    let folder: string, machine: string, runId: string;
    const recipe = (): string => path.join(folder, 'pairs.yaml');

    beforeAll(async () => {
      folder = mkdtempSync(path.join(os.tmpdir(), 'genview-nodes-'));
      for (const split of ['train', 'val']) for (const name of ['cat', 'dog']) {
        mkdirSync(path.join(folder, 'pets', split, name), { recursive: true });
        for (let i = 0; i < 4; i++) writeFileSync(path.join(folder, 'pets', split, name, `${i}.jpg`), `${split} ${name} ${i}`);
      }
      writeFileSync(recipe(), 'name: pairs\ndataset: { url: pets, shardSize: 8 }\npretraining: { batch: 6, queue: 6, epochs: 1 }\nvariants: [{ name: gen, pretraining: { nodes: 3 } }]\n');
      machine = await cloud.deploy('Workflow', definition(cloud.queue), { 'genview:store': store, 'aws:cloudformation:stack-name': 'First' });
      const submitted = await genviewHere(['submit', recipe(), '--upload', '--yes', '--json']);
      expect(submitted.code, submitted.stderr).toBe(0);
      ({ runId } = JSON.parse(submitted.stdout) as { runId: string });
      // What the functions would have left in the store.
      const context = { signal: new AbortController().signal, log: silentLog, threads: 1 };
      expect(await resolveRecipe({ recipe: `${inputs}recipes/${runId}.json`, store }, context)).toMatchObject({ runId, variants: [{ name: 'gen', nodes: 3 }] });
      await shardDataset({ run: `${store}runs/${runId}/` }, context);
      await until(() => running('pretrain').length === 3);
    });
    afterAll(async () => {
      await genviewHere(['cancel', 'pairs', '--cloud', '--timeout', '20']);
      rmSync(folder, { recursive: true, force: true });
    });

    it('is submitted with the tag of its execution', async () => {
      const [execution] = await listExecutions(clients, machine);
      const jobs = await jobsOfRun(clients, [cloud.queue], runId);
      expect(jobs).toMatchObject([{ label: 'pretrain-gen', status: 'RUNNING' }]);
      expect(await described(jobs[0]!.id)).toMatchObject([{ tags: { [executionTag]: execution!.arn }, nodeProperties: { numNodes: 3 } }]);
    });

    it('is running in the run\'s status', async () => {
      const { code, stdout, stderr } = await genviewHere(['status', 'pairs', '--cloud']);
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/^pairs-[0-9a-f]{8}: running for /);
      expect(stdout).toMatch(/\n {2}pretrain gen +0\/1 +running\n/);
    });

    it('has a log of each node', async () => {
      const logs = async (...args: string[]): Promise<string> => (await genviewHere(['logs', 'pairs', ...args, '--cloud'])).stdout;
      const of = (node: number): string => `==> pretrain-gen-node-${node}\nthen  pretrain: node ${node} of 3, main 0\n`;
      // A node's first line is there a moment after its process.
      await until(async () => (await logs('pretrain-gen')).split('\n').length === 7);
      expect(await logs('pretrain-gen')).toBe(of(0) + of(1) + of(2));
      expect(await logs('pretrain')).toBe(of(0) + of(1) + of(2));
      expect(await logs('pretrain-gen-node-1')).toBe(of(1));
      expect((await genviewHere(['logs', 'pairs', 'pretrain-gen-node-7', '--cloud'])).stderr).toBe('genview: there is no log of pretrain-gen-node-7; there are pretrain-gen\n');
      expect(await logs()).toMatch(/ {2}SubmitNodes ended\n.* {2}AwaitNodes started\n/);
    });

    it('is ended by cancel, with all of its nodes', async () => {
      const { code, stdout } = await genviewHere(['cancel', 'pairs', '--cloud']);
      expect({ code, stdout }).toEqual({ code: 0, stdout: `${runId} cancelled: 1 execution stopped, 1 job terminated, none is left\n` });
      expect(await processesLeft(`${mark} pretrain`)).toEqual([]);
      const [job] = await jobsOfRun(clients, [cloud.queue], runId);
      expect(job).toMatchObject({ label: 'pretrain-gen', status: 'FAILED', statusReason: expect.stringContaining(endedWithExecution) as string });
      expect((await genviewHere(['status', 'pairs', '--cloud'])).stdout).toMatch(/^pairs-[0-9a-f]{8}: cancelled after /);
    });

    // moto begins the execution anew; that the definition submits again what was ended is a matter of multiNode.test.ts.
    it('is there again in an execution that goes on', async () => {
      expect((await genviewHere(['submit', recipe(), '--upload', '--redrive'])).stdout).toContain(`\n${runId} continues: execution ${runId}-`);
      await until(() => running('pretrain').length === 3);
      const log = async (): Promise<string> => (await genviewHere(['logs', 'pairs', 'pretrain-gen-node-2', '--cloud'])).stdout;
      await until(async () => (await log()).includes('then'));
      expect(await log()).toBe('==> pretrain-gen-node-2\nthen  pretrain: node 2 of 3, main 0\n');
      expect((await genviewHere(['cancel', 'pairs', '--cloud'])).stdout).toContain('1 job terminated');
    });
  });
});
