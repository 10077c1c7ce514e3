import { openSampleSource } from '../dataset/sampleSource.ts';
import { joinCollective, type Collective } from '../distributed/collective.ts';
import { GenViewError } from '../errors.ts';
import { openEncoder } from '../foreground/encoder.ts';
import { foregroundScorer } from '../pretraining/scorer.ts';
import { train } from '../pretraining/trainer.ts';
import { once, readJson } from '../storage/index.ts';
import { openRun } from './artefacts.ts';
import type { ForegroundModel, StageContext, VariantInput } from './contract.ts';

/** Time for the step in hand and a checkpoint between the request to stop and leaving the group, in milliseconds. */
const grace = 20_000;

/**
 * Pretrains the encoder of one variant: `pretrain/<hash>/`. Alone, or as one of several processes of a multi-node job,
 * all of which call this; rank 0 holds the lease and writes. Repeatable: skips when done, else continues from the last checkpoint.
 * The error of one process is that of all, see {@link Collective}.
 */
export async function pretrain(input: VariantInput, context: StageContext): Promise<void> {
  // A group that trains is left only after its members had time to agree on a last checkpoint.
  const leave = new AbortController();
  let training = false;
  const onStop = (): void => {
    if (training) setTimeout(() => leave.abort(context.signal.reason), grace).unref();
    else leave.abort(context.signal.reason);
  };
  context.signal.addEventListener('abort', onStop, { once: true });
  if (context.signal.aborted) onStop();

  try {
    const collective = await joinCollective({ signal: leave.signal, log: context.log });
    try {
      await pretrainTogether(collective, input, context, () => { training = true; });
      await collective.close();
    } catch (error) {
      // All have agreed on an interruption, and rank 0 may still be writing the checkpoint.
      await collective.close((error as GenViewError).code === 'Interrupted' ? undefined : error);
      throw error;
    }
  } finally {
    context.signal.removeEventListener('abort', onStop);
  }
}

async function pretrainTogether(collective: Collective, input: VariantInput, context: StageContext, onTraining: () => void): Promise<void> {
  const { store, run, plan } = await openRun(input.run);
  const { variants, foreground } = run.recipe;
  const variant = variants.find(({ name }) => name === input.variant);
  const prefix = plan.variants.find(({ name }) => name === input.variant)?.pretrain;
  if (!variant || !prefix) {
    throw new GenViewError('VariantUnknown', `the recipe has no variant ${JSON.stringify(input.variant)}; it has ${variants.map(({ name }) => name).join(', ')}`);
  }
  const { seed, pretraining: recipe } = variant;
  const marker = `${prefix}.done`;
  // Of several processes rank 0 alone looks, below: if another run ended between two looks, one would wait for one that left.
  if (recipe.nodes === 1 && await store.head(marker)) return;
  if (collective.size !== recipe.nodes) {
    throw new GenViewError('NodesMismatch', `variant ${input.variant} asks for pretraining.nodes ${recipe.nodes} but ${collective.size} processes run; start as many as the recipe says`);
  }

  const work = async (lost?: AbortSignal): Promise<void> => {
    const source = await openSampleSource(store, plan.views, { split: 'train', shards: plan.shards, views: recipe.views.probability > 0, threads: context.threads });
    const encoder = recipe.qualityLoss.enabled ? await openEncoder(foreground.encoder, { threads: context.threads }) : undefined;
    try {
      const scorer = encoder && foregroundScorer(encoder, await readJson<ForegroundModel>(store, `${plan.foreground}foreground.json`));
      onTraining();
      await train({ recipe, seed, source, scorer, collective, store, prefix, threads: context.threads, signal: context.signal, ...(lost && { lost }), log: context.log });
    } finally {
      await encoder?.dispose();
    }
  };
  // Rank 0 decides whether there is work, the others follow.
  const go = Float32Array.of(0);
  if (collective.rank === 0) {
    const outcome = await once(store, marker, async (signal) => {
      go[0] = 1;
      await collective.broadcast(go);
      // A request to stop still writes a checkpoint; a lost lease forbids it.
      const lost = new AbortController();
      signal.addEventListener('abort', () => { if (!context.signal.aborted) lost.abort(signal.reason); }, { once: true });
      await work(lost.signal);
    }, { signal: context.signal, log: context.log });
    if (outcome === 'already' && go[0] === 0) await collective.broadcast(go);
  } else {
    await collective.broadcast(go);
    if (go[0] === 1) await work();
  }
  // No process has succeeded before the marker is there.
  await collective.barrier();
}
