import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { GenViewError } from '../src/errors.ts';
import { formatSeconds, type Log } from '../src/log.ts';
import { parseRecipe } from '../src/recipe/parse.ts';
import type { DatasetSummary, ResolvedRun, RunPlan } from '../src/stages/contract.ts';
import { openStore, readJson, writeJson } from '../src/storage/index.ts';
import type { StateMachineDefinition } from '../src/workflow/asl/definition.ts';
import { execute } from '../src/workflow/asl/interpreter.ts';
import { buildWorkflow } from '../src/workflow/definition.ts';
import { localRefs } from '../src/workflow/local.ts';
import { lambdaStages } from '../src/workflow/stages.ts';
import { bundleFunction } from './sharding/bundle.ts';
import { invoke, type Call } from './sharding/invoke.ts';
import { writeInventory } from './sharding/inventory.ts';
import { startServer, type RequestKind } from './sharding/server.ts';
import { imagenetLike, type SimulatedObjects } from './sharding/simulated.ts';

/** AWS, us-east-1, USD: list prices, checked as `src/estimate/prices.ts` says; edit them. */
const prices = {
  /** Lambda on ARM, a GB-second and a request. */
  gbSecond: 0.0000133334, invocation: 0.0000002,
  /** S3 Standard, a request: PUT and LIST are of one class; GET and HEAD of another; DELETE is free. */
  put: 0.000005, get: 0.0000004,
  /** Step Functions Standard, a state transition: two for each call. */
  transition: 0.000025,
};
/** Memory of the process beside V8's heap (buffers of the network, the runtime itself) that the limit leaves room for. */
const heapMiB = 288;

/**
 * `npm run bench -- sharding [--images 1300000] [--classes 1000] [--latency 20] [--limit 300] [--inventory]`: ShardDataset on simulated objects, listed or, with `--inventory`, given as an S3 Inventory whose rows are in no order. The state machine's own
 * states call the function's bundle, in a process of its own with a heap of 288 MiB, against a server that speaks S3 and answers after `latency` ms. Prints
 * each call's time and the peak of the resident memory, requests, and what the same would cost on AWS.
 */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: {
    images: { type: 'string', default: '1300000' }, classes: { type: 'string', default: '1000' }, latency: { type: 'string', default: '20' }, limit: { type: 'string', default: '300' },
    inventory: { type: 'boolean', default: false },
  } });
  const count = (name: 'images' | 'classes' | 'latency' | 'limit'): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 0) throw new GenViewError('OptionInvalid', `--${name} ${values[name]} is not a whole number`);
    return value;
  };
  const images = count('images'), latency = count('latency');

  const folder = await mkdtemp(path.join(os.tmpdir(), 'genview-sharding-'));
  const simulated = imagenetLike(images, count('classes'));
  const server = await startServer({ simulated: { images: simulated }, latency });
  Object.assign(process.env, { AWS_ENDPOINT_URL_S3: server.endpoint, AWS_ACCESS_KEY_ID: 'simulated', AWS_SECRET_ACCESS_KEY: 'simulated', AWS_REGION: 'us-east-1' });
  let child: ChildProcess | undefined;
  try {
    child = fork(await bundleFunction(folder), { execArgv: [`--max-old-space-size=${heapMiB}`], env: { ...process.env, GENVIEW_LOG: 'json' }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const { run: runUrl, store } = await writeRun(values.inventory ? simulated : undefined);
    for (const kind of Object.keys(server.requests)) server.requests[kind as RequestKind] = 0;
    const calls = await drive(child, runUrl, count('limit') * 1000, server.requests, log);
    const plan = await readJson<RunPlan>(store, 'runs/sharding/plan.json');
    const summary = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
    report(images, latency, calls, server.requests, plan, summary);
  } finally {
    child?.kill();
    await server.close();
    await rm(folder, { recursive: true });
  }
}

async function writeRun(inventoryOf?: SimulatedObjects) {
  const store = openStore('s3://store/');
  const list = inventoryOf ? `, list: "${await writeInventory(store, inventoryOf)}"` : '';
  const recipe = parseRecipe(`name: sharding\ndataset: { url: "s3://images/"${list} }\n`, 'sharding.yaml');
  const resolved: ResolvedRun = { runId: 'sharding', store: store.root, recipe, models: { encoder: 'none', generator: 'none' } };
  await writeJson(store, 'runs/sharding/recipe.json', resolved);
  return { run: store.url('runs/sharding/'), store };
}

/** The two states of the workflow that list a dataset, by its own interpreter; the function answers from its process. */
async function drive(child: ChildProcess, run: string, limit: number, requests: Readonly<Record<RequestKind, number>>, log: Log): Promise<Call[]> {
  const { ShardDataset, DatasetComplete } = buildWorkflow(localRefs).States;
  const { Catch: _recorded, ...task } = ShardDataset as typeof ShardDataset & { Catch?: unknown };
  const definition = {
    QueryLanguage: 'JSONata', StartAt: 'Begin',
    States: {
      Begin: { Type: 'Pass', Assign: { run: '{% $states.input.run %}', continuation: null }, Output: {}, Next: 'ShardDataset' },
      ShardDataset: task, DatasetComplete: { ...DatasetComplete, Default: 'End' }, End: { Type: 'Succeed' },
    },
  } as StateMachineDefinition;
  const calls: Call[] = [];
  await execute(definition, { run }, { handlers: {
    'states:::lambda:invoke': async (argument) => {
      const before = Object.values(requests).reduce((a, b) => a + b);
      const call = await invoke(child, (argument as { Payload: unknown }).Payload, limit, `call-${calls.length + 1}`);
      if (call.error) throw Object.assign(new Error(call.error.message), call.error);
      calls.push(call);
      log.info(`call ${calls.length}: ${formatSeconds(call.milliseconds / 1000)}, ${mib(call.peakRss)} resident at most so far, ${Object.values(requests).reduce((a, b) => a + b) - before} requests`);
      return { Payload: call.result };
    },
  } });
  return calls;
}

const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
const dollars = (value: number): string => `$${value.toFixed(4)}`;

function report(images: number, latency: number, calls: readonly Call[], requests: Readonly<Record<RequestKind, number>>, plan: RunPlan, summary: DatasetSummary): void {
  const seconds = calls.map(({ milliseconds }) => milliseconds / 1000), total = seconds.reduce((a, b) => a + b, 0);
  const { memoryMiB } = lambdaStages['shard-dataset'];
  const lambda = total * memoryMiB / 1024 * prices.gbSecond + calls.length * prices.invocation;
  const s3 = (requests.LIST + requests.PUT) * prices.put + (requests.GET + requests.HEAD) * prices.get;
  const machine = 2 * calls.length * prices.transition;
  const found = summary.images.train + summary.images.val;
  if (found !== images) throw new Error(`${found} images listed of ${images}`);
  console.log(`${found} images (${summary.images.train} training, ${summary.images.val} validation), ${summary.classes.length} classes, ${summary.shards} shards, ${plan.dataset}`);
  console.log(`calls: ${calls.length}, of ${seconds.map((s) => formatSeconds(s)).join(', ')}; the longest ${formatSeconds(Math.max(...seconds))}, together ${formatSeconds(total)} (${latency} ms a request), ${formatSeconds(calls.reduce((sum, call) => sum + call.cpuSeconds, 0))} of CPU time`);
  console.log(`peak resident memory: ${mib(Math.max(...calls.map(({ peakRss }) => peakRss)))} (heap limit ${heapMiB} MiB)`);
  console.log(`requests: ${Object.entries(requests).map(([kind, n]) => `${n} ${kind}`).join(', ')}`);
  console.log(`cost at these times: Lambda with ${memoryMiB} MiB ${dollars(lambda)}, S3 requests ${dollars(s3)}, Step Functions ${dollars(machine)}, together ${dollars(lambda + s3 + machine)}`);
}
