import type { DecodedSample, SampleSource } from '../dataset/sampleSource.ts';
import type { Collective } from '../distributed/collective.ts';
import { ExitCode, GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { scoped } from '../nn/module.ts';
import { encodeSafetensors } from '../nn/safetensors.ts';
import type { PretrainingRecipe } from '../recipe/recipe.ts';
import type { StepMetrics } from '../stages/contract.ts';
import { writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import type { HostTensor } from '../tensor.ts';
import { loadCheckpoint, saveCheckpoint, shareState, weightsMetadata } from './checkpoint.ts';
import { openEngine } from './engine.ts';
import { makeViews } from './pairs.ts';
import { emaAt, learningRateAt } from './schedules.ts';
import type { Scorer } from './scorer.ts';

export interface TrainOptions {
  readonly recipe: PretrainingRecipe;
  /** Everything random derives from it. */
  readonly seed: number;
  /** Training samples; the same on every process. */
  readonly source: SampleSource;
  /** Quality of pairs; needed when the recipe's quality loss is on. */
  readonly scorer?: Scorer | undefined;
  readonly collective: Collective;
  readonly store: ObjectStore;
  /** Key prefix of everything written, ends with a slash. */
  readonly prefix: string;
  readonly threads: number;
  /** Asks to stop: the run writes a checkpoint after the step in hand and throws `Interrupted`. */
  readonly signal: AbortSignal;
  /** The right to write is lost: the run stops at once and writes nothing more. */
  readonly lost?: AbortSignal;
  readonly log: Log;
}

/**
 * Pretrains an encoder, from the last checkpoint where there is one, and writes `encoder.safetensors` (the backbone in
 * torchvision's names), `encoder.json`, `metrics.jsonl` (a {@link StepMetrics} a step) and the last
 * `checkpoint.safetensors` under `prefix`; process 0 alone writes. The same recipe, seed and samples give the same bytes,
 * interrupted or not.
 *
 * An epoch is the source's order cut into global batches, the incomplete last one dropped.
 *
 * @throws GenViewError `DatasetTooSmall`, `LossNotFinite`, `Interrupted` (exit status 75), `PeerLost` (exit status 75), and what another process has failed by
 */
export async function train(options: TrainOptions): Promise<void> {
  const { recipe, seed, source, collective, store, prefix, log } = options;
  const main = collective.rank === 0;
  if (recipe.batch % collective.size !== 0) {
    throw new GenViewError('RecipeInvalid', `pretraining.batch ${recipe.batch} does not divide among ${collective.size} processes`);
  }
  const stepsPerEpoch = Math.floor(source.count / recipe.batch);
  if (stepsPerEpoch === 0 && recipe.epochs > 0) {
    throw new GenViewError('DatasetTooSmall', `${source.count} training images do not fill one batch of ${recipe.batch}; lower pretraining.batch or add images`);
  }
  const steps = recipe.epochs * stepsPerEpoch;

  const engine = await openEngine(recipe, seed, collective, options.threads);
  let batches: AsyncGenerator<PreparedBatch, undefined> | undefined;
  try {
    const found = main ? await loadCheckpoint(store, prefix) : undefined;
    if (found) engine.state.restore(found.state);
    const first = await shareState(engine.state, found?.step ?? 0, collective);
    const metrics = [...found?.metrics ?? []];
    if (first > 0) log.info(`continues after step ${first} of ${steps}`);

    const save = async (step: number): Promise<void> => {
      if (!main) return;
      options.lost?.throwIfAborted();
      await saveCheckpoint(store, prefix, { step, state: engine.state.snapshot(), metrics }, recipe);
    };

    const progress = log.progress('pretraining', steps, 'steps', first);
    batches = prepared(options, first, stepsPerEpoch);
    let saved = found?.step ?? -1;
    let upcoming = first < steps ? await batches.next() : undefined;
    let since = performance.now(), images = 0;
    for (let step = first; step < steps; step++) {
      const { epoch, views, quality } = upcoming!.value!;
      const learningRate = learningRateAt(step / stepsPerEpoch, recipe.optimizer.learningRate, { epochs: recipe.epochs, warmupEpochs: recipe.schedule.warmupEpochs });
      const ema = emaAt(step, steps, recipe.ema);
      // The next batch is made while the engine works on this one.
      const [result, next] = await Promise.all([
        engine.step({ views, quality, learningRate, ema }),
        step + 1 < steps ? batches.next() : undefined,
      ]);
      upcoming = next;
      if (!Number.isFinite(result.loss)) {
        throw new GenViewError('LossNotFinite', `the loss became ${result.loss} at step ${step} (epoch ${epoch}); lower pretraining.optimizer.learningRate or lengthen pretraining.schedule.warmupEpochs`);
      }
      const line: StepMetrics = { step, epoch, loss: result.loss, learningRate, ema, accuracy: result.accuracy, ...(result.quality !== undefined && { quality: result.quality }) };
      metrics.push(JSON.stringify(line));

      images += recipe.batch;
      const seconds = (performance.now() - since) / 1000;
      progress.advance(1, `epoch ${epoch + 1}/${recipe.epochs}, loss ${result.loss.toFixed(3)}, ${Math.round(images / seconds)} images/s`, { loss: result.loss, imagesPerSecond: images / seconds });
      if (seconds > 30) { since = performance.now(); images = 0; }

      options.lost?.throwIfAborted();
      const stop = await anyProcess(options.signal.aborted, collective);
      if (stop || (step + 1) % recipe.checkpointSteps === 0 || step + 1 === steps) { await save(step + 1); saved = step + 1; }
      if (stop && step + 1 < steps) {
        throw new GenViewError('Interrupted', `stopped after step ${step + 1} of ${steps}; run the same command again to continue`, { exitCode: ExitCode.TemporaryFailure });
      }
    }
    progress.done();
    if (saved < steps) await save(steps);
    if (main) await writeEncoder(options, engine.state.snapshot());
    await collective.barrier();
  } finally {
    // Ends the reading of samples where it stands.
    await batches?.return(undefined).catch(() => {});
    await engine.dispose();
  }
}

interface PreparedBatch {
  readonly epoch: number;
  readonly views: readonly [HostTensor<'float32'>, HostTensor<'float32'>];
  readonly quality: Float32Array | undefined;
}

/** This process's part of every batch from step `first` on: samples rank, rank + size, … of the global batch. */
async function* prepared({ recipe, seed, source, scorer, collective }: TrainOptions, first: number, stepsPerEpoch: number): AsyncGenerator<PreparedBatch, undefined> {
  for (let epoch = Math.floor(first / stepsPerEpoch); epoch < recipe.epochs; epoch++) {
    let skip = epoch === Math.floor(first / stepsPerEpoch) ? (first % stepsPerEpoch) * recipe.batch : 0;
    let own: DecodedSample[] = [], position = 0;
    for await (const sample of source.epoch(seed, epoch)) {
      if (skip > 0) { skip--; continue; }
      if (position % collective.size === collective.rank) own.push(sample);
      if (++position < recipe.batch) continue;
      const views = makeViews(own, epoch, seed, recipe);
      yield { epoch, views, quality: recipe.qualityLoss.enabled ? await scorer!(...views) : undefined };
      own = []; position = 0;
    }
  }
  return undefined;
}

/** Whether `flag` is set on any process, so that all decide alike. */
async function anyProcess(flag: boolean, collective: Collective): Promise<boolean> {
  const sum = Float32Array.of(flag ? 1 : 0);
  await collective.allReduceSum(sum);
  return sum[0]! > 0;
}

async function writeEncoder({ recipe, store, prefix }: TrainOptions, state: Parameters<typeof encodeSafetensors>[0]): Promise<void> {
  const { imageSize, mean, std } = recipe.augmentation;
  await store.put(`${prefix}encoder.safetensors`, encodeSafetensors(scoped(state, 'backbone.'), weightsMetadata(recipe)));
  await writeJson(store, `${prefix}encoder.json`, { backbone: recipe.backbone, imageSize, mean, std, method: recipe.method, epochs: recipe.epochs });
}
