import { SFNClient } from '@aws-sdk/client-sfn';
import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';
import type { ObjectCreated, StartedRun } from '../../src/workflow/startRun.ts';

/** `{ bucket, key, version }` of a recipe or a `_READY` -> the execution. Not a stage: a rule calls it. */
const event = z.strictObject({ bucket: z.string().min(1), key: z.string().min(1), version: z.string() });

export const handler = lambdaHandler<ObjectCreated, StartedRun>('start-run', event, async () => {
  const { startRun } = await import('../../src/workflow/startRun.ts');
  const { GENVIEW_STATE_MACHINE: stateMachine, GENVIEW_STORE: store } = process.env;
  if (!stateMachine || !store) throw new Error('start-run needs GENVIEW_STATE_MACHINE and GENVIEW_STORE');
  return (input, { log }) => startRun(input, { client: new SFNClient({}), stateMachine, store, log });
});
