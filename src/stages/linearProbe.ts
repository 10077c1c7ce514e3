import { openBackbone } from '../evaluation/features.ts';
import { featuresOf, type LabelledFeatures } from '../evaluation/labelled.ts';
import { trainLinearProbe } from '../evaluation/linearProbe.ts';
import type { ProbeResult, StageContext, VariantInput } from './contract.ts';
import { probe } from './probe.ts';

/** LinearProbe: a linear classifier on the frozen encoder of one variant, `evaluate/<hash>/linear.json`. Repeatable. */
export async function linearProbe(input: VariantInput, context: StageContext): Promise<ProbeResult> {
  const { log, threads } = context;
  return probe('linear', input, context, async ({ store, recipe, seed, pretrain, classes, training, validation, signal }) => {
    const backbone = await openBackbone(store, pretrain, { threads });
    let train: LabelledFeatures | undefined, val: LabelledFeatures | undefined;
    try {
      train = await featuresOf(backbone, training.all(), { count: training.count, mirror: true, label: 'features of training images', signal, log });
      val = await featuresOf(backbone, validation.all(), { count: validation.count, mirror: false, label: 'features of validation images', signal, log });
      const progress = log.progress('linear probe', recipe.evaluation.linear.epochs, 'epochs');
      const { top1, top5, curve } = await trainLinearProbe(train, val, {
        recipe: recipe.evaluation.linear, classes: classes.length, seed, threads, signal,
        onEpoch: ({ loss, top1: now }) => progress.advance(1, `loss ${loss.toFixed(3)}, top-1 ${now.toFixed(1)} %`, { loss }),
      });
      progress.done();
      return { top1, top5, validationImages: val.labels.length, trainImages: train.labels.length, curve };
    } finally {
      await Promise.all([backbone.dispose(), train?.features.close(), val?.features.close()]);
    }
  });
}
