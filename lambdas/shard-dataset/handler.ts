import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

/** `{ run, continuation }` -> `{ continuation, shards }`; called again while the continuation is not null. */
const event = z.strictObject({
  run: z.string().min(1),
  continuation: z.string().regex(/^[0-9a-z]+-[0-9a-z]+\/\d+$/i, 'not a continuation that this function returned').nullable().optional(),
});

export const handler = lambdaHandler('shard-dataset', event, async () => (await import('../../src/stages/shardDataset.ts')).shardDataset);
