import { GenViewError } from '../errors.ts';
import type { Recipe } from '../recipe/recipe.ts';

/** For multi-node jobs of all runs together. */
export interface TrainingMachines {
  readonly nodes: number;
  /** GPUs of each, and pretraining processes on it. */
  readonly gpus: number;
}

/** Throws `NodesUnavailable` where a variant of several nodes needs more GPUs than all training machines have: its job would never start. */
export function refuseTooManyNodes({ variants }: Recipe, { nodes, gpus }: TrainingMachines): void {
  const most = nodes * gpus;
  const problems = variants.filter(({ pretraining }) => pretraining.nodes > 1 && pretraining.nodes > most)
    .map(({ name, pretraining }) => `variant ${name}: pretraining.nodes is ${pretraining.nodes}, which takes ${machines(Math.ceil(pretraining.nodes / gpus))} of ${gpus} GPU${gpus === 1 ? '' : 's'}, and the deployment has ${nodes} for training`);
  if (problems.length === 0) return;
  const wanted = Math.max(...variants.map(({ pretraining }) => Math.ceil(pretraining.nodes / gpus)));
  throw new GenViewError('NodesUnavailable', `${problems.join('; ')}. Nothing is started: lower pretraining.nodes to ${Math.max(1, most)} at most, or deploy with the option training.nodes ${wanted} (docs/aws.md)`);
}

const machines = (count: number): string => `${count} machine${count === 1 ? '' : 's'}`;
