import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

const count = z.int().positive();
const event = z.strictObject({ recipe: z.string().min(1), store: z.string().min(1), training: z.strictObject({ nodes: count, gpus: count }).optional() });

/** `{ recipe, store, training? }` -> `{ run, runId, variants }`. */
export const handler = lambdaHandler('resolve-recipe', event,
  async () => (await import('../../src/stages/resolveRecipe.ts')).resolveRecipe);
