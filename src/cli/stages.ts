import { GenViewError } from '../errors.ts';
import { toUrl } from '../recipe/location.ts';
import type { RunInput, ShardInput, StageContext, VariantInput } from '../stages/contract.ts';
import type { StageOptions } from './stage.ts';
import type { StageName } from './stageNames.ts';

type Run = (options: StageOptions, context: StageContext) => Promise<unknown>;

const ofRun = (load: () => Promise<(input: RunInput, context: StageContext) => Promise<unknown>>): Run =>
  async (options, context) => (await load())({ run: runOf(options) }, context);
const ofShard = (load: () => Promise<(input: ShardInput, context: StageContext) => Promise<unknown>>): Run =>
  async (options, context) => {
    const input = { run: runOf(options), shard: needed(options.shard, '--shard') };
    return (await load())(input, context);
  };
const ofVariant = (load: () => Promise<(input: VariantInput, context: StageContext) => Promise<unknown>>): Run =>
  async (options, context) => {
    const input = { run: runOf(options), variant: needed(options.variant, '--variant') };
    return (await load())(input, context);
  };

const runs: Readonly<Record<StageName, Run>> = {
  'resolve-recipe': async (options, context) => {
    const input = { recipe: toUrl(needed(options.recipe, '--recipe')), store: toUrl(options.store) };
    return (await import('../stages/resolveRecipe.ts')).resolveRecipe(input, context);
  },
  'shard-dataset': async (options, context) =>
    (await import('../stages/shardDataset.ts')).shardDataset({ run: runOf(options), ...(options.continuation !== undefined && { continuation: options.continuation }) }, context),
  'fit-foreground': ofRun(async () => (await import('../stages/fitForeground.ts')).fitForeground),
  'analyze-foreground': ofShard(async () => (await import('../stages/analyzeForeground.ts')).analyzeForeground),
  'plan-views': ofRun(async () => (await import('../stages/planViews.ts')).planViews),
  'generate-views': ofShard(async () => (await import('../stages/generateViews.ts')).generateViews),
  'pair-similarity': ofRun(async () => (await import('../stages/pairSimilarity.ts')).pairSimilarity),
  'pretrain': ofVariant(async () => (await import('../stages/pretrain.ts')).pretrain),
  'linear-probe': ofVariant(async () => (await import('../stages/linearProbe.ts')).linearProbe),
  'nearest-neighbours': ofVariant(async () => (await import('../stages/nearestNeighbours.ts')).nearestNeighbours),
  'semi-supervised': ofVariant(async () => (await import('../stages/semiSupervised.ts')).semiSupervised),
  'report': ofRun(async () => (await import('../stages/report.ts')).report),
};

/** Runs one stage; only its own code is loaded. Throws `ArgumentsInvalid` when an option that it needs is missing. */
export function runStage(name: StageName, options: StageOptions, context: StageContext): Promise<unknown> {
  return runs[name](options, context);
}

function runOf(options: StageOptions): string {
  return toUrl(needed(options.run, '--run')).replace(/\/?$/, '/');
}

function needed<T>(value: T | undefined, option: string): T {
  if (value === undefined) throw new GenViewError('ArgumentsInvalid', `this stage needs ${option}; see genview stage --help`);
  return value;
}
