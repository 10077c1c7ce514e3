import { openBackbone } from '../evaluation/features.ts';
import { featureBatches, featuresOf, type LabelledFeatures } from '../evaluation/labelled.ts';
import { classifyByNeighbours } from '../evaluation/nearestNeighbours.ts';
import type { ProbeResult, StageContext, VariantInput } from './contract.ts';
import { probe } from './probe.ts';

/** NearestNeighbours: weighted kNN on the frozen features of one variant, `evaluate/<hash>/knn.json`. Repeatable. */
export async function nearestNeighbours(input: VariantInput, context: StageContext): Promise<ProbeResult> {
  const { log, threads } = context;
  return probe('knn', input, context, async ({ store, recipe, pretrain, classes, training, validation, signal }) => {
    const backbone = await openBackbone(store, pretrain, { threads });
    let val: LabelledFeatures | undefined;
    try {
      val = await featuresOf(backbone, validation.all(), { count: validation.count, mirror: false, label: 'features of validation images', signal, log });
      const progress = log.progress('nearest neighbours among training images', training.count, 'images');
      const train = { count: training.count, batches: featureBatches(backbone, training.all(), { mirror: false, signal }) };
      const { top1, top5 } = await classifyByNeighbours(train, val, {
        recipe: recipe.evaluation.knn, classes: classes.length, threads, signal, onProgress: (images) => progress.advance(images),
      });
      progress.done();
      return { top1, top5, validationImages: val.labels.length, trainImages: training.count };
    } finally {
      await Promise.all([backbone.dispose(), val?.features.close()]);
    }
  });
}
