import { createHash } from 'node:crypto';
import { GenViewError } from '../errors.ts';
import type { PretrainingRecipe, Recipe } from '../recipe/recipe.ts';
import { openStore, readJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import type { ResolvedRun, RunPlan } from './contract.ts';

/**
 * Raised when a stage's output changes for the same inputs, so that what older versions left in a store is not taken
 * for it. Every later stage's address changes with it.
 */
const formats = { dataset: 1, foreground: 1, analysis: 1, views: 1, similarity: 1, pretrain: 1, evaluate: 1 } as const;

/** JSON with sorted keys and without undefined fields: equal values give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => part !== null && typeof part === 'object' && !Array.isArray(part)
    ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0))
    : part);
}

/** First 16 hexadecimal digits of the SHA-256 of the canonical JSON. */
export function contentHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex').slice(0, 16);
}

/**
 * Where every stage of a run leaves its output. An address is the hash of everything the output depends on and of
 * nothing else, so that recipes share what they can:
 * - recipes with equal dataset, foreground and generation settings share the views;
 * - a variant that uses no generated view (probability 0) and no quality loss depends on neither foreground nor
 *   generation, so any number of recipes share one baseline;
 * - batch sizes of inference, the quarantine limit and checkpoint intervals do not change results and are left out.
 * @param datasetHash hash of the dataset's listing (path, size and content of every image)
 */
export function planArtefacts(run: ResolvedRun, datasetHash: string, shards: number): RunPlan {
  const { recipe, models } = run;
  const address = (stage: keyof typeof formats, folder: string, inputs: Record<string, unknown>): string =>
    `${folder}/${contentHash({ stage, format: formats[stage], ...inputs })}/`;

  const { shardSize, validationFraction } = recipe.dataset;
  const dataset = address('dataset', 'datasets', {
    listing: datasetHash, shardSize, validationFraction, shards,
    sampleImages: recipe.foreground.sampleImages, seed: recipe.seed,
  });
  // What training on originals alone depends on: the PCA sample is not part of it.
  const originals = { listing: datasetHash, shardSize, validationFraction, shards };

  const { batch: _encoderBatch, encoder: { model: _encoderModel, ...encoderSettings }, ...foregroundSettings } = recipe.foreground;
  const foreground = address('foreground', 'foreground', {
    dataset, encoder: { ...encoderSettings, hash: models.encoder }, settings: foregroundSettings,
  });
  const analysis = address('analysis', 'analysis', { dataset, foreground });

  const { batch: _samplerBatch, generator: _generator, ...generationSettings } = recipe.generation;
  const views = address('views', 'views', {
    analysis, seed: recipe.seed,
    generation: usesViews(recipe) ? { ...generationSettings, hash: models.generator } : 'none',
  });
  const similarity = address('similarity', 'similarity', {
    views, seed: recipe.seed, encoder: { ...encoderSettings, hash: models.encoder }, images: recipe.evaluation.similarityImages,
  });

  const { similarityImages: _similarityImages, ...evaluation } = recipe.evaluation;
  const variants = recipe.variants.map(({ name, seed, pretraining }) => {
    const trains = pretraining.epochs > 0;
    const pretrain = address('pretrain', 'pretrain', {
      originals, seed,
      views: trains && pretraining.views.probability > 0 ? views : 'none',
      scorer: trains && pretraining.qualityLoss.enabled ? foreground : 'none',
      settings: effective(pretraining),
    });
    return { name, pretrain, evaluate: address('evaluate', 'evaluate', { pretrain, seed, evaluation }) };
  });
  return { dataset, foreground, analysis, views, similarity, variants, shards };
}

/** Whether any variant trains on generated views; otherwise none are made, and the shards hold the originals alone. */
export function usesViews({ variants }: Recipe): boolean {
  return variants.some(({ pretraining }) => pretraining.views.probability > 0);
}

/** Pretraining settings without those that have no effect on the result beside the others. */
function effective(pretraining: PretrainingRecipe): Record<string, unknown> {
  const { checkpointSteps: _checkpointSteps, views, qualityLoss, queue, ...rest } = pretraining;
  // The random initialisation: nothing but the network and its input matters.
  if (rest.epochs === 0) return { epochs: 0, method: rest.method, backbone: rest.backbone, head: rest.head, augmentation: rest.augmentation };
  return {
    ...rest,
    ...(pretraining.method === 'mocov2' && { queue }),
    views: views.probability > 0 ? views : 'none',
    qualityLoss: qualityLoss.enabled ? qualityLoss : 'none',
  };
}

/** Splits `<store>/runs/<runId>/` (the last slash may be missing). */
export function splitRunUrl(runUrl: string): { store: string; runId: string } {
  const match = /^(.*\/)?runs\/([^/]+)\/?$/.exec(runUrl);
  if (!match) throw new GenViewError('RunUrlInvalid', `${runUrl} is not the URL of a run; expected <store>/runs/<run>/`);
  return { store: match[1] ?? './', runId: match[2]! };
}

export interface ResolvedRunHandle {
  readonly store: ObjectStore;
  readonly run: ResolvedRun;
  /** `runs/<runId>/` */
  readonly runPrefix: string;
}

/**
 * The resolved recipe of a run, before its dataset is listed. The store is the one the URL names, also when the run was
 * resolved elsewhere and copied there.
 */
export async function openResolved(runUrl: string): Promise<ResolvedRunHandle> {
  const { store: root, runId } = splitRunUrl(runUrl);
  const store = openStore(root);
  const runPrefix = `runs/${runId}/`;
  if (!await store.head(`${runPrefix}recipe.json`)) {
    throw new GenViewError('RunNotFound', `no run at ${store.url(runPrefix)}: recipe.json is missing; start it with \`genview run <recipe> --store ${root}\``);
  }
  const run = await readJson<ResolvedRun>(store, `${runPrefix}recipe.json`);
  return { store, run: { ...run, store: store.root }, runPrefix };
}

/** As `openResolved`, with the addresses of the run's artefacts. Throws `RunNotPlanned` before ShardDataset has ended. */
export async function openRun(runUrl: string): Promise<ResolvedRunHandle & { readonly plan: RunPlan }> {
  const handle = await openResolved(runUrl);
  const key = `${handle.runPrefix}plan.json`;
  if (!await handle.store.head(key)) {
    throw new GenViewError('RunNotPlanned', `${handle.store.url(key)} is missing: the dataset of this run has not been listed yet; run the stage shard-dataset first`);
  }
  return { ...handle, plan: await readJson<RunPlan>(handle.store, key) };
}
