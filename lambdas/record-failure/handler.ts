import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

/** `{ run, error, cause }`; `run` is null when the recipe already failed. */
const event = z.strictObject({ run: z.string().nullable(), error: z.string(), cause: z.string() })
  .transform(({ run, ...failure }) => ({ ...(run !== null && { run }), ...failure }));

export const handler = lambdaHandler('record-failure', event, async () => (await import('../../src/stages/recordFailure.ts')).recordFailure);
