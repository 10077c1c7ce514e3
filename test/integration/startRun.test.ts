import { CreateStateMachineCommand, DescribeExecutionCommand, ListExecutionsCommand, SFNClient } from '@aws-sdk/client-sfn';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { handler } from '../../lambdas/start-run/handler.ts';
import { silentLog } from '../../src/log.ts';
import { openStore } from '../../src/storage/index.ts';
import type { StartedRun } from '../../src/workflow/startRun.ts';
import { stopExecution, waitingMachine } from './support/cloud.ts';
import { encryptBucket, installMoto, type Moto, startMoto } from './support/moto.ts';

const missing = installMoto();
if (missing) console.warn(`skipped: ${missing}`);

describe.skipIf(missing)('start-run, on servers that speak S3 and Step Functions', () => {
  const bucket = 'genview-start';
  let moto: Moto, client: SFNClient, stateMachineArn: string;
  const started = async (event: object): Promise<StartedRun> => await handler(event, { log: silentLog }) as StartedRun;
  const executions = async (): Promise<string[]> => ((await client.send(new ListExecutionsCommand({ stateMachineArn }))).executions ?? []).map(({ name }) => name!).toSorted();

  beforeAll(async () => {
    moto = await startMoto(bucket);
    // Where an object's etag tells least.
    await encryptBucket(moto, bucket);
    Object.assign(process.env, moto.env, { AWS_ENDPOINT_URL_SFN: moto.env['AWS_ENDPOINT_URL_S3'], AWS_REGION: 'us-east-1' });
    client = new SFNClient({});
    ({ stateMachineArn } = await client.send(new CreateStateMachineCommand({
      name: 'genview', roleArn: 'arn:aws:iam::123456789012:role/genview', definition: JSON.stringify(waitingMachine),
    })) as { stateMachineArn: string });
    Object.assign(process.env, { GENVIEW_STATE_MACHINE: stateMachineArn, GENVIEW_STORE: `s3://${bucket}/store/` });
  });
  afterAll(() => {
    moto?.stop();
    for (const name of ['AWS_ENDPOINT_URL_SFN', 'AWS_ENDPOINT_URL_S3', 'GENVIEW_STATE_MACHINE', 'GENVIEW_STORE']) delete process.env[name];
  });

  const recipe = { bucket, key: 'recipes/birds.yaml', version: 'v1' }, objects = openStore(`s3://${bucket}/`);

  it('starts the workflow for a recipe with its URL and the store\'s', async () => {
    await objects.put(recipe.key, 'name: birds\n');
    const { execution } = await started(recipe);
    const { input, name } = await client.send(new DescribeExecutionCommand({ executionArn: execution }));
    expect(JSON.parse(input!)).toEqual({ recipe: `s3://${bucket}/recipes/birds.yaml`, store: `s3://${bucket}/store/` });
    expect(name).toMatch(/^birds-[0-9a-f]{16}$/);
  });

  it('starts nothing for the same event again, nor for the same recipe put there again, but something for another', async () => {
    const { execution } = await started(recipe);
    expect(await started(recipe)).toEqual({ execution });
    const { etag } = (await objects.head(recipe.key))!;
    await objects.put(recipe.key, 'name: birds\n');
    expect((await objects.head(recipe.key))!.etag).not.toBe(etag);
    expect(await started({ ...recipe, version: 'v2' })).toEqual({ execution });
    expect(await executions()).toHaveLength(1);
    await objects.put(recipe.key, 'name: birds\nseed: 2\n');
    const other = await started({ ...recipe, version: 'v3' });
    expect(other).not.toEqual({ execution });
    expect(await executions()).toHaveLength(2);
    // The first one again: it has run.
    await objects.put(recipe.key, 'name: birds\n');
    expect(await started({ ...recipe, version: 'v4' })).toEqual({ execution });
  });

  it('says so when the recipe has been removed meanwhile', async () => {
    await expect(started({ bucket, key: 'recipes/gone.yaml', version: 'v1' })).rejects.toMatchObject({
      code: 'RecipeNotFound', message: 's3://genview-start/recipes/gone.yaml was removed before its run could start; put it there again to run it',
    });
  });

  it('gives a recipe that failed, and is put there again, an execution of the next number', async () => {
    const { execution } = await started(recipe);
    await stopExecution(client, execution);
    const again = await started(recipe);
    expect(again).toEqual({ execution: `${execution}-2` });
    expect(await started(recipe)).toEqual(again);
    await stopExecution(client, again.execution);
    expect(await started(recipe)).toEqual({ execution: `${execution}-3` });
  });

  it('runs the recipe beside a dataset that says it is ready, once for each time that it says so', async () => {
    const ready = { bucket, key: 'datasets/birds/_READY', version: 'v1' };
    await expect(started(ready)).rejects.toMatchObject({ code: 'RecipeNotFound', message: expect.stringMatching(/no s3:\/\/genview-start\/datasets\/birds\/recipe\.yaml; put the recipe there/) as string });
    await objects.put('datasets/birds/recipe.yaml', 'name: birds\n');
    const first = await started(ready);
    expect(first).toMatchObject({ execution: expect.stringMatching(/:birds-[0-9a-f]{16}$/) as string });
    expect(JSON.parse((await client.send(new DescribeExecutionCommand({ executionArn: first.execution }))).input!)).toMatchObject({ recipe: `s3://${bucket}/datasets/birds/recipe.yaml` });
    await objects.put('datasets/birds/recipe.yaml', 'name: birds\n');
    expect(await started(ready)).toEqual(first);
    // More images, and _READY once more.
    expect(await started({ ...ready, version: 'v2' })).not.toEqual(first);
  });

  it('refuses an event that is not of an object', async () => {
    await expect(started({ bucket })).rejects.toMatchObject({ code: 'EventInvalid' });
  });
});
