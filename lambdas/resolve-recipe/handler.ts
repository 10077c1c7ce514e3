import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

/** `{ recipe, store }` -> `{ run, runId, variants }`. */
export const handler = lambdaHandler('resolve-recipe', z.strictObject({ recipe: z.string().min(1), store: z.string().min(1) }),
  async () => (await import('../../src/stages/resolveRecipe.ts')).resolveRecipe);
