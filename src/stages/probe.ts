import { openSampleSource, type SampleSource } from '../dataset/sampleSource.ts';
import { GenViewError } from '../errors.ts';
import { checkLabels } from '../evaluation/labelled.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { once, readJson, readLines, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { openRun } from './artefacts.ts';
import type { DatasetSummary, PlannedImage, ProbeResult, StageContext, VariantInput } from './contract.ts';
import { shardName } from './shards.ts';

/** What a probe of one variant works on. */
export interface ProbeWork {
  readonly store: ObjectStore;
  readonly recipe: Recipe;
  /** Of the variant. */
  readonly seed: number;
  /** Key prefix of the encoder. */
  readonly pretrain: string;
  readonly classes: readonly string[];
  /** All images of both splits, read from the store each time. */
  readonly images: () => AsyncIterable<PlannedImage>;
  readonly training: SampleSource;
  readonly validation: SampleSource;
  /** Aborts when the stage is to stop, or has lost its right to write. */
  readonly signal: AbortSignal;
}

/** Runs a probe once for an encoder: `evaluate/<hash>/<file>.json`, or what is already there. Throws `VariantUnknown`, `EvaluationImpossible`. */
export async function probe(file: 'linear' | 'knn' | 'semi', input: VariantInput, context: StageContext, measure: (work: ProbeWork) => Promise<ProbeResult>): Promise<ProbeResult> {
  const { store, run, plan } = await openRun(input.run);
  const variant = plan.variants.find(({ name }) => name === input.variant);
  const seed = run.recipe.variants.find(({ name }) => name === input.variant)?.seed;
  if (!variant || seed === undefined) {
    throw new GenViewError('VariantUnknown', `the recipe has no variant ${JSON.stringify(input.variant)}; it has ${plan.variants.map(({ name }) => name).join(', ')}`);
  }
  const key = `${variant.evaluate}${file}.json`;
  await once(store, `${variant.evaluate}${file}.done`, async (signal) => {
    const { classes } = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
    async function* images(): AsyncGenerator<PlannedImage> {
      for (let shard = 0; shard < plan.shards; shard++) yield* readLines<PlannedImage>(store, `${plan.views}manifest-${shardName(shard, plan)}.jsonl`);
    }
    const kinds = new Map<string, Pick<PlannedImage, 'split' | 'label'>>();
    for await (const { split, label } of images()) kinds.set(`${split} ${label}`, { split, label });
    checkLabels(classes, [...kinds.values()]);
    const open = (split: 'train' | 'val'): Promise<SampleSource> => openSampleSource(store, plan.views, { split, shards: plan.shards, views: false, threads: context.threads });
    const [training, validation] = await Promise.all([open('train'), open('val')]);
    const result = await measure({ store, recipe: run.recipe, seed, pretrain: variant.pretrain, classes, images, training, validation, signal });
    signal.throwIfAborted();
    await writeJson(store, key, result);
    context.log.info(`${input.variant}, ${file}: top-1 ${result.top1.toFixed(1)} %, top-5 ${result.top5.toFixed(1)} % of ${result.validationImages} validation images`);
  }, { signal: context.signal, log: context.log });
  return readJson<ProbeResult>(store, key);
}
