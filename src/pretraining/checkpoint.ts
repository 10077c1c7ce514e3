import type { Collective } from '../distributed/collective.ts';
import { GenViewError } from '../errors.ts';
import { decodeSafetensors, encodeSafetensors } from '../nn/safetensors.ts';
import type { PretrainingRecipe } from '../recipe/recipe.ts';
import type { State } from '../runtime/program.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import type { NamedTensors } from '../tensor.ts';

/** Where a run can continue: the state after `step` steps, and their metrics as JSON lines. */
export interface Checkpoint {
  readonly step: number;
  readonly state: NamedTensors;
  readonly metrics: readonly string[];
}

/** What a user of the weights has to know, as safetensors metadata (strings): the input's normalisation above all (spec §13.8). */
export function weightsMetadata(recipe: PretrainingRecipe): Record<string, string> {
  const { mean, std, imageSize } = recipe.augmentation;
  return { method: recipe.method, backbone: JSON.stringify(recipe.backbone), imageSize: String(imageSize), mean: JSON.stringify(mean), std: JSON.stringify(std) };
}

/**
 * Writes `metrics.jsonl` and then `checkpoint.safetensors`, each atomically: whenever the process dies, the metrics in
 * the store reach at least as far as the checkpoint, and the lines beyond it are dropped on reading.
 */
export async function saveCheckpoint(store: ObjectStore, prefix: string, { step, state, metrics }: Checkpoint, recipe: PretrainingRecipe): Promise<void> {
  await store.put(`${prefix}metrics.jsonl`, metrics.map((line) => `${line}\n`).join(''));
  await store.put(`${prefix}checkpoint.safetensors`, encodeSafetensors(state, { ...weightsMetadata(recipe), step: String(step) }));
}

export async function loadCheckpoint(store: ObjectStore, prefix: string): Promise<Checkpoint | undefined> {
  const key = `${prefix}checkpoint.safetensors`;
  if (!await store.head(key)) return undefined;
  const { tensors, metadata } = decodeSafetensors(await store.get(key), store.url(key));
  const step = Number(metadata['step']);
  const lines = new TextDecoder().decode(await store.get(`${prefix}metrics.jsonl`)).split('\n').slice(0, step);
  if (!Number.isInteger(step) || lines.length < step || lines.includes('')) {
    throw new GenViewError('CheckpointInvalid', `${store.url(key)} (step ${metadata['step']}) does not fit the metrics beside it; delete both to start again`);
  }
  return { step, state: tensors, metrics: lines };
}

/** Gives every process the state and the step of rank 0. */
export async function shareState(state: State, step: number, collective: Collective): Promise<number> {
  if (collective.size === 1) return step;
  // In two parts: a float32 holds whole numbers up to 2^24 only.
  const part = 2 ** 24, shared = Float32Array.of(Math.floor(step / part), step % part);
  await collective.broadcast(shared);
  const tensors = state.snapshot();
  for (const name of Object.keys(tensors).sort()) await collective.broadcast(tensors[name]!.data as Float32Array);
  state.restore(tensors);
  return shared[0]! * part + shared[1]!;
}
