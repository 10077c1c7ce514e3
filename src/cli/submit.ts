import { InvalidArgumentError, Option, Command } from 'commander';
import type { Submission } from '../cloud/submit.ts';
import type { Estimate } from '../estimate/estimate.ts';
import { type CloudOptions, openTarget, withTargetOptions } from './cloudOptions.ts';
import { interruptible } from './interruption.ts';
import { jsonOption, printJson, prose, wholeNumber } from './options.ts';

/** Dollars above which nobody submits without having been asked. */
const defaultLimit = 25;

interface Options extends CloudOptions {
  readonly upload?: boolean;
  readonly limit: number;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
  readonly again?: boolean;
  readonly redrive?: boolean;
  readonly watch?: boolean;
  readonly images?: number;
  readonly prices?: string;
  readonly onDemand?: boolean;
  readonly json?: boolean;
}

export function submitCommand(): Command {
  const command = withTargetOptions(new Command('submit'))
    .summary('run a recipe in the cloud')
    .description(prose(`Checks the recipe, says what the run will cost, and starts it on the GenView that is deployed in this AWS
account and region. Submitting the same recipe on the same images again does not run it again.`))
    .argument('<recipe>', 'path or URL of a recipe file')
    .option('--upload', 'copy a dataset and an encoder that lie on this machine into the store')
    .addOption(new Option('--limit <dollars>', 'ask before submitting what is estimated to cost more').argParser(dollars).default(defaultLimit).env('GENVIEW_COST_LIMIT'))
    .option('--yes', 'submit without asking')
    .option('--dry-run', 'only the estimate; needs no deployment, and takes the machines of one that is named')
    .option('--again', 'start anew where the same has run before; what is in the store is not made again')
    .option('--redrive', 'continue the cancelled or timed-out execution itself')
    .option('--watch', 'then show its progress until it has ended')
    .option('--images <n>', 'do not list the dataset: so many training images', wholeNumber(1))
    .option('--prices <file>', 'prices of your region and contract (default: src/estimate/prices.json)')
    .option('--on-demand', 'estimate for a deployment without spot instances')
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview submit recipe.yaml --dry-run
  genview submit recipe.yaml --upload --watch
  genview submit s3://bucket/recipes/birds.yaml --stack GenViewWorkflow --yes`)
    .action(async (file: string, options: Options) => {
      await submit(file, options, command);
    });
  return command;
}

async function submit(file: string, options: Options, command: Command): Promise<void> {
  const [
    { toUrl }, { checkLocations, identifyRun, locate, readRecipe }, cloud, { queuesIn, readDefinition }, { machinesOfDefinition }, { defaultMachines },
    { refuseTooManyNodes }, { estimate }, { notesOnDeployment }, { readPrices }, { defaultImageBytes }, { formatEstimate }, { GenViewError }, { createLog },
  ] = await Promise.all([
    import('../recipe/location.ts'), import('../stages/resolveRecipe.ts'), import('../cloud/submit.ts'), import('../cloud/definition.ts'), import('../workflow/definition.ts'),
    import('../workflow/deployedMachines.ts'), import('../stages/trainingMachines.ts'), import('../estimate/estimate.ts'), import('../estimate/notes.ts'), import('../estimate/prices.ts'),
    import('../estimate/constants.ts'), import('./showEstimate.ts'), import('../errors.ts'), import('../log.ts'),
  ]);
  const url = toUrl(file);
  const recipe = locate(await readRecipe(url), url);
  const prices = await readPrices(options.prices);
  await checkLocations(recipe);

  // A deployment is looked for before anything takes long.
  const named = options.cloud === true || options.stack !== undefined || command.getOptionValueSource('stateMachine') === 'cli';
  const target = options.dryRun === true && !named ? undefined : await openTarget({ ...options, cloud: true }, command);
  const deployment = target?.deployment, definition = target && deployment && await readDefinition(target.clients, deployment.stateMachine);
  // Where workers do the work, nobody is paid for it, and one worker runs all nodes of a job.
  const ofWorkers = definition !== undefined && queuesIn(definition).length === 0, told = definition && machinesOfDefinition(definition);
  if (told !== undefined) refuseTooManyNodes(recipe, told.training);
  if (deployment !== undefined && options.upload !== true && options.dryRun !== true) cloud.refuseLocalParts(recipe, deployment.store);
  const log = createLog();
  const bucketOf = (location: string): string => location.split('/', 3).join('/');
  if (deployment !== undefined && recipe.dataset.url.startsWith('s3://') && bucketOf(recipe.dataset.url) !== bucketOf(deployment.store)) {
    log.warn(`the dataset is not in ${bucketOf(deployment.store)}: the deployment must have been given the right to read it (option inputs, docs/aws.md)`);
  }

  const { images } = options, { validationFraction } = recipe.dataset;
  const assumed = images === undefined ? undefined : { train: images, val: Math.round(images * validationFraction / (1 - validationFraction)), bytes: images / (1 - validationFraction) * defaultImageBytes };
  const measured = await interruptible((context) => cloud.measureDataset(recipe, context, assumed));
  const machines = told ?? { ...defaultMachines, ...(ofWorkers && { training: { ...defaultMachines.training, nodes: 1000 } }) };
  const modelled = estimate(recipe, measured, { prices, machines: options.onDemand === true ? { ...machines, spot: false } : machines });
  const expected = { ...modelled, notes: [...modelled.notes, ...ofWorkers ? [] : notesOnDeployment(told !== undefined, deployment?.stateMachine, prices)] };
  if (options.json !== true) process.stdout.write(`${formatEstimate(expected)}\n${ofWorkers ? 'workers do the work of this deployment: that is what AWS Batch would cost\n' : ''}`);
  if (target === undefined || deployment === undefined || options.dryRun === true) {
    if (options.json) printJson({ estimate: expected });
    return;
  }

  const { clients } = target;
  const { models } = await identifyRun(recipe);
  // What has run, or is running, costs nothing to submit again, and needs no question.
  const remote = recipe.dataset.url.startsWith('s3://') || recipe.dataset.url.startsWith('builtin:');
  const before = remote ? await knownExecution() : undefined;
  if (before === undefined && !ofWorkers) await confirm(expected, options);

  let submission: Submission | undefined = before;
  if (submission === undefined) {
    let starting = false;
    submission = await interruptible(async (context) => {
      const uploaded = await cloud.uploadLocalParts(recipe, models, deployment.store, context);
      const { content } = uploaded.dataset.url === recipe.dataset.url ? measured : await cloud.measureDataset(uploaded, context, assumed);
      context.signal.throwIfAborted();
      starting = true;
      return cloud.submitRecipe(clients, deployment, uploaded, models, content, options);
    }, () => starting ? 'stopped while the execution was being started: the same command again says whether it was' : 'stopped before anything was started in the cloud; the same command again continues');
  }

  const flags = flagsFor(options, command);
  if (options.json) printJson({ ...submission, estimate: expected });
  else process.stdout.write(`\n${describe(submission, flags)}\n`);
  if (submission.outcome === 'failed' || submission.outcome === 'cancelled' || submission.outcome === 'timed out') {
    throw new GenViewError('RunEnded', `${submission.runId} ${submission.outcome === 'failed' ? `has failed${submission.error === undefined ? '' : ` (${submission.error})`}` : `was ${submission.outcome}`}; nothing was started: `
      + `--again starts another execution, which goes on from what is in the store${submission.outcome === 'failed' ? '' : ', --redrive continues this one where it was'}`);
  }
  if (options.watch && submission.outcome !== 'done') {
    const { watchRun } = await import('./showStatus.ts');
    const state = await watchRun(target, submission.runId, { json: options.json === true, interval: 10 });
    if (state !== 'done') process.exitCode = 1;
  }

  /** An execution that makes a new one unnecessary. */
  async function knownExecution(): Promise<Submission | undefined> {
    if (options.again === true || options.redrive === true || cloud.localParts(recipe).encoder !== undefined) return undefined;
    return cloud.findExecution(clients, deployment!, (await identifyRun(recipe, models)).runId, measured.content);
  }
}

function describe({ runId, run, execution, outcome }: Submission, flags: string): string {
  const said = {
    started: `${runId} started: execution ${execution}`,
    redriven: `${runId} continues: execution ${execution}`,
    running: `${runId} is running already: execution ${execution}`,
    done: `${runId} is done already: execution ${execution}; --again runs it again`,
    failed: '', cancelled: '', 'timed out': '',
  }[outcome];
  return [
    ...said === '' ? [] : [said],
    `  run     ${run}`,
    ...outcome === 'done' ? [`  report  genview report ${runId}${flags} --fetch .`] : [`  status  genview status ${runId}${flags} --watch`, `  logs    genview logs ${runId}${flags}`],
    ...outcome === 'started' || outcome === 'running' || outcome === 'redriven' ? [`  stop    genview cancel ${runId}${flags}`] : [],
  ].join('\n');
}

/** What the other commands need to find the same deployment. */
function flagsFor({ stack, stateMachine, store }: Options, command: Command): string {
  if (stack !== undefined) return ` --stack ${stack}`;
  const given = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
  const explicit = `${given('stateMachine') ? ` --state-machine ${stateMachine}` : ''}${given('store') ? ` --store ${store}` : ''}`;
  return explicit !== '' ? explicit : command.getOptionValueSource('store') === 'env' ? '' : ' --cloud';
}

/** Throws `CostAboveLimit` when nobody says yes; `CostUnknown` where a part of it is not known. */
async function confirm({ dollars: { total: cost }, unpriced }: Estimate, { limit, yes, json }: Options): Promise<void> {
  if (yes === true || cost <= limit && unpriced.length === 0) return;
  const [{ GenViewError }, { money }, { createInterface }] = await Promise.all([import('../errors.ts'), import('./showEstimate.ts'), import('node:readline/promises')]);
  const above = cost > limit;
  const refusal = above ? new GenViewError('CostAboveLimit', `the estimate of ${money(cost)} is above the limit of ${money(limit)} and nothing was submitted; --yes submits all the same, --limit <dollars> sets another limit`)
    : new GenViewError('CostUnknown', `whether the cost is below the limit of ${money(limit)} is not known without a price of ${unpriced.join(' and ')}, and nothing was submitted; --yes submits all the same, --prices <file> gives prices`);
  if (process.stdin.isTTY !== true || json === true) throw refusal;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(above ? `That is above the limit of ${money(limit)}. Submit? [y/N] ` : `What ${unpriced.join(' and ')} cost is not known. Submit? [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw refusal;
  } finally { terminal.close(); }
}

function dollars(text: string): number {
  const value = Number(text.replace(/^\$/, ''));
  if (text.trim() === '' || !Number.isFinite(value) || value < 0) throw new InvalidArgumentError('It must be an amount of US dollars, for example 100.');
  return value;
}
