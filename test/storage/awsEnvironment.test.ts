import { afterEach, expect, it } from 'vitest';
import { openClients } from '../../src/cloud/clients.ts';
import { openStepFunctions } from '../../src/worker/client.ts';
import { openStore } from '../../src/storage/index.ts';

const before = { ...process.env };
afterEach(() => { for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]; Object.assign(process.env, before); });

it.each([
  ['AWS_ENDPOINT_URL', '127.0.0.1:4566', 'AWS_ENDPOINT_URL=127.0.0.1:4566 is no URL; write http://host:port or https://host, or unset it for AWS itself'],
  ['AWS_ENDPOINT_URL_S3', 'localhost', 'AWS_ENDPOINT_URL_S3=localhost is no URL; write http://host:port or https://host, or unset it for AWS itself'],
  ['AWS_REGION', 'us east', 'AWS_REGION=us east is no region; write its name, for example us-east-1'],
])('%s=%s is refused by whoever would call AWS, and named', async (name, value, message) => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', [name]: value });
  const refusal = { code: 'EnvironmentInvalid', message };
  await expect(openStore('s3://bucket/').head('key')).rejects.toMatchObject(refusal);
  await expect(openClients().sfn((sdk, client) => client.send(new sdk.ListStateMachinesCommand({})))).rejects.toMatchObject(refusal);
  await expect(openStepFunctions()).rejects.toMatchObject(refusal);
});
