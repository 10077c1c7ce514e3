import { centreCrop, decodeImage, toPixels, type Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import { openEncoder, type Encoder } from '../foreground/encoder.ts';
import { principalComponent, TokenStatistics } from '../foreground/pca.ts';
import { batches, readImages } from '../foreground/readImages.ts';
import { decideSign } from '../foreground/sign.ts';
import { quantileThreshold } from '../foreground/threshold.ts';
import { normalizeTokens, projectTokens } from '../foreground/tokens.ts';
import { once, openStore, readJson, readLines, writeJson } from '../storage/index.ts';
import type { HostTensor } from '../tensor.ts';
import { openRun } from './artefacts.ts';
import type { DatasetSummary, ForegroundModel, ListedImage, RunInput, StageContext } from './contract.ts';

/** Tokens kept from the first pass for the second; what does not fit is encoded again. */
const keptBytes = 512 * 1024 * 1024;

/**
 * FitForeground: tokens of the sampled training images -> principal vector, sign, threshold (spec §2.2, §2.3), as `foreground.json`. Sampled
 * images that cannot be read are skipped and counted. Throws `NoUsableImages` when none is left.
 */
export async function fitForeground(input: RunInput, context: StageContext): Promise<void> {
  const { store, run, plan } = await openRun(input.run);
  await once(store, `${plan.foreground}foreground.done`, async (signal) => {
    const summary = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
    const sample: ListedImage[] = [];
    for await (const listed of readLines<ListedImage>(store, `${plan.dataset}sample.jsonl`)) sample.push(listed);

    const encoder = await openEncoder(run.recipe.foreground.encoder, { threads: context.threads, batch: run.recipe.foreground.batch });
    try {
      const model = await fit(encoder, openStore(summary.url), sample, run.recipe.foreground, context, signal);
      await writeJson(store, `${plan.foreground}foreground.json`, model);
      context.log.info(`foreground: first component explains ${(100 * model.explained).toFixed(1)} % of the variance of ${model.images} images' tokens, sign ${model.sign.flipped ? 'flipped' : 'kept'}, threshold ${model.threshold.toPrecision(4)}`);
    } finally {
      await encoder.dispose();
    }
  }, { signal: context.signal, log: context.log });
}

async function fit(
  encoder: Encoder, images: ReturnType<typeof openStore>, sample: readonly ListedImage[],
  settings: { readonly batch: number; readonly quantile: number; readonly normalizeTokens: boolean }, context: StageContext, signal: AbortSignal,
): Promise<ForegroundModel> {
  const crop = async (bytes: Uint8Array): Promise<Image> => centreCrop(await decodeImage(bytes), encoder.imageSize);
  const encode = async (batch: Image[]): Promise<HostTensor<'float32'>> => {
    const { tokens } = await encoder.encode(toPixels(batch));
    return settings.normalizeTokens ? normalizeTokens(tokens) : tokens;
  };
  async function* readBatches(listed: readonly ListedImage[], skip: (path: string, reason: string) => void): AsyncGenerator<{ listed: ListedImage[]; images: Image[] }> {
    async function* readable(): AsyncGenerator<{ item: ListedImage; image: Image }> {
      for await (const { item, value, reason } of readImages(images, listed, crop, { signal })) {
        if (value === undefined) skip(item.path, reason!);
        else yield { item, image: value };
      }
    }
    for await (const batch of batches(readable(), settings.batch)) yield { listed: batch.map(({ item }) => item), images: batch.map(({ image }) => image) };
  }

  const statistics = new TokenStatistics(encoder.channels);
  const kept: ({ readonly tokens: HostTensor<'float32'> } | { readonly listed: ListedImage[] })[] = [];
  let bytes = 0, used = 0, skipped = 0;
  const progress = context.log.progress('fitting the foreground', sample.length, 'images');
  const skip = (path: string, reason: string): void => {
    skipped++;
    progress.advance();
    context.log.warn(`sampled image skipped: ${path}: ${reason}`);
  };
  for await (const batch of readBatches(sample, skip)) {
    const tokens = await encode(batch.images);
    statistics.add(tokens);
    used += batch.images.length;
    bytes += tokens.data.byteLength;
    kept.push(bytes <= keptBytes ? { tokens } : { listed: batch.listed });
    progress.advance(batch.images.length);
  }
  progress.done();
  if (used === 0) throw new GenViewError('NoUsableImages', `none of the ${sample.length} sampled training images under ${images.root} can be read; is dataset.url right?`);

  const component = principalComponent(statistics);
  const [rows, columns] = encoder.grid;
  const positions = rows * columns;
  const projections = new Float64Array(used * positions);
  let filled = 0;
  const project = (tokens: HostTensor<'float32'>): void => {
    const values = projectTokens(tokens, component.vector);
    projections.set(values, filled);
    filled += values.length;
  };
  for (const part of kept) {
    if ('tokens' in part) project(part.tokens);
    else for await (const batch of readBatches(part.listed, changed)) project(await encode(batch.images));
  }

  const positionMeans = new Float64Array(positions);
  for (let k = 0; k < projections.length; k++) positionMeans[k % positions]! += projections[k]! / used;
  const sign = decideSign(positionMeans, encoder.grid);
  const direction = sign.flipped ? -1 : 1;
  return {
    vector: Array.from(component.vector, (value) => direction * value),
    mean: Array.from(statistics.mean),
    explained: component.explained,
    threshold: quantileThreshold(projections.map((value) => direction * value), settings.quantile),
    quantile: settings.quantile, sign, grid: encoder.grid, images: used, skipped, normalizeTokens: settings.normalizeTokens,
  };
}

function changed(path: string, reason: string): never {
  throw new GenViewError('DatasetChanged', `${path} was readable a moment ago and is not any more (${reason}); the dataset must not change during a run: start the run again`);
}
