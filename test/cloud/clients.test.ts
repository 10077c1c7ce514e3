import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { explainFailure, mapLimited, openClients } from '../../src/cloud/clients.ts';

const before = { ...process.env };
afterEach(() => { for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]; Object.assign(process.env, before); });

const failure = (name: string, status: number, message = 'no'): Error => Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status } });

it.each([
  [failure('AccessDeniedException', 400, 'User x is not authorized to perform: states:StopExecution'), 'AccessDenied', /^Step Functions denies the call: User x is not authorized to perform: states:StopExecution; docs\/aws\.md lists/, 2],
  [failure('ExpiredTokenException', 403), 'AccessDenied', /renew them$/, 2],
  [failure('InternalFailure', 500), 'CloudFailure', /run the same command again$/, 75],
  [failure('ThrottlingException', 400), 'CloudFailure', /run the same command again$/, 75],
  [Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'CloudUnreachable', /cannot be reached \(ECONNREFUSED\); check network, AWS_REGION and AWS_ENDPOINT_URL$/, 75],
  [failure('StateMachineDoesNotExist', 400, "State Machine Does Not Exist: 'arn:x'"), 'DeploymentNotFound', /^there is no such state machine here \(State Machine Does Not Exist: 'arn:x'\); check AWS_REGION, and --state-machine or GENVIEW_STATE_MACHINE$/, 2],
  [failure('InvalidArn', 400, "Invalid arn: 'x'"), 'DeploymentNotFound', /there is no such state machine here/, 2],
  [failure('SyntaxError', 501, 'Unexpected token <\n  Deserialization error'), 'CloudUnreachable', /^what answers for Step Functions does not speak its protocol; check AWS_ENDPOINT_URL$/, 2],
  [new Error('Region is missing'), 'CloudUnreachable', /set AWS_REGION/, 2],
] as const)('a refused call says what to do: %s', (error, code, message, exitCode) => {
  expect(explainFailure(error, 'Step Functions')).toMatchObject({ code, exitCode, message: expect.stringMatching(message) as string });
});

it('errors that a caller understands stay as they are', () => {
  const error = failure('ExecutionAlreadyExists', 400);
  expect(explainFailure(error, 'Step Functions')).toBe(error);
});

it('an endpoint for one service is used for that one', async () => {
  const asked: string[] = [];
  const server = createServer((request, response) => { asked.push(String(request.headers['x-amz-target'])); response.setHeader('content-type', 'application/x-amz-json-1.0').end('{"stateMachines":[]}'); }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  Object.assign(process.env, { AWS_REGION: 'eu-west-1', AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', AWS_ENDPOINT_URL: 'http://127.0.0.1:1', AWS_ENDPOINT_URL_SFN: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  try {
    const { stateMachines } = await openClients().sfn((sdk, client) => client.send(new sdk.ListStateMachinesCommand({})));
    expect(stateMachines).toEqual([]);
    expect(asked).toEqual(['AWSStepFunctions.ListStateMachines']);
  } finally { server.closeAllConnections(); server.close(); }
});

it('works on so many items at a time and keeps their order', async () => {
  let running = 0, most = 0;
  const results = await mapLimited([5, 1, 4, 2, 3], 2, async (value) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, value));
    running -= 1;
    return value * 10;
  });
  expect({ results, most }).toEqual({ results: [50, 10, 40, 20, 30], most: 2 });
});

it('work on a list begins nothing after a failure', async () => {
  const begun: number[] = [];
  await expect(mapLimited(Array.from({ length: 100 }, (_, i) => i), 4, async (i) => {
    begun.push(i);
    await new Promise((resolve) => { setTimeout(resolve, 1); });
    if (i === 5) throw new Error('five');
  })).rejects.toThrow('five');
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  expect(begun.length).toBeLessThan(12);
});
