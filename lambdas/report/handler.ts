import { z } from 'zod';
import { lambdaHandler } from '../../src/workflow/lambda.ts';

/** `{ run }` -> `{ report }`, the URL of report.html. */
export const handler = lambdaHandler('report', z.strictObject({ run: z.string().min(1) }),
  async () => (await import('../../src/stages/report.ts')).report);
