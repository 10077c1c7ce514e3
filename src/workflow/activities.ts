import { z } from 'zod';
import type { Retrier } from './asl/definition.ts';
import type { JobDefinitionName, LambdaName } from './stages.ts';

/** ARNs of the Activities that take the place of Batch jobs, and of functions. */
export interface ActivityRefs {
  readonly jobs: Readonly<Record<JobDefinitionName, string>>;
  /** Functions that are not named here stay with Lambda. */
  readonly functions: Readonly<Partial<Record<LambdaName, string>>>;
  /** Seconds without a heartbeat after which a worker counts as lost. @default 60 */
  readonly heartbeatSeconds?: number;
}

export const defaultHeartbeatSeconds = 60;
/** A worker calls so many times in `HeartbeatSeconds`: one lost call, or a pause of the process, does no harm. */
export const heartbeatsInTime = 3;

/**
 * What a worker finds in a task: the arguments that the service would have got, for an array job with the block of
 * children to run, and how often it must be heard.
 */
export const activityInput = z.union([
  z.strictObject({ HeartbeatSeconds: z.int().min(1), SubmitJob: z.looseObject({}), Children: z.strictObject({ first: z.int().min(0), count: z.int().min(1) }).optional() }),
  z.strictObject({ HeartbeatSeconds: z.int().min(1), Invoke: z.strictObject({ FunctionName: z.string(), Payload: z.unknown() }) }),
]);
export type ActivityInput = z.infer<typeof activityInput>;

/** Error by which a worker gives a task back unfinished: it was told to stop, or has its hands full. Nothing is wrong with the task. */
export const taskReturned = 'TaskReturned';

/** A lost worker is nobody's fault, but a task that loses one worker after another is to blame itself. */
export const activityRetry: readonly Retrier[] = [
  { ErrorEquals: [taskReturned], IntervalSeconds: 1, MaxAttempts: 1000, BackoffRate: 1 },
  // Servers differ in which name they give to a missed heartbeat.
  { ErrorEquals: ['States.HeartbeatTimeout', 'States.Timeout'], IntervalSeconds: 1, MaxAttempts: 20, BackoffRate: 1 },
];

/** Iterations of an inline Map that Step Functions runs at a time. */
export const childrenAtATime = 40;

/**
 * At most so many blocks, whatever the number of shards: each costs an execution seven events of history when all goes
 * well and three for every worker lost over it, and 25,000 are the limit.
 */
const mostBlocks = 256;

/** Expression for the blocks `{ first, count }` that `children` (an expression for their number, at least 2) is cut into, of equal size but the last. */
export function blocks(children: string): string {
  const size = `$ceil(${children} / ${mostBlocks})`;
  return `{% [[0..$ceil(${children} / ${size}) - 1].{ 'first': $ * ${size}, 'count': $min([${size}, ${children} - $ * ${size}]) }] %}`;
}
