import { kindOfList } from './location.ts';
import { overlay } from './defaults.ts';
import { isViT } from './backbone.ts';
import type { PretrainingRecipe, Recipe } from './recipe.ts';
import type { RecipeFile } from './schema.ts';

/** What is wrong, at a path of the file. */
export interface Problem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Combinations of fields that cannot work, each field by itself being in range. */
export function impossibleCombinations(file: RecipeFile, recipe: Recipe): Problem[] {
  const problems: Problem[] = [];

  const { url, list } = recipe.dataset;
  if (list !== undefined && url.startsWith('builtin:')) problems.push({ path: ['dataset', 'list'], message: `has no meaning with the embedded dataset ${url}; remove it` });
  if (list !== undefined && kindOfList(list) === undefined) problems.push({ path: ['dataset', 'list'], message: `is ${list}, but must end in .json (manifest.json of an S3 Inventory), .jsonl or .jsonl.gz` });

  const noise = file.generation?.noise;
  const { generator, steps, scheduler } = recipe.generation;
  if (generator !== 'builtin:demo-unclip') {
    problems.push({ path: ['generation', 'generator'], message: `is ${generator}, but only builtin:demo-unclip runs in this version; remove the field, or write that name` });
  }
  if (typeof noise === 'object' && 'strategy' in noise) {
    if (noise.strategy === 'constant' && noise.level === undefined) {
      problems.push({ path: ['generation', 'noise'], message: 'strategy constant needs a level from 0 to 999' });
    }
    if (noise.strategy !== 'constant' && noise.level !== undefined) {
      problems.push({ path: ['generation', 'noise', 'level'], message: `has no meaning with strategy ${noise.strategy}; remove it, or use strategy constant` });
    }
  }
  if (scheduler === 'pndm' && steps < 2) {
    problems.push({ path: ['generation', 'steps'], message: 'must be at least 2 with scheduler pndm' });
  }

  const first = new Map<string, number>();
  for (const [i, { name, pretraining }] of recipe.variants.entries()) {
    const earlier = first.get(name);
    if (earlier !== undefined) problems.push({ path: ['variants', i, 'name'], message: `is "${name}", as that of variants[${earlier}]; names must differ` });
    else first.set(name, i);
    for (const problem of ofVariant(file, i, pretraining)) {
      // A mistake in the common settings appears in every variant: once is enough.
      if (!problems.some((known) => known.message === problem.message && String(known.path) === String(problem.path))) problems.push(problem);
    }
  }
  return problems;
}

function ofVariant(file: RecipeFile, index: number, complete: PretrainingRecipe): Problem[] {
  const own = file.variants?.[index]?.pretraining;
  const merged = overlay(file.pretraining ?? {}, own ?? {});
  const problems: Problem[] = [];
  /** Blames the place where the last of the fields in question is written; the variant's, where it has one. */
  const blame = (message: string, ...fields: string[][]): void => {
    const written = (root: unknown, field: string[]): boolean => field.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], root) !== undefined;
    const inVariant = fields.find((field) => written(own, field));
    const inBase = fields.find((field) => written(file.pretraining, field));
    if (inVariant) problems.push({ path: ['variants', index, 'pretraining', ...inVariant], message });
    else problems.push({ path: ['pretraining', ...(inBase ?? fields[0]!)], message });
  };

  const { batch, queue, nodes, epochs, schedule: { warmupEpochs }, optimizer, augmentation: { imageSize }, backbone, method } = complete;
  if (method === 'mocov2' && queue % batch !== 0) {
    const near = Math.max(1, Math.round(queue / batch)) * batch;
    blame(`queue ${queue}${merged.queue === undefined ? ' (the default)' : ''} is not a multiple of batch ${batch}; for example queue: ${near}`, ['queue'], ['batch']);
  }
  if (epochs > 0 && warmupEpochs > epochs) {
    blame(`warmupEpochs ${warmupEpochs} is longer than the ${epochs} epochs of pretraining`, ['schedule', 'warmupEpochs'], ['epochs']);
  }
  if (batch % nodes !== 0) {
    blame(`batch ${batch} cannot be divided evenly among ${nodes} nodes`, ['nodes'], ['batch']);
  }
  if (batch / nodes < 2 && (isViT(backbone) ? method === 'mocov3' : backbone.norm === 'batch')) {
    blame(`batch ${batch} leaves ${nodes} nodes fewer than two images each, too few for batch normalisation`, ['nodes'], ['batch']);
  }
  for (const [field, users] of Object.entries({ trust: ['lars'], form: ['lars'], momentum: ['sgd', 'lars'] })) {
    if (merged.optimizer?.[field as 'trust' | 'form' | 'momentum'] !== undefined && !users.includes(optimizer.name)) {
      blame(`${field} is a setting of ${users.join(' and ')}; the optimizer is ${optimizer.name}`, ['optimizer', field]);
    }
  }
  for (const field of ['stem', 'width', 'norm', 'patch'] as const) {
    if (merged.backbone?.[field] === undefined || isViT(backbone) === (field === 'patch')) continue;
    blame(`${field} is a setting of ${field === 'patch' ? 'Vision Transformers' : 'ResNets'}; the backbone is ${backbone.name}`, ['backbone', field]);
  }
  if (isViT(backbone)) {
    if (imageSize % backbone.patch !== 0) {
      blame(`imageSize ${imageSize} does not divide into patches of ${backbone.patch} pixels`, ['backbone', 'patch'], ['augmentation', 'imageSize']);
    }
  } else if (backbone.stem === 'imagenet' && imageSize < 64) {
    blame(`imageSize ${imageSize} is too small for stem imagenet, which shrinks it 32 times; use stem cifar, or at least 64 pixels`, ['backbone', 'stem'], ['augmentation', 'imageSize']);
  }
  return problems;
}
