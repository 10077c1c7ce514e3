import { expect, it } from 'vitest';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { refuseTooManyNodes, type TrainingMachines } from '../../src/stages/trainingMachines.ts';

const recipe = parseRecipe('name: a\ndataset: { url: x }\npretraining: { batch: 240, queue: 240, nodes: 6 }\nvariants: [{ name: one }, { name: two, pretraining: { nodes: 12 } }, { name: three, pretraining: { nodes: 1 } }]', 'test');
const refuse = (machines: TrainingMachines) => (): void => refuseTooManyNodes(recipe, machines);

it('a recipe that needs more GPUs than a deployment has is refused, with every variant and what to do', () => {
  expect(refuse({ nodes: 4, gpus: 1 })).toThrow(expect.objectContaining({
    code: 'NodesUnavailable',
    message: 'variant one: pretraining.nodes is 6, which takes 6 machines of 1 GPU, and the deployment has 4 for training; '
      + 'variant two: pretraining.nodes is 12, which takes 12 machines of 1 GPU, and the deployment has 4 for training. '
      + 'Nothing is started: lower pretraining.nodes to 4 at most, or deploy with the option training.nodes 12 (docs/aws.md)',
  }));
  expect(refuse({ nodes: 2, gpus: 4 })).toThrow(/^variant two: pretraining\.nodes is 12, which takes 3 machines of 4 GPUs, and the deployment has 2 for training\. Nothing is started: lower pretraining\.nodes to 8 at most, or deploy with the option training\.nodes 3 /);
  expect(refuse({ nodes: 0, gpus: 4 })).toThrow(/the deployment has 0 for training\. Nothing is started: lower pretraining\.nodes to 1 at most, or deploy with the option training\.nodes 3 /);
  expect(refuse({ nodes: 3, gpus: 4 })).not.toThrow();
  expect(refuse({ nodes: 12, gpus: 1 })).not.toThrow();
});
