/** Tag of a job with the ARN of the execution that submitted it, where Step Functions does not keep the two together by itself. */
export const executionTag = 'genview:execution';

/** JSONata for that tag's value. Names of executions may have characters that a tag may not. */
export const executionTagValue = "$replace($states.context.Execution.Id, /[^A-Za-z0-9 _.:\\/=+@-]/, '_')";

/** What {@link executionTagValue} makes of an ARN. */
export const tagOfExecution = (arn: string): string => arn.replace(/[^A-Za-z0-9 _.:/=+@-]/g, '_');

/** In the reason of every job that is terminated because its execution is. */
export const endedWithExecution = 'ended with its execution';

/** The reason that `genview cancel` gives. */
export const cancelled = `genview cancel: ${endedWithExecution}`;

/**
 * How the status reasons begin of jobs that did not fail but were terminated because their execution, or their part of it, is no more: by `stop-jobs`,
 * by `genview cancel`, and by Step Functions itself, which gives the jobs of `.sync` tasks the same reason whether the execution was stopped, has timed
 * out, or another branch has failed.
 */
export const endedReasons: readonly string[] = [endedWithExecution, cancelled, 'The Task state in AWS Step Functions execution ['];
