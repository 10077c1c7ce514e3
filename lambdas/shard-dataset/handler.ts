import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

/** `{ run, continuation }` -> `{ continuation, shards }`; called again while the continuation is not null. */
export const handler = lambdaHandler('shard-dataset', z.strictObject({ run: z.string().min(1), continuation: z.string().nullable().optional() }),
  async () => (await import('../../src/stages/shardDataset.ts')).shardDataset);
