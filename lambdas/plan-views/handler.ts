import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

/** `{ run }` -> `{ train, val, quarantined }`. */
export const handler = lambdaHandler('plan-views', z.strictObject({ run: z.string().min(1) }),
  async () => (await import('../../src/stages/planViews.ts')).planViews);
