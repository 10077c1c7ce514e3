import { Template } from 'aws-cdk-lib/assertions';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listFiles, stageNames, type StageName } from '../../infra/access.ts';
import { pascal } from '../../infra/constructs/images.ts';
import { checkOptions } from '../../infra/options.ts';
import { createStacks } from '../../infra/stacks.ts';
import { renderDemoDataset } from '../../src/demo/dataset.ts';
import type { RunPlan } from '../../src/stages/contract.ts';
import { openStore, readJson } from '../../src/storage/index.ts';
import type { Json } from '../../src/workflow/asl/definition.ts';
import { execute } from '../../src/workflow/asl/interpreter.ts';
import { submittedJobs } from '../../src/workflow/batch/submittedJobs.ts';
import { buildWorkflow, type WorkflowOutput } from '../../src/workflow/definition.ts';
import { localRefs } from '../../src/workflow/local.ts';
import { lambdaNames } from '../../src/workflow/stages.ts';
import { bucketArn, statementsOf, testApp, type Statement } from '../infra/support.ts';
import { fits, type IamGateway, startIamGateway } from './support/iamGateway.ts';
import { installMoto, type Moto, startMoto } from './support/moto.ts';

const missing = installMoto();
if (missing) console.warn(`skipped: ${missing}`);

const bucket = 'genview-rights', store = `s3://${bucket}/store/`;

/** A baseline and a variant that uses everything: the encoder of a file in the bucket, views, the quality loss, more checkpoints than one. */
const recipe = `
name: rights
dataset: { url: s3://${bucket}/datasets/small/, shardSize: 40 }
foreground: { sampleImages: 16, encoder: { model: s3://${bucket}/models/encoder.onnx, imageSize: 16 } }
generation: { noise: adaptive, steps: 2 }
pretraining: { backbone: { name: resnet-small, width: 8 }, epochs: 1, batch: 16, queue: 32, checkpointSteps: 2 }
variants:
  - name: baseline
    pretraining: { views: { probability: 0 } }
  - name: genview
    pretraining: { qualityLoss: { enabled: true } }
evaluation:
  linear: { epochs: 1, batch: 16 }
  knn: { k: 5 }
  semiSupervised: { fraction: 0.5, epochs: 1, batch: 16 }
`;

/** Rights, `*` for any characters, that the run below may do without, and why. */
const spared = [
  // A body in several parts that fails.
  '* s3:AbortMultipartUpload *',
  // The embedded dataset is read as any other, from where it is rendered.
  '* s3:GetObject store/demo-dataset/*',
  // The generator of this recipe is embedded.
  'generate-views s3:GetObject models/*',
  // A dataset that is given as a list.
  ...listFiles.flatMap((name) => ['datasets', 'recipes'].map((folder) => `* s3:GetObject ${folder}/${name}`)),
  // A listing that takes several calls.
  'shard-dataset * store/datasets/*/progress.json', 'shard-dataset s3:GetObject store/runs/*/plan.json',
];

/** What each stage's role may do in the deployed bucket: the template's statements, with this bucket's name. */
function policies(): Record<StageName, Statement[]> {
  const template = Template.fromStack(createStacks(testApp(), checkOptions()).stateless);
  const isFunction = (name: string): boolean => (lambdaNames as readonly string[]).includes(name);
  return Object.fromEntries(stageNames.map((name) => [name, statementsOf(template, `${isFunction(name) ? 'Functions' : 'Jobs'}${pascal(name)}Role`)
    .filter(({ actions }) => actions.every((action) => action.startsWith('s3:')))
    .map(({ resources, ...rest }) => ({ ...rest, resources: resources.map((resource) => resource.replace(bucketArn, `arn:aws:s3:::${bucket}`)) }))])) as Record<StageName, Statement[]>;
}

describe.skipIf(missing)('with nothing but the rights of its role', () => {
  const rights = policies();
  let folder: string, moto: Moto, gateway: IamGateway, output: WorkflowOutput;

  /** The bucket past the gateway, for a person with rights of their own. */
  const all = openStore(`s3://${bucket}/`);

  /** Runs a program as a stage's role. @returns what it prints */
  const asRole = (role: StageName, args: readonly string[]): Promise<string> => new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...moto.env, AWS_ENDPOINT_URL_S3: gateway.endpoint, AWS_ACCESS_KEY_ID: role, GENVIEW_THREADS: '1', NO_COLOR: '1' },
    });
    let stdout = '', stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text; });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text; });
    child.on('error', reject);
    child.on('close', (code) => { if (code === 0) resolve(stdout); else reject(new Error(`${role}: ended with ${code}: ${stderr}`)); });
  });
  const stage = (name: StageName, args: readonly string[], role = name): Promise<string> => asRole(role, [fileURLToPath(new URL('../../bin/genview.mjs', import.meta.url)), 'stage', name, ...args]);
  /** A module of ours, its exports as `m`. */
  const script = (role: StageName, module: string, code: string): Promise<string> =>
    asRole(role, ['--import', 'tsx', '--input-type=module', '--eval', `const m = await import(${JSON.stringify(new URL(`../../${module}`, import.meta.url).href)}); ${code}`]);

  /** The state machine, each task in a process of its own, one at a time. */
  async function runWorkflow(): Promise<WorkflowOutput> {
    let last: Promise<unknown> = Promise.resolve();
    const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
      const next = last.then(work);
      last = next.catch(() => {});
      return next;
    };
    return await execute(buildWorkflow(localRefs), { recipe: `s3://${bucket}/recipes/small.yaml`, store }, {
      handlers: {
        'states:::lambda:invoke': async (argument) => {
          const { FunctionName, Payload } = argument as { FunctionName: StageName; Payload: Record<string, string | null> };
          if (FunctionName === 'record-failure') throw new Error(String(Payload['cause']));
          const args = Object.entries(Payload).flatMap(([name, value]) => value === null ? [] : [`--${name}`, value]);
          return { StatusCode: 200, Payload: JSON.parse(await inTurn(() => stage(FunctionName, args))) as Json };
        },
        // No variant has several nodes.
        ...submittedJobs(async () => { throw new Error('not used'); }).handlers,
        'states:::batch:submitJob.sync': async (argument) => {
          const { JobDefinition, ArrayProperties, ContainerOverrides: { Command: [name, ...args] } } = argument as { JobDefinition: StageName; ArrayProperties?: { Size: number }; ContainerOverrides: { Command: [StageName, ...string[]] } };
          for (let shard = 0; shard < (ArrayProperties?.Size ?? 1); shard++) await inTurn(() => stage(name, [...args, ...(ArrayProperties ? ['--shard', String(shard)] : [])]));
          return { JobName: JobDefinition, Status: 'SUCCEEDED' };
        },
      },
    }) as unknown as WorkflowOutput;
  }

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-rights-'));
    moto = await startMoto(bucket);
    Object.assign(process.env, moto.env);
    gateway = await startIamGateway(moto.env['AWS_ENDPOINT_URL_S3']!, rights);
    await renderDemoDataset({ folder, trainPerClass: 2, valPerClass: 1 });
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      const file = path.join(folder, name);
      if (/^(train|val)\//.test(name) && statSync(file).isFile()) await all.put(`datasets/small/${name}`, readFileSync(file));
    }
    await all.put('models/encoder.onnx', readFileSync(new URL('../fixtures/foreground/encoder.onnx', import.meta.url)));
    await all.put('recipes/small.yaml', recipe);
    await all.put('datasets/small/recipe.yaml', recipe);
    const since = performance.now();
    output = await runWorkflow();
    console.log(`the workflow, a process a task: ${((performance.now() - since) / 1000).toFixed(0)} s`);
  });
  afterAll(async () => {
    await gateway?.stop();
    moto?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('every stage does its work, and asks for nothing that it is refused', () => {
    expect(output.report).toMatch(new RegExp(`^${store}runs/rights-[0-9a-f]{8}/report\\.html$`));
    expect(gateway.refused).toEqual([]);
  });

  it('a recipe beside its dataset is read, pretraining continues, the embedded dataset is rendered, and a failure is recorded', async () => {
    await stage('resolve-recipe', ['--recipe', `s3://${bucket}/datasets/small/recipe.yaml`, '--store', store]);
    const run = `store/${output.run.slice(store.length)}`;
    const { variants: [variant] } = await readJson<RunPlan>(all, `${run}plan.json`);
    await all.delete(`store/${variant!.pretrain}.done`);
    await stage('pretrain', ['--run', output.run, '--variant', variant!.name]);
    const place = JSON.stringify(`${store}demo-dataset/`), storage = JSON.stringify(new URL('../../src/storage/index.ts', import.meta.url).href);
    await script('resolve-recipe', 'src/demo/dataset.ts', `const { openStore } = await import(${storage}); await m.renderDemoDataset({ store: openStore(${place}), trainPerClass: 1, valPerClass: 1 });`);
    await script('record-failure', 'src/stages/recordFailure.ts', `await m.recordFailure({ run: ${JSON.stringify(output.run)}, error: 'Broken', cause: 'why' });`);
    expect(gateway.refused).toEqual([]);
    expect(await all.head(`${run}failure.json`)).toBeDefined();
  });

  it('uses every right that it has, but for those of what this run does not do', () => {
    const had = stageNames.flatMap((name) => rights[name].filter(({ condition }) => condition === undefined).flatMap(({ actions, resources }) => actions.flatMap((action) => resources.map((resource) => `${name} ${action} ${resource}`))));
    const unused = had.filter((right) => !gateway.used.has(right)).map((right) => right.replace(`arn:aws:s3:::${bucket}/`, ''));
    expect(unused.filter((right) => !spared.some((pattern) => fits(pattern, right)))).toEqual([]);
  });

  it('no stage can do another\'s work', async () => {
    const before = gateway.refused.length;
    await expect(stage('generate-views', ['--run', output.run, '--shard', '0'], 'plan-views')).rejects.toThrow(/access to s3:\/\/genview-rights\/store\/views\/.* was denied/);
    await expect(stage('report', ['--run', output.run], 'linear-probe')).rejects.toThrow(/was denied/);
    expect(gateway.refused.length).toBeGreaterThan(before);
    expect(gateway.refused.slice(before).map(({ caller }) => caller)).toEqual(expect.arrayContaining(['plan-views', 'linear-probe']));
  });
});
