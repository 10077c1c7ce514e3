import { centreCrop, toPixels, type Image } from '../dataset/image.ts';
import { openSampleSource } from '../dataset/sampleSource.ts';
import { openEncoder } from '../foreground/encoder.ts';
import { cosine } from '../foreground/quality.ts';
import { batches } from '../foreground/readImages.ts';
import { Random } from '../random.ts';
import { once, readJson, writeJson } from '../storage/index.ts';
import { openRun } from './artefacts.ts';
import type { RunInput, SimilarityResult, StageContext } from './contract.ts';

/**
 * PairSimilarity: how alike original and generated view are to the encoder (cosine of the embeddings of the paper's Table 10), over a random choice of
 * `evaluation.similarityImages` training images. Without generated views there are 0 pairs.
 */
export async function pairSimilarity(input: RunInput, context: StageContext): Promise<SimilarityResult> {
  const { store, run, plan } = await openRun(input.run);
  const { recipe } = run;
  const key = `${plan.similarity}similarity.json`;
  await once(store, `${plan.similarity}similarity.done`, async (signal) => {
    const source = await openSampleSource(store, plan.views, { split: 'train', shards: plan.shards, threads: context.threads });
    const encoder = await openEncoder(recipe.foreground.encoder, { threads: context.threads });
    const wanted = Math.min(recipe.evaluation.similarityImages, source.count);
    const progress = context.log.progress('similarity of pairs', wanted, 'images');

    async function* chosen(): AsyncGenerator<{ level: number; original: Image; views: Image[] }> {
      // Selection sampling (Knuth, algorithm S): exactly `wanted` of `count`, each set as likely, in one pass.
      const random = new Random(recipe.seed, 'similarity');
      let seen = 0, taken = 0;
      for await (const { metadata, original, views } of source.all()) {
        signal.throwIfAborted();
        if (taken === wanted) return;
        if (random.uniform() * (source.count - seen++) >= wanted - taken) continue;
        taken++;
        if (views.length > 0 && metadata.noiseLevel !== undefined) {
          const [crop, ...crops] = await Promise.all([original, ...views].map((image) => centreCrop(image, encoder.imageSize)));
          yield { level: metadata.noiseLevel, original: crop!, views: crops };
        } else progress.advance();
      }
    }

    const all: number[] = [], byLevel = new Map<number, number[]>();
    try {
      for await (const batch of batches(chosen(), Math.max(1, Math.floor(recipe.foreground.batch / 2)))) {
        const { embedding } = await encoder.encode(toPixels(batch.flatMap(({ original, views }) => [original, ...views])));
        const size = embedding.shape[1]!;
        let row = 0;
        for (const { level, views } of batch) {
          const original = embedding.data.subarray(row * size, ++row * size);
          for (let view = 0; view < views.length; view++) {
            const value = cosine(original, embedding.data.subarray(row * size, ++row * size));
            all.push(value);
            const same = byLevel.get(level);
            if (same) same.push(value); else byLevel.set(level, [value]);
          }
        }
        progress.advance(batch.length);
      }
    } finally {
      await encoder.dispose();
    }
    progress.done();
    const mean = meanOf(all);
    const result: SimilarityResult = {
      mean, standardDeviation: Math.sqrt(meanOf(all.map((value) => (value - mean) ** 2))), pairs: all.length,
      byLevel: Object.fromEntries([...byLevel].toSorted(([a], [b]) => a - b).map(([level, values]) => [String(level), { mean: meanOf(values), pairs: values.length }])),
    };
    await writeJson(store, key, result);
  }, { signal: context.signal, log: context.log });
  return readJson<SimilarityResult>(store, key);
}

/** 0 for no values. */
function meanOf(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
