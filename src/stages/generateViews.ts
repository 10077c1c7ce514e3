import path from 'node:path';
import { centreCrop, decodeImage, encodePng, type Image } from '../dataset/image.ts';
import { writeSamples, type Sample } from '../dataset/samples.ts';
import { GenViewError } from '../errors.ts';
import { readImages } from '../foreground/readImages.ts';
import { openUnclip, type UnclipModel } from '../generation/model.ts';
import { generateViews as sampleViews } from '../generation/unclip.ts';
import type { Progress } from '../log.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { once, openStore, readLines } from '../storage/index.ts';
import type { ObjectStore } from '../storage/index.ts';
import { openRun, usesViews } from './artefacts.ts';
import type { PlannedImage, SampleMetadata, ShardInput, StageContext } from './contract.ts';
import { shardName } from './shards.ts';

/**
 * GenerateViews: the tar shard of one manifest: the original file of every usable image and, for training images, its generated views. A view is
 * seeded by (seed, 'view', path, number), so that the bytes do not depend on sharding or batch. Nothing of a shard is visible before all
 * of it is written. Throws `DatasetChanged` when an image that was analysed can no longer be read.
 * @param open opens the generator. @default openUnclip
 */
export async function generateViews(input: ShardInput, context: StageContext, open: typeof openUnclip = openUnclip): Promise<void> {
  const { store, run, plan } = await openRun(input.run);
  const name = shardName(input.shard, plan);
  const { recipe } = run;
  await once(store, `${plan.views}shard-${name}.done`, async (signal) => {
    const planned: PlannedImage[] = [];
    for await (const image of readLines<PlannedImage>(store, `${plan.views}manifest-${name}.jsonl`)) planned.push(image);

    const trains = planned.filter(({ split }) => split === 'train').length;
    const progress = context.log.progress(`generating views of shard ${input.shard}`, planned.length, 'images');
    const model = usesViews(recipe) && trains > 0
      ? await open(recipe.generation.generator, { threads: context.threads, batch: recipe.generation.batch })
      : undefined;
    try {
      const samples = makeSamples(openStore(recipe.dataset.url), planned, recipe, model, progress, signal);
      await store.put(`${plan.views}shard-${name}.tar`, writeSamples(samples), { contentType: 'application/x-tar' });
    } finally {
      await model?.dispose();
    }
    progress.done();
  }, { signal: context.signal, log: context.log });
}

interface Original {
  readonly planned: PlannedImage;
  readonly bytes: Uint8Array;
  /** Square, as the generator takes it; absent where no view is made. */
  readonly image?: Image;
}

async function* makeSamples(images: ObjectStore, planned: readonly PlannedImage[], recipe: Recipe, model: UnclipModel | undefined, progress: Progress, signal: AbortSignal): AsyncGenerator<Sample> {
  const prepare = async (bytes: Uint8Array, item: PlannedImage): Promise<Original> => model && item.noiseLevel !== undefined
    ? { planned: item, bytes, image: await centreCrop(await decodeImage(bytes), model.embedSize ?? model.imageSize) }
    : { planned: item, bytes };

  // Images that wait for their views: a full batch of them fills `viewsPerImage` batches of views.
  let group: Original[] = [], waiting = 0;
  async function* flush(): AsyncGenerator<Sample> {
    const made = await groupSamples(group, recipe, model, signal);
    group = []; waiting = 0;
    for (const sample of made) { yield sample; progress.advance(); }
  }
  for await (const { item, value, reason } of readImages(images, planned, prepare, { signal })) {
    if (value === undefined) throw new GenViewError('DatasetChanged', `${item.path} could be read when it was analysed and cannot any more (${reason}); the dataset must not change during a run: start the run again`);
    group.push(value);
    if (value.image) waiting++;
    if (waiting === 0 || waiting === model?.batch) yield* flush();
  }
  yield* flush();
}

async function groupSamples(group: readonly Original[], recipe: Recipe, model: UnclipModel | undefined, signal: AbortSignal): Promise<Sample[]> {
  const { seed, generation: { viewsPerImage, steps, guidance, scheduler } } = recipe;
  const requests = group.flatMap(({ planned, image }) => image
    ? Array.from({ length: viewsPerImage }, (_, view) => ({ image, noiseLevel: planned.noiseLevel!, seedKeys: [seed, 'view', planned.path, view] }))
    : []);
  const views = model ? await sampleViews(model, requests, { steps, guidance, scheduler, signal }) : [];
  const pictures = await Promise.all(views.map(encodePng));
  return group.map(({ planned, bytes, image }) => {
    const { index, path: file, split, label, foregroundProportion, noiseLevel } = planned;
    const metadata: SampleMetadata = { index, path: file, split, label, foregroundProportion, noiseLevel, seed };
    const own = image ? pictures.splice(0, viewsPerImage) : [];
    return {
      key: String(index).padStart(9, '0'),
      files: {
        [`orig${path.posix.extname(file).toLowerCase() || '.bin'}`]: bytes,
        ...Object.fromEntries(own.map((picture, view) => [`view${view}.png`, picture])),
        json: new TextEncoder().encode(`${JSON.stringify(metadata)}\n`),
      },
    };
  });
}
