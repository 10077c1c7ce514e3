import { expect, it } from 'vitest';
import type { TaskContext } from '../../src/workflow/asl/interpreter.ts';
import { submittedJobs } from '../../src/workflow/batch/submittedJobs.ts';

const context: TaskContext = { signal: new AbortController().signal, state: 'S', heartbeat: () => undefined, submitted: () => undefined };

it('a job that ends for a reason outside it has failed, and looking at it goes on', async () => {
  const jobs = submittedJobs(async (_argument, { submitted }) => {
    submitted({ JobId: 'a', JobName: 'job' });
    throw new Error('no process can be started');
  });
  expect(await jobs.handlers['states:::aws-sdk:batch:submitJob']!({}, context)).toEqual({ JobId: 'a', JobName: 'job' });
  await jobs.settled();
  expect(await jobs.handlers['states:::aws-sdk:batch:describeJobs']!({ Jobs: ['a'] }, context)).toEqual({ Jobs: [{ JobId: 'a', JobName: 'job', Status: 'FAILED', StatusReason: 'Error: no process can be started' }] });
});

it('what goes wrong before there is a job is the submission\'s failure', async () => {
  const { handlers } = submittedJobs(async () => { throw new Error('no such queue'); });
  await expect(handlers['states:::aws-sdk:batch:submitJob']!({}, context)).rejects.toThrow('no such queue');
});
