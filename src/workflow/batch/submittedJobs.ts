import { z } from 'zod';
import { deferred } from '../../distributed/deferred.ts';
import type { Json } from '../asl/definition.ts';
import { StatesError } from '../asl/errors.ts';
import type { TaskContext, TaskHandler } from '../asl/interpreter.ts';

/** Runs a job to its end, as a `.sync` integration does: says when it is there, resolves to its description, fails with `States.TaskFailed` and the description as the cause. */
export type RunJob = (argument: Json, context: Pick<TaskContext, 'signal' | 'submitted'>) => Promise<object>;

export interface SubmittedJobs {
  /** By resource: SubmitJob and DescribeJobs of the SDK integration. */
  readonly handlers: Readonly<Record<string, TaskHandler>>;
  /** Resolves when no job is running any more. */
  settled(): Promise<void>;
}

const describeJobs = z.strictObject({ Jobs: z.array(z.string()).min(1).max(100) });

/**
 * Jobs that are submitted and looked at, instead of awaited. A job is aborted with the signal of the task that submitted it, so that
 * nothing is left running behind a workflow that has ended.
 */
export function submittedJobs(run: RunJob): SubmittedJobs {
  const jobs = new Map<string, { description: object; readonly ended: Promise<void> }>();
  return {
    handlers: {
      'states:::aws-sdk:batch:submitJob': async (argument, { signal }) => {
        const accepted = deferred<{ readonly JobId: string; readonly JobName: string }>();
        const result = run(argument, { signal, submitted: (output) => accepted.resolve(output as { JobId: string; JobName: string }) });
        // Whatever goes wrong before the job exists is the submission's failure.
        result.catch((error: unknown) => accepted.reject(error));
        const { JobId, JobName } = await accepted.promise;
        const ended = result.then(
          (description) => { job.description = description; },
          (error: unknown) => {
            // What else ends a job is no failure of those who look at it, which they would repeat.
            job.description = error instanceof StatesError && error.error === 'States.TaskFailed' ? JSON.parse(error.cause) as object : { JobId, JobName, Status: 'FAILED', StatusReason: String(error) };
          });
        const job: { description: object; readonly ended: Promise<void> } = { description: { JobId, JobName, Status: 'RUNNING' }, ended };
        jobs.set(JobId, job);
        return { JobId, JobName };
      },
      'states:::aws-sdk:batch:describeJobs': async (argument) => {
        const { success, data, error } = describeJobs.safeParse(argument);
        if (!success) throw new StatesError('Batch.ClientException', z.prettifyError(error));
        const found = data.Jobs.map((id) => jobs.get(id)).filter((job) => job !== undefined);
        // As Batch: a job that it does not know is not among them.
        return { Jobs: found.map(({ description }) => description) };
      },
    },
    settled: async () => { await Promise.all([...jobs.values()].map(({ ended }) => ended)); },
  };
}
