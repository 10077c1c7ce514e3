import { createHash } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ExitCode, GenViewError } from '../errors.ts';
import type { DatasetSize } from '../estimate/work.ts';
import type { Log } from '../log.ts';
import { kindOfList } from '../recipe/location.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { contentHash } from '../stages/artefacts.ts';
import type { ResolvedRun } from '../stages/contract.ts';
import { identifyRun } from '../stages/resolveRecipe.ts';
import { openStore, splitUrl, writeJson } from '../storage/index.ts';
import type { Clients } from './clients.ts';
import { demoDataset, listDataset, type ListedDataset, readDatasetList, uploadFolder } from './dataset.ts';
import type { Deployment } from './deployment.ts';
import { attemptOfName, describeExecution, executionArn, executionName, type ExecutionDetails, redriveExecution, startExecution } from './executions.ts';
import { executionsByRun } from './runs.ts';

interface Context {
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * Lists the recipe's dataset where it is. With `images` given it is not listed: training images and bytes are then assumed, and
 * the execution's name does not tell one content of the dataset from another.
 * @param recipe located
 */
export async function measureDataset({ dataset }: Recipe, context: Context, assumed?: DatasetSize): Promise<ListedDataset> {
  if (dataset.url === 'builtin:demo') return demoDataset;
  if (assumed !== undefined) return { ...assumed, content: contentHash('not listed').slice(0, 8) };
  return dataset.list === undefined ? listDataset(openStore(dataset.url), dataset.validationFraction, context) : readDatasetList(dataset.list, dataset.url, dataset.validationFraction, context);
}

/** What of a recipe lies on this machine only, where the cloud cannot read it. */
export function localParts({ dataset, foreground }: Recipe): { readonly dataset?: string; readonly list?: string; readonly encoder?: string } {
  const local = (url: string): boolean => url.startsWith('file:'), { list } = dataset;
  return { ...(local(dataset.url) && { dataset: dataset.url }), ...(list !== undefined && local(list) && { list }), ...(local(foreground.encoder.model) && { encoder: foreground.encoder.model }) };
}

/** Throws `NotInCloud`, which says how to bring it there, when something of the recipe lies on this machine only. */
export function refuseLocalParts(recipe: Recipe, store: string): void {
  const { dataset, list, encoder } = localParts(recipe);
  const problems = [
    ...dataset === undefined ? [] : [`dataset.url is the folder ${fileURLToPath(dataset)}: --upload copies it to ${datasetPlace(dataset, store)}, or copy it yourself and write the URL: aws s3 sync '${fileURLToPath(dataset)}' ${datasetPlace(dataset, store)}`],
    ...list === undefined ? [] : [`dataset.list is the file ${fileURLToPath(list)}: ${kindOfList(list) === 'inventory' ? 'an inventory is read where S3 wrote it; give its s3:// URL' : `--upload copies it to ${inputsOf(store)}datasets/lists/`}`],
    ...encoder === undefined ? [] : [`foreground.encoder.model is the file ${fileURLToPath(encoder)}: --upload copies it to ${inputsOf(store)}models/`],
  ];
  if (problems.length > 0) throw new GenViewError('NotInCloud', problems.join('\n'));
}

/**
 * Where people's own things lie: `recipes/`, `datasets/` and `models/` beside the store where that is the folder `store/` of a bucket, as
 * deployed, so that no stage may write there; else in it.
 */
export function inputsOf(store: string): string {
  return store.replace(/(?<=^s3:\/\/[^/]+\/)store\/$/, '');
}

/** `datasets/<name of the folder>/` */
function datasetPlace(url: string, store: string): string {
  return `${inputsOf(store)}datasets/${path.basename(fileURLToPath(url)).replace(/[^\w.-]+/g, '-')}/`;
}

/** Copies what lies on this machine into the store. Throws `DatasetInTheWay`. @returns the recipe with the new places */
export async function uploadLocalParts(recipe: Recipe, models: ResolvedRun['models'], store: string, context: Context): Promise<Recipe> {
  const { dataset, list, encoder } = localParts(recipe);
  let uploaded = recipe;
  if (dataset !== undefined) {
    const place = datasetPlace(dataset, store), from = openStore(dataset), to = openStore(place);
    const here = new Set<string>();
    for await (const { key } of from.list('')) here.add(key);
    for await (const { key } of to.list('')) {
      if (!here.has(key)) throw new GenViewError('DatasetInTheWay', `${place} holds files that the folder does not, such as ${key}: it is another dataset; rename the folder, or remove what is there`);
    }
    const { copied, present } = await uploadFolder(from, to, context);
    context.log.info(`${place}: ${copied} files copied, ${present} were there`);
    uploaded = { ...uploaded, dataset: { ...uploaded.dataset, url: to.root } };
  }
  if (list !== undefined) {
    if (kindOfList(list) === 'inventory') refuseLocalParts(recipe, store);
    const { store: folder, key } = splitUrl(list), bytes = await folder.get(key);
    const to = openStore(inputsOf(store)), place = `datasets/lists/${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}/${key}`;
    if (!await to.head(place)) await to.put(place, bytes);
    uploaded = { ...uploaded, dataset: { ...uploaded.dataset, list: to.url(place) } };
  }
  if (encoder !== undefined) {
    const { store: folder, key } = splitUrl(encoder);
    const to = openStore(inputsOf(store)), place = `models/${models.encoder.slice(0, 16)}/${key}`;
    if (!await to.head(place)) await to.put(place, await folder.getStream(key));
    uploaded = { ...uploaded, foreground: { ...uploaded.foreground, encoder: { ...uploaded.foreground.encoder, model: to.url(place) } } };
  }
  return uploaded;
}

export interface SubmitOptions {
  /** Start another execution where one of the same recipe and images has ended. */
  readonly again?: boolean;
  /** Continue a cancelled or timed-out execution. */
  readonly redrive?: boolean;
}

export interface Submission {
  readonly runId: string;
  /** URL of the run. */
  readonly run: string;
  readonly execution: string;
  /** `running`, `done` and so on: of the execution that was there before, and nothing was started. */
  readonly outcome: 'started' | 'redriven' | ExecutionDetails['state'];
  readonly error?: string;
  readonly cause?: string;
}

/** What there is of a run on a dataset: a running execution, whatever started it, else the newest of `genview submit`; undefined when there is none. */
export async function findExecution(clients: Clients, deployment: Deployment, runId: string, content: string): Promise<Submission | undefined> {
  const found = await latestExecution(clients, deployment, runId, content);
  return found.newest && submissionOf(deployment, runId, found.newest);
}

function submissionOf({ store }: Deployment, runId: string, { name, state, error, cause }: ExecutionDetails): Submission {
  return { runId, run: `${store}runs/${runId}/`, execution: name, outcome: state, ...(error !== undefined && { error }), ...(cause !== undefined && { cause }) };
}

/** `attempts`: how many names of this run and content are used up. */
async function latestExecution(clients: Clients, { stateMachine }: Deployment, runId: string, content: string): Promise<{ readonly newest?: ExecutionDetails; readonly attempts: number }> {
  const known = (await executionsByRun(clients, stateMachine)).get(runId) ?? [];
  const prefix = executionName(runId, content, 1);
  let attempts = Math.max(0, ...known.filter(({ name }) => name === prefix || name.startsWith(`${prefix}-`)).map(({ name }) => attemptOfName(name)));
  const running = known.find(({ state }) => state === 'running');
  if (running) return { newest: { ...running, input: '' }, attempts };
  // The listing is cut off; a name is remembered for 90 days.
  const at = (number: number): Promise<ExecutionDetails | undefined> => describeExecution(clients, executionArn(stateMachine, executionName(runId, content, number)));
  let newest = attempts > 0 ? await at(attempts) : undefined;
  for (let later; (later = await at(attempts + 1)) !== undefined; attempts++) newest = later;
  return { ...(newest && { newest }), attempts };
}

/**
 * Puts the recipe into the store and starts its execution, unless one of the same recipe on the same images is there: a running
 * one is left to run, one that has ended needs `again` or `redrive`.
 *
 * The recipe is stored with every default and every URL filled in, as `recipes/<run>.json`: a name that the trigger on
 * `recipes/*.yaml` does not start a second time.
 * @param recipe located, with nothing on this machine
 * @param content of the dataset
 */
export async function submitRecipe(clients: Clients, deployment: Deployment, recipe: Recipe, models: ResolvedRun['models'], content: string, options: SubmitOptions = {}): Promise<Submission> {
  const { stateMachine, store } = deployment;
  const { runId } = await identifyRun(recipe, models);
  const { newest, attempts } = await latestExecution(clients, deployment, runId, content);
  const { again = false, redrive = false } = options;
  if (newest?.state === 'running' || (newest !== undefined && !again && !redrive)) return submissionOf(deployment, runId, newest);
  if (redrive) {
    if (newest === undefined) throw new GenViewError('NotRedrivable', `there is no execution of ${runId} on these images to redrive; without --redrive the command starts one`);
    if (newest.state === 'done') throw new GenViewError('NotRedrivable', `the execution ${newest.name} has succeeded: there is nothing to redrive`);
    if (newest.state === 'failed') {
      throw new GenViewError('NotRedrivable', `the execution ${newest.name} failed and has recorded that as its last state, where a redrive would only fail again; --again starts another, which goes on from what is in the store`);
    }
    await redriveExecution(clients, newest.arn);
    return { ...submissionOf(deployment, runId, newest), outcome: 'redriven' };
  }

  const inputs = openStore(inputsOf(store)), recipeKey = `recipes/${runId}.json`;
  await writeJson(inputs, recipeKey, recipe);
  const name = executionName(runId, content, attempts + 1), arn = executionArn(stateMachine, name);
  if (await startExecution(clients, stateMachine, name, { recipe: inputs.url(recipeKey), store })) return { runId, run: `${store}runs/${runId}/`, execution: name, outcome: 'started' };
  // Someone else was faster.
  const other = await describeExecution(clients, arn);
  if (other === undefined) throw new GenViewError('ExecutionNotFound', `Step Functions says that ${name} exists, and does not find it; run the same command again`, { exitCode: ExitCode.TemporaryFailure });
  return submissionOf(deployment, runId, other);
}
