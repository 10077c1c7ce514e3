import { centreCrop, decodeImage, toPixels, type Image } from '../dataset/image.ts';
import { evenly } from '../evenly.ts';
import { openEncoder, type Encoder } from '../foreground/encoder.ts';
import { displayMap, foregroundProportion } from '../foreground/proportion.ts';
import { readImages } from '../foreground/readImages.ts';
import { normalizeTokens, projectTokens } from '../foreground/tokens.ts';
import { once, openStore, readJson, readLines } from '../storage/index.ts';
import { openRun } from './artefacts.ts';
import type { AnalyzedImage, ForegroundModel, ListedImage, ShardInput, StageContext } from './contract.ts';
import { jsonLines, shardName } from './shards.ts';

/** Foreground maps kept of each shard, for the report. */
const mapsPerShard = 16;

/**
 * AnalyzeForeground: every image of a shard is decoded and, when it is for training, gets its foreground proportion (Eq. 7); one that cannot be
 * decoded is quarantined with the reason. Every listed image has one line in the output.
 */
export async function analyzeForeground(input: ShardInput, context: StageContext): Promise<void> {
  const { store, run, plan } = await openRun(input.run);
  const name = shardName(input.shard, plan);
  await once(store, `${plan.analysis}shard-${name}.done`, async (signal) => {
    const model = await readJson<ForegroundModel>(store, `${plan.foreground}foreground.json`);
    const listed: ListedImage[] = [];
    for await (const image of readLines<ListedImage>(store, `${plan.dataset}shard-${name}.jsonl`)) listed.push(image);

    const { encoder: encoderRecipe, batch } = run.recipe.foreground;
    const analysed: AnalyzedImage[] = [];
    let pending: { line: number; image: Image }[] = [];
    let encoder: Encoder | undefined;
    let quarantined = 0;
    // Images are listed class after class: the first ones would be of one class. Which are kept depends on the listing alone.
    const keepsMap = new Set(evenly(listed.flatMap(({ split }, line) => split === 'train' ? [line] : []), mapsPerShard));
    const analyse = async (): Promise<void> => {
      if (pending.length === 0) return;
      encoder ??= await openEncoder(encoderRecipe, { threads: context.threads, batch });
      const { tokens } = await encoder.encode(toPixels(pending.map(({ image }) => image)));
      const projections = projectTokens(model.normalizeTokens ? normalizeTokens(tokens) : tokens, model.vector);
      const positions = projections.length / pending.length;
      for (const [i, { line }] of pending.entries()) {
        const own = projections.subarray(i * positions, (i + 1) * positions);
        analysed[line] = {
          ...(analysed[line] as AnalyzedImage & { status: 'used' }),
          foregroundProportion: foregroundProportion(own, model.threshold),
          ...(keepsMap.has(line) && { map: displayMap(own) }),
        };
      }
      pending = [];
    };

    const progress = context.log.progress(`analysing shard ${input.shard}`, listed.length, 'images');
    const prepare = async (bytes: Uint8Array, { split }: ListedImage): Promise<{ width: number; height: number; crop?: Image }> => {
      const image = await decodeImage(bytes);
      const { width, height } = image;
      return split === 'train' ? { width, height, crop: await centreCrop(image, encoderRecipe.imageSize) } : { width, height };
    };
    try {
      for await (const { item, value, reason } of readImages(openStore(run.recipe.dataset.url), listed, prepare, { signal })) {
        if (value === undefined) {
          analysed.push({ ...item, status: 'quarantined', reason });
          quarantined++;
          context.log.warn(`quarantined: ${item.path}: ${reason}`);
        } else {
          analysed.push({ ...item, status: 'used', width: value.width, height: value.height });
          if (value.crop) pending.push({ line: analysed.length - 1, image: value.crop });
        }
        if (pending.length === batch) await analyse();
        progress.advance();
      }
      await analyse();
    } finally {
      await encoder?.dispose();
    }
    progress.done();
    signal.throwIfAborted();
    await store.put(`${plan.analysis}shard-${name}.jsonl`, jsonLines(analysed), { contentType: 'application/jsonl' });
    context.log.info(`shard ${input.shard}: ${analysed.length - quarantined} images usable, ${quarantined} quarantined`);
  }, { signal: context.signal, log: context.log });
}
