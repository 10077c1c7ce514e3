import { z } from 'zod';
import type { Json } from './asl/definition.ts';
import { StatesError } from './asl/errors.ts';
import type { InvocationContext } from './lambda.ts';
import { lambdaNames, type LambdaName } from './stages.ts';

type Handler = (event: unknown, context: InvocationContext) => Promise<unknown>;

/** The functions that Lambda runs in AWS, by name; loaded when they are called. */
const functions: Readonly<Record<LambdaName, () => Promise<{ handler: Handler }>>> = {
  'resolve-recipe': () => import('../../lambdas/resolve-recipe/handler.ts'),
  'shard-dataset': () => import('../../lambdas/shard-dataset/handler.ts'),
  'plan-views': () => import('../../lambdas/plan-views/handler.ts'),
  'report': () => import('../../lambdas/report/handler.ts'),
  'record-failure': () => import('../../lambdas/record-failure/handler.ts'),
};

/** The part of Invoke's arguments that the workflow uses. */
export const invocation = z.strictObject({ FunctionName: z.enum(lambdaNames as [LambdaName, ...LambdaName[]]), Payload: z.unknown() });

/** Calls a function in this process, with JSON in and JSON out. Throws what it throws. */
export async function callFunction(name: LambdaName, payload: unknown, context: InvocationContext): Promise<Json> {
  const { handler } = await functions[name]();
  return json(await handler(json(payload), context));
}

/** Invoke's result, as the optimized integration of Step Functions returns it. */
export function invocationResult(payload: Json): { readonly [key: string]: Json } {
  return { ExecutedVersion: '$LATEST', StatusCode: 200, Payload: payload };
}

/** What a function threw, as the Lambda service reports it. */
export function functionError(error: unknown): StatesError {
  const { name: errorType, message: errorMessage, stack = '' } = error instanceof Error ? error : new Error(String(error));
  return new StatesError(errorType, JSON.stringify({ errorType, errorMessage, trace: stack.split('\n') }));
}

/** What a service boundary does to a value. */
function json(value: unknown): Json {
  return (value === undefined ? null : JSON.parse(JSON.stringify(value))) as Json;
}
