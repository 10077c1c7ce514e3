import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { openClients } from '../../src/cloud/clients.ts';
import { attemptOfName, executionArn, executionName, runOfName, runsOf } from '../../src/cloud/executions.ts';

it('an execution is named by run and content, and by its number from the second on', () => {
  const runId = `${'a-'.repeat(23)}a1-01234567`;
  const first = executionName(runId, '89abcdef', 1), twelfth = executionName(runId, '89abcdef', 12);
  expect([first, twelfth]).toEqual([`${runId}-89abcdef`, `${runId}-89abcdef-12`]);
  // Step Functions' limits; the longest name of a recipe has 48 characters.
  expect(runId).toHaveLength(48 + 9);
  for (const name of [first, twelfth]) expect(name).toMatch(/^[\w-]{1,80}$/);
  expect([runOfName(first), runOfName(twelfth)]).toEqual([runId, runId]);
  expect([attemptOfName(first), attemptOfName(twelfth)]).toEqual([1, 12]);
});

it('names of others say nothing about a run', () => {
  expect(runOfName('5d3c1c2e-7a3e-4e9e-9a43-6f0d3a1b2c4d_0f')).toBeUndefined();
  expect(runOfName('my-own-test')).toBeUndefined();
});

it('the ARN of an execution follows from that of its state machine, in every partition', () => {
  expect(executionArn('arn:aws-cn:states:cn-north-1:123456789012:stateMachine:Workflow', 'x-1')).toBe('arn:aws-cn:states:cn-north-1:123456789012:execution:Workflow:x-1');
});

it('the run of an execution that a trigger started is found in its history, once', async () => {
  let asked = 0;
  // GetExecutionHistory as the service answers it: times in seconds, a function's result as text.
  const events = [
    { id: 1, type: 'ExecutionStarted', timestamp: 1.767e9, executionStartedEventDetails: { input: '{}' } },
    { id: 5, type: 'TaskSucceeded', timestamp: 1.767e9, taskSucceededEventDetails: { output: JSON.stringify({ StatusCode: 200, Payload: { run: 's3://b/store/runs/birds-01234567/', runId: 'birds-01234567' } }) } },
  ];
  const server = createServer((_request, response) => { asked += 1; response.setHeader('content-type', 'application/x-amz-json-1.0').end(JSON.stringify({ events })); }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const before = { ...process.env };
  Object.assign(process.env, { AWS_REGION: 'eu-west-1', AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', AWS_ENDPOINT_URL_SFN: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  try {
    const clients = openClients();
    const execution = { arn: 'arn:aws:states:x:1:execution:genview:birds-0123456789abcdef', name: 'birds-0123456789abcdef', state: 'running', startedAt: 'then' } as const;
    expect(await runsOf(clients, [execution, { ...execution, name: 'cats-89abcdef-01234567' }])).toEqual(['birds-01234567', 'cats-89abcdef']);
    expect(await runsOf(clients, [execution])).toEqual(['birds-01234567']);
    expect(asked).toBe(1);
  } finally {
    server.closeAllConnections();
    server.close();
    for (const name of ['AWS_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_ENDPOINT_URL_SFN']) if (before[name] === undefined) delete process.env[name]; else process.env[name] = before[name];
  }
});
