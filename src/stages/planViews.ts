import { mapAhead } from '../ahead.ts';
import { GenViewError } from '../errors.ts';
import { chooseNoiseLevel } from '../foreground/proportion.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { once, readJson, readLines, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/index.ts';
import { openRun } from './artefacts.ts';
import type { AnalyzedImage, ListedImage, PlannedImage, PlanViewsOutput, RunInput, RunPlan, StageContext, ViewsPlan } from './contract.ts';
import { jsonLines, shardName } from './shards.ts';

const histogramBins = 20;
/** Quarantined images named in an error. */
const examples = 3;
/** Quarantined images named in `plan.json`: all of them stand in the analysis. */
const mostQuarantined = 1000;
/** Shards read, and manifests written, at once: what memory holds of the dataset. */
const shardsAhead = 8;

/**
 * PlanViews: checks that every listed image is accounted for, gives every usable training image its noise level (Eq. 8), and writes the
 * manifests of GenerateViews and `plan.json`.
 *
 * Throws `ImagesUnaccounted` when listing and analysis differ, `QuarantineLimitExceeded` when a larger share of the images is quarantined than
 * `dataset.quarantineLimit`, and `TooFewImages` when what is left does not fill a variant's batch or leaves nothing to validate on. The limits are not part of
 * the plan, so they are checked again when the plan is already there.
 */
export async function planViews(input: RunInput, context: StageContext): Promise<PlanViewsOutput> {
  const { store, run, plan } = await openRun(input.run);
  await once(store, `${plan.views}plan.done`, (signal) => writePlan(store, run.recipe, plan, signal), { signal: context.signal, log: context.log });
  const { images, quarantined } = await readJson<ViewsPlan>(store, `${plan.views}plan.json`);
  checkQuarantine(images, quarantined, run.recipe.dataset.quarantineLimit);
  checkCounts(images, run.recipe);
  context.log.info(`${images.train} training and ${images.val} validation images usable, ${images.quarantined} quarantined`);
  return images;
}

async function writePlan(store: ObjectStore, recipe: Recipe, plan: RunPlan, signal: AbortSignal): Promise<void> {
  const images = { train: 0, val: 0, quarantined: 0 };
  const quarantined: { path: string; reason: string }[] = [];
  const proportionHistogram = Array.from({ length: histogramBins }, () => 0);
  const levelHistogram: Record<string, number> = {};
  const puts: Promise<unknown>[] = [];
  const shards = Array.from({ length: plan.shards }, (_, shard) => shardName(shard, plan));
  const analysed = mapAhead(shards, shardsAhead, async (name) => ({ name, lines: await accountedImages(store, plan, name) }));
  for await (const { name, lines } of analysed) {
    signal.throwIfAborted();
    const manifest: PlannedImage[] = [];
    for (const line of lines) {
      if (line.status === 'quarantined') {
        images.quarantined++;
        if (quarantined.length < mostQuarantined) quarantined.push({ path: line.path, reason: line.reason });
        continue;
      }
      const { index, path, bytes, etag, split, label, foregroundProportion } = line;
      const listed: ListedImage = { index, path, bytes, etag, split, label };
      images[split]++;
      if (split === 'val') {
        manifest.push(listed);
        continue;
      }
      if (foregroundProportion === undefined) throw new GenViewError('ImagesUnaccounted', `${path} has no foreground proportion in ${store.url(`${plan.analysis}shard-${name}.jsonl`)}; delete ${store.url(plan.analysis)} and run again`);
      const noiseLevel = chooseNoiseLevel(recipe.generation.noise, { path, foregroundProportion }, recipe.seed);
      manifest.push({ ...listed, foregroundProportion, noiseLevel });
      proportionHistogram[Math.min(Math.floor(foregroundProportion * histogramBins), histogramBins - 1)]!++;
      levelHistogram[noiseLevel] = (levelHistogram[noiseLevel] ?? 0) + 1;
    }
    const put = store.put(`${plan.views}manifest-${name}.jsonl`, jsonLines(manifest), { contentType: 'application/jsonl' });
    put.catch(() => {});
    puts.push(put);
    if (puts.length >= shardsAhead) await puts.shift();
  }
  await Promise.all(puts);
  const viewsPlan: ViewsPlan = { images, quarantined, proportionHistogram, levelHistogram, shards: plan.shards };
  await writeJson(store, `${plan.views}plan.json`, viewsPlan);
}

/** The analysis of one shard, after checking it line by line against the listing. */
async function accountedImages(store: ObjectStore, plan: RunPlan, name: string): Promise<AnalyzedImage[]> {
  const key = `${plan.analysis}shard-${name}.jsonl`;
  const analysed: AnalyzedImage[] = [];
  try {
    for await (const line of readLines<AnalyzedImage>(store, key)) {
      // Maps are for the report alone, and weigh more than all the rest.
      const { map: _map, ...kept } = line as AnalyzedImage & { map?: unknown };
      analysed.push(kept);
    }
  } catch (cause) {
    if (!(cause instanceof GenViewError) || cause.code !== 'ObjectNotFound') throw cause;
    throw new GenViewError('ImagesUnaccounted', `${store.url(key)} is missing: shard ${Number(name)} has not been analysed; run the stage analyze-foreground for it first`, { cause });
  }
  let position = 0;
  for await (const listed of readLines<ListedImage>(store, `${plan.dataset}shard-${name}.jsonl`)) {
    const line = analysed[position++];
    if (line?.index !== listed.index || line.path !== listed.path) {
      throw new GenViewError('ImagesUnaccounted', `${listed.path} is listed but ${line ? `${line.path} stands in its place` : 'missing'} in ${store.url(key)}; delete ${store.url(plan.analysis)} and run again`);
    }
  }
  if (position !== analysed.length) throw new GenViewError('ImagesUnaccounted', `${store.url(key)} has ${analysed.length} lines for ${position} listed images; delete ${store.url(plan.analysis)} and run again`);
  return analysed;
}

function checkQuarantine(images: ViewsPlan['images'], quarantined: ViewsPlan['quarantined'], limit: number): void {
  const total = images.train + images.val + images.quarantined;
  if (images.quarantined <= limit * total) return;
  const percent = (share: number): string => `${+(100 * share).toFixed(1)} %`;
  const named = quarantined.slice(0, examples).map(({ path, reason }) => `${path} (${reason})`).join(', ');
  throw new GenViewError('QuarantineLimitExceeded', `${images.quarantined} of ${total} images (${percent(images.quarantined / total)}) cannot be used, more than dataset.quarantineLimit ${percent(limit)}: `
    + `${named}${images.quarantined > examples ? `, and ${images.quarantined - examples} more` : ''}; mend or remove them, or raise the limit`);
}

function checkCounts(images: ViewsPlan['images'], recipe: Recipe): void {
  const largest = recipe.variants.filter(({ pretraining }) => pretraining.epochs > 0).toSorted((a, b) => b.pretraining.batch - a.pretraining.batch)[0];
  const without = images.quarantined > 0 ? ` (${images.quarantined} are quarantined)` : '';
  if (largest && images.train < largest.pretraining.batch) {
    throw new GenViewError('TooFewImages', `${images.train} usable training images${without} are fewer than one batch of variant ${largest.name} (pretraining.batch ${largest.pretraining.batch}); lower the batch or add images`);
  }
  if (images.train === 0) throw new GenViewError('TooFewImages', `no usable training image${without}; check dataset.url`);
  if (images.val === 0) throw new GenViewError('TooFewImages', `no usable validation image${without}: the probes have nothing to be measured on; add images to val/ or raise dataset.validationFraction`);
}
