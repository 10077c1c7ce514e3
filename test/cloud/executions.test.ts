import { expect, it } from 'vitest';
import { attemptOfName, executionArn, executionName, runOfName } from '../../src/cloud/executions.ts';

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
