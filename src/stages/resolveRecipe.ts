import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { builtinModels } from '../demo/modelFiles.ts';
import { GenViewError } from '../errors.ts';
import { kindOfList, resolveLocation, toUrl } from '../recipe/location.ts';
import { parseRecipe } from '../recipe/parse.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { openStore, splitUrl, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { contentHash } from './artefacts.ts';
import type { ResolvedRun, ResolveRecipeInput, ResolveRecipeOutput, StageContext } from './contract.ts';
import { refuseTooManyNodes } from './trainingMachines.ts';

/**
 * Reads and validates the recipe, fills in its defaults, finds its dataset and models, and writes
 * `runs/<runId>/recipe.json`. The run's name is the recipe's, and a hash of everything in it: the same recipe on the same
 * store is the same run, and continues.
 *
 * Throws `RecipeNotFound`, `RecipeInvalid`, `NodesUnavailable`, `LocationInvalid`, `DatasetMissing`, `ModelNotFound`.
 */
export async function resolveRecipe(input: ResolveRecipeInput, context: StageContext): Promise<ResolveRecipeOutput> {
  const store = openStore(input.store);
  const recipeUrl = toUrl(input.recipe);
  const located = locate(await readRecipe(recipeUrl), recipeUrl);
  if (input.training) refuseTooManyNodes(located, input.training);
  const { runId, models } = await identifyRun(located);
  const recipe = { ...located, dataset: { ...located.dataset, url: await findDataset(located.dataset, store, context) } };

  const prefix = `runs/${runId}/`;
  const run: ResolvedRun = { runId, store: store.root, recipe, models };
  await writeJson(store, `${prefix}recipe.json`, run);
  // An earlier attempt's; this one will write its own if it comes to that.
  await store.delete(`${prefix}failure.json`);
  return {
    run: store.url(prefix), runId,
    variants: recipe.variants.map(({ name, pretraining }) => ({ name, nodes: pretraining.nodes })),
  };
}

/**
 * Name of the run of a located recipe, and the hashes of its models that are part of it. Throws `ModelNotFound`.
 * @param models when they are known already. @default read from where the recipe says
 */
export async function identifyRun(located: Recipe, models?: ResolvedRun['models']): Promise<Pick<ResolvedRun, 'runId' | 'models'>> {
  const hashes = models ?? {
    encoder: await hashModel(located.foreground.encoder.model, 'foreground.encoder.model'),
    generator: await hashModel(located.generation.generator, 'generation.generator'),
  };
  return { runId: `${located.name}-${contentHash({ recipe: located, models: hashes }).slice(0, 8)}`, models: hashes };
}

/** Reads the recipe at a `file:` or `s3:` URL, without looking for what it names. */
export async function readRecipe(recipeUrl: string): Promise<Recipe> {
  const source = recipeUrl.startsWith('file:') ? fileURLToPath(recipeUrl) : recipeUrl;
  const { store, key } = splitUrl(recipeUrl);
  let bytes: Uint8Array;
  try { bytes = await store.get(key); } catch (cause) {
    if (cause instanceof GenViewError && cause.code === 'ObjectNotFound') {
      throw new GenViewError('RecipeNotFound', `there is no recipe at ${source}; \`genview init\` writes one to start from`, { cause });
    }
    throw cause;
  }
  let text: string;
  try { text = new TextDecoder('utf-8', { fatal: true }).decode(bytes); } catch (cause) {
    throw new GenViewError('RecipeInvalid', `${source}: is not a text file in UTF-8`, { cause });
  }
  return parseRecipe(text, source);
}

/** Paths in the recipe become URLs. */
export function locate(recipe: Recipe, recipeUrl: string): Recipe {
  const { dataset, foreground } = recipe;
  const model = resolveLocation(foreground.encoder.model, recipeUrl, 'foreground.encoder.model');
  return {
    ...recipe,
    dataset: {
      ...dataset,
      url: resolveLocation(dataset.url, recipeUrl, 'dataset.url', true),
      ...(dataset.list !== undefined && { list: resolveLocation(dataset.list, recipeUrl, 'dataset.list') }),
    },
    foreground: { ...foreground, encoder: { ...foreground.encoder, model } },
  };
}

/** Throws `DatasetMissing` or `ModelNotFound` when something that the located recipe names is not there. Renders nothing. */
export async function checkLocations(recipe: Recipe): Promise<void> {
  const { dataset, foreground, generation } = recipe;
  if (dataset.url !== 'builtin:demo') await findImages(dataset.url, dataset.list);
  await hashModel(foreground.encoder.model, 'foreground.encoder.model');
  await hashModel(generation.generator, 'generation.generator');
}

/** URL of the images; the embedded dataset is rendered into the store when it is not there. Throws `DatasetMissing`. */
async function findDataset({ url, list }: Recipe['dataset'], store: ObjectStore, context: Pick<StageContext, 'log' | 'signal'>): Promise<string> {
  return url === 'builtin:demo' ? renderDemo(store, context) : findImages(url, list);
}

async function findImages(url: string, list?: string): Promise<string> {
  if (list !== undefined) {
    const { store, key } = splitUrl(list);
    if (!await store.head(key)) throw new GenViewError('DatasetMissing', `dataset.list: there is no file ${list}; paths in a recipe are relative to the recipe's own folder`);
    return url;
  }
  if (url.startsWith('builtin:')) throw new GenViewError('DatasetMissing', `dataset.url: there is no dataset ${url}; the embedded one is builtin:demo`);
  for await (const _first of openStore(url).list('')) return url;
  const remedy = kindOfList(url.replace(/\/$/, '')) ? 'dataset.url is where the images are; a file that names them goes into dataset.list' : "paths in a recipe are relative to the recipe's own folder";
  throw new GenViewError('DatasetMissing', `dataset.url: there are no files at ${url}; ${remedy}`);
}

/** The embedded dataset lies beside the run's other data, so that it is rendered once for a store. */
async function renderDemo(store: ObjectStore, { log, signal }: Pick<StageContext, 'log' | 'signal'>): Promise<string> {
  const url = store.url('demo-dataset/');
  const { renderDemoDataset } = await import('../demo/dataset.ts');
  await renderDemoDataset({ store: openStore(url), signal }, log);
  return url;
}

/** SHA-256 of what a model consists of: one file, or those of an embedded model. */
async function hashModel(model: string, field: string): Promise<string> {
  const hash = createHash('sha256');
  const weights = builtinModels[model];
  if (weights) {
    for (const file of weights) {
      try { await update(hash, createReadStream(file)); } catch (cause) {
        throw new GenViewError('ModelNotFound', `${field}: the weights of ${model} are missing (${file}); \`genview models train-demo\` trains them`, { cause });
      }
    }
    return hash.digest('hex');
  }
  if (model.startsWith('builtin:')) {
    throw new GenViewError('ModelNotFound', `${field}: there is no model ${model}; the embedded ones are ${Object.keys(builtinModels).join(' and ')}`);
  }
  const { store, key } = splitUrl(model);
  if (!await store.head(key)) throw new GenViewError('ModelNotFound', `${field}: there is no file ${model}; paths in a recipe are relative to the recipe's own folder`);
  await update(hash, await store.getStream(key));
  return hash.digest('hex');
}

async function update(hash: Hash, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of chunks) hash.update(chunk);
}
