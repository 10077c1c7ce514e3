import { readEncoder } from '../evaluation/features.ts';
import { cropsOf, type LabelledSample } from '../evaluation/labelled.ts';
import { chooseLabelled, fineTune } from '../evaluation/semiSupervised.ts';
import type { PlannedImage, ProbeResult, StageContext, VariantInput } from './contract.ts';
import { probe } from './probe.ts';

/** SemiSupervised: the encoder of one variant, fine-tuned on a class-balanced fraction of the labels, `evaluate/<hash>/semi.json`. Repeatable. */
export async function semiSupervised(input: VariantInput, context: StageContext): Promise<ProbeResult> {
  const { log, threads } = context;
  return probe('semi', input, context, async ({ store, recipe: { evaluation }, seed, pretrain, classes, images, training, validation, signal }) => {
    const recipe = evaluation.semiSupervised;
    async function* trainImages(): AsyncGenerator<PlannedImage> { for await (const image of images()) if (image.split === 'train') yield image; }
    const chosen = await chooseLabelled(trainImages, recipe.fraction, seed);
    log.info(`fine-tuning with the labels of ${chosen.size} of ${training.count} images`);

    const labelled = (epoch: number): AsyncIterable<LabelledSample> => training.epoch(seed, epoch, { only: (index) => chosen.has(index) });
    const encoder = await readEncoder(store, pretrain);
    const progress = log.progress('fine-tuning', recipe.epochs, 'epochs');
    const { top1, top5, curve } = await fineTune(encoder, labelled, chosen.size, cropsOf(() => validation.all(), validation.count, encoder.imageSize), {
      recipe, classes: classes.length, seed, threads, signal,
      onEpoch: ({ loss, top1: now }) => progress.advance(1, `loss ${loss.toFixed(3)}, top-1 ${now.toFixed(1)} %`, { loss }),
    });
    progress.done();
    return { top1, top5, validationImages: validation.count, trainImages: chosen.size, curve };
  });
}
