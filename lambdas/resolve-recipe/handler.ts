import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

const event = z.strictObject({ recipe: z.string().min(1), store: z.string().min(1), training: z.strictObject({ nodes: z.int().nonnegative(), gpus: z.int().positive() }).optional() });

/** `{ recipe, store, training? }` -> `{ run, runId, variants }`. */
export const handler = lambdaHandler('resolve-recipe', event,
  async () => (await import('../../src/stages/resolveRecipe.ts')).resolveRecipe);
