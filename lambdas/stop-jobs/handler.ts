import { z } from 'zod';
import { openClients } from '../../src/cloud/clients.ts';
import { lambdaHandler } from '../../src/workflow/lambda.ts';
import type { ExecutionEnded } from '../../src/workflow/stopJobs.ts';

/** `{ execution }` of an execution that has ended, or `{ sweep: true }` -> how many jobs were terminated. Not a stage: rules call it. */
const event = z.union([z.strictObject({ execution: z.string().startsWith('arn:') }), z.strictObject({ sweep: z.literal(true) })], 'expected the ARN of an execution, or sweep: true');

export const handler = lambdaHandler<ExecutionEnded, { readonly terminated: number }>('stop-jobs', event, async () => {
  const { stopJobs } = await import('../../src/workflow/stopJobs.ts');
  const { GENVIEW_TRAINING_QUEUE: queue } = process.env;
  if (!queue) throw new Error('stop-jobs needs GENVIEW_TRAINING_QUEUE');
  return (input, { log, signal }) => stopJobs(input, { clients: openClients(), queue, log, signal });
});
