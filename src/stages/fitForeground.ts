import { centreCrop, decodeImage, toPixels, type Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import { openEncoder, type Encoder } from '../foreground/encoder.ts';
import { fitForegroundModel } from '../foreground/fit.ts';
import { batches, readImages } from '../foreground/readImages.ts';
import { once, openStore, readLines, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/index.ts';
import type { HostTensor } from '../tensor.ts';
import { openRun } from './artefacts.ts';
import type { ForegroundModel, ListedImage, RunInput, StageContext } from './contract.ts';

/**
 * FitForeground: tokens of the sampled training images -> principal vector, sign, threshold (spec §2.2, §2.3), as `foreground.json`. Sampled
 * images that cannot be read are skipped and counted. Throws `NoUsableImages` when none is left.
 * @param keptBytes of tokens kept from the first pass for the second; what does not fit is encoded again. @default 512 MiB
 */
export async function fitForeground(input: RunInput, context: StageContext, keptBytes = 2 ** 29): Promise<void> {
  const { store, run, plan } = await openRun(input.run);
  await once(store, `${plan.foreground}foreground.done`, async (signal) => {
    const sample: ListedImage[] = [];
    for await (const listed of readLines<ListedImage>(store, `${plan.dataset}sample.jsonl`)) sample.push(listed);

    const { foreground } = run.recipe;
    const encoder = await openEncoder(foreground.encoder, { threads: context.threads, batch: foreground.batch });
    try {
      const source = tokenPasses(encoder, openStore(run.recipe.dataset.url), sample, foreground.batch, keptBytes, context, signal);
      const fitted = await fitForegroundModel(source.pass, foreground);
      const model: ForegroundModel = { ...fitted, skipped: source.skipped() };
      await writeJson(store, `${plan.foreground}foreground.json`, model);
      context.log.info(`foreground: first component explains ${(100 * model.explained).toFixed(1)} % of the variance of ${model.images} images' tokens, sign ${model.sign.flipped ? 'flipped' : 'kept'}, threshold ${model.threshold.toPrecision(4)}`);
    } finally {
      await encoder.dispose();
    }
  }, { signal: context.signal, log: context.log });
}

/** The sample's tokens, as often as wanted. Images that the first pass could not read are skipped and counted. */
function tokenPasses(encoder: Encoder, images: ObjectStore, sample: readonly ListedImage[], batchSize: number, keptBytes: number, context: StageContext, signal: AbortSignal) {
  const crop = async (bytes: Uint8Array): Promise<Image> => centreCrop(await decodeImage(bytes), encoder.imageSize);
  const encode = async (batch: readonly { value: Image }[]): Promise<HostTensor<'float32'>> => (await encoder.encode(toPixels(batch.map(({ value }) => value)))).tokens;
  async function* readable(listed: readonly ListedImage[], unreadable: (path: string, reason: string) => void): AsyncGenerator<{ item: ListedImage; value: Image }> {
    for await (const { item, value, reason } of readImages(images, listed, crop, { signal })) {
      if (value === undefined) unreadable(item.path, reason!);
      else yield { item, value };
    }
  }

  const kept: ({ readonly tokens: HostTensor<'float32'> } | { readonly listed: readonly ListedImage[] })[] = [];
  let bytes = 0, skipped = 0;
  async function* first(): AsyncGenerator<HostTensor<'float32'>> {
    const progress = context.log.progress('fitting the foreground', sample.length, 'images');
    const skip = (path: string, reason: string): void => {
      skipped++;
      progress.advance();
      context.log.warn(`sampled image skipped: ${path}: ${reason}`);
    };
    for await (const batch of batches(readable(sample, skip), batchSize)) {
      const tokens = await encode(batch);
      bytes += tokens.data.byteLength;
      kept.push(bytes <= keptBytes ? { tokens } : { listed: batch.map(({ item }) => item) });
      yield tokens;
      progress.advance(batch.length);
    }
    progress.done();
  }
  async function* again(): AsyncGenerator<HostTensor<'float32'>> {
    for (const part of kept) {
      if ('tokens' in part) yield part.tokens;
      else for await (const batch of batches(readable(part.listed, changed), batchSize)) yield await encode(batch);
    }
  }
  return { pass: () => kept.length === 0 ? first() : again(), skipped: () => skipped };
}

function changed(path: string, reason: string): never {
  throw new GenViewError('DatasetChanged', `${path} was readable a moment ago and is not any more (${reason}); the dataset must not change during a run: start the run again`);
}
