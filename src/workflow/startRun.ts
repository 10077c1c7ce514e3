import { createHash } from 'node:crypto';
import type { SFNClient } from '@aws-sdk/client-sfn';
import { GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { openStore } from '../storage/index.ts';
import type { WorkflowInput } from './definition.ts';

/** An object that was put into the bucket, as the rule's input transformer writes it. */
export interface ObjectCreated {
  readonly bucket: string;
  /** `recipes/….yaml`, or `datasets/<name>/_READY` */
  readonly key: string;
  /** Of the object's version, in a bucket that keeps them. */
  readonly version: string;
}

export interface StartRunOptions {
  readonly client: SFNClient;
  readonly stateMachine: string;
  /** Root URL of the store. */
  readonly store: string;
  readonly log: Log;
}

export interface StartedRun {
  /** ARN of the execution: a new one, or the one of the same name that is running or has succeeded. */
  readonly execution: string;
}

/** Executions of one name that may fail before a person has to look. */
const mostAttempts = 20;

/**
 * Starts the workflow for a recipe that was put into the bucket, or for the `recipe.yaml` beside a `_READY`.
 *
 * The execution's name says what is run: a recipe by its key and content, a dataset by its recipe's content and the version of `_READY`, since its
 * images may have changed and the recipe not. The content is read, since the event's etag is not of the content where KMS encrypts the bucket. So the
 * same event twice, and the same recipe put there twice, run once; after a failure the same recipe, put there again, gets a new execution (`…-2`),
 * which continues from what is done. Throws `RecipeNotFound`.
 */
export async function startRun(event: ObjectCreated, { client, stateMachine, store, log }: StartRunOptions): Promise<StartedRun> {
  const sdk = await import('@aws-sdk/client-sfn');
  const { recipe, content } = await recipeOf(event);
  const input: WorkflowInput = { recipe: `s3://${event.bucket}/${recipe}`, store };
  for (let attempt = 1; attempt <= mostAttempts; attempt++) {
    const name = triggeredName(recipe, content, attempt);
    try {
      // Also answers with the execution that is there, when that has the same name and input and is running.
      const { executionArn } = await client.send(new sdk.StartExecutionCommand({ stateMachineArn: stateMachine, name, input: JSON.stringify(input) }));
      log.info(`${input.recipe}: execution ${name}`);
      return { execution: executionArn! };
    } catch (error) {
      if (!(error instanceof sdk.ExecutionAlreadyExists)) throw error;
    }
    const execution = `${stateMachine.replace(':stateMachine:', ':execution:')}:${name}`;
    const { status } = await client.send(new sdk.DescribeExecutionCommand({ executionArn: execution }));
    if (status !== 'FAILED' && status !== 'TIMED_OUT' && status !== 'ABORTED') {
      log.info(`${input.recipe}: execution ${name} is there already (${status})`);
      return { execution };
    }
  }
  throw new GenViewError('TooManyAttempts', `${input.recipe} has failed ${mostAttempts} times unchanged; look at the last execution's error, mend the recipe or the deployment, and start it with \`genview submit\``);
}

/** The recipe that an object starts, and what its execution is named by. */
async function recipeOf({ bucket, key, version }: ObjectCreated): Promise<{ recipe: string; content: readonly string[] }> {
  const ready = /^(.*\/)_READY$/.exec(key);
  const recipe = ready ? `${ready[1]}recipe.yaml` : key;
  const store = openStore(`s3://${bucket}/`);
  let bytes: Uint8Array;
  try { bytes = await store.get(recipe); } catch (cause) {
    if (!(cause instanceof GenViewError && cause.code === 'ObjectNotFound')) throw cause;
    throw new GenViewError('RecipeNotFound', ready
      ? `s3://${bucket}/${key} asks for a run, but there is no s3://${bucket}/${recipe}; put the recipe there (dataset.url: .) and then _READY again`
      : `s3://${bucket}/${recipe} was removed before its run could start; put it there again to run it`, { cause });
  }
  const hash = createHash('sha256').update(bytes).digest('hex');
  return { recipe, content: ready ? [recipe, hash, version] : [recipe, hash] };
}

/**
 * Name of the `attempt`-th execution for a recipe's key and what else decides, at most 80 characters of those that Step Functions allows.
 * @param attempt from 1
 */
export function triggeredName(recipe: string, content: readonly string[], attempt: number): string {
  const hash = createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16);
  const parts = recipe.replace(/\.yaml$/, '').split('/');
  // Every dataset's recipe has the same name: its folder tells them apart.
  const title = (parts.at(-1) === 'recipe' ? parts.at(-2) : parts.at(-1)) ?? '';
  return `${title.replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 56) || 'run'}-${hash}${attempt === 1 ? '' : `-${attempt}`}`;
}
