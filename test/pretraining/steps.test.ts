import { describe, expect, it } from 'vitest';
import { methodOf } from '../../src/pretraining/methods/method.ts';
import { makeViews } from '../../src/pretraining/pairs.ts';
import { trainingSteps } from '../../src/pretraining/steps.ts';
import type { Method, PretrainingRecipe } from '../../src/recipe/recipe.ts';
import { compile, createState } from '../../src/runtime/compile.ts';
import type { NamedTensors } from '../../src/tensor.ts';
import { float32, scalar } from '../../src/tensor.ts';
import { pretrainingRecipe, syntheticSamples } from '../fixtures/pretraining/synthetic.ts';

const samples = syntheticSamples(32, 16);
const small = { backbone: { name: 'resnet-small', stem: 'cifar', width: 4, norm: 'batch' }, batch: 4, queue: 8 } as const;
const lars = { name: 'lars', learningRate: 0.3, momentum: 0.9, weightDecay: 1e-6, trust: 0.001, form: 'mmpretrain' } as const;
const adamw = { name: 'adamw', learningRate: 0.05, weightDecay: 0.1 } as const;

async function run(recipe: PretrainingRecipe, steps: number, executor: 'onnxruntime' | 'tensorflow', weights = [1, 1, 1, 1]) {
  const { whole, initialState } = trainingSteps(methodOf(recipe), recipe, 1);
  const state = createState(initialState(5));
  const program = await compile(whole.run, whole.inputs, { state, executor, threads: 1 });
  const states: NamedTensors[] = [state.snapshot()], losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const [view1, view2] = makeViews(samples.slice(step * 4, step * 4 + 4), 0, 5, recipe);
    const { loss } = await program.run({ view1, view2, weights: float32(weights, [4]), learningRate: scalar(0.05), ema: scalar(0.9) });
    losses.push(loss!.data[0]!);
    states.push(state.snapshot());
  }
  await program.dispose();
  return { states, losses };
}

describe('training step', () => {
  it.each([['mocov2', 'SGD', {}], ['mocov2', 'AdamW', { optimizer: adamw }], ['mocov3', 'LARS', { optimizer: lars }]] as [Method, string, Partial<PretrainingRecipe>][])('%s with %s compiled agrees with the same function run eagerly', async (method, _optimizer, overrides) => {
    const recipe = pretrainingRecipe({ ...small, ...overrides, method });
    const compiled = await run(recipe, 3, 'onnxruntime'), eager = await run(recipe, 3, 'tensorflow');
    for (const [i, loss] of eager.losses.entries()) expect(compiled.losses[i]).toBeCloseTo(loss, 4);
    for (const [name, { data }] of Object.entries(eager.states[3]!)) {
      const actual = compiled.states[3]![name]!.data;
      let difference = 0, size = 0;
      for (let i = 0; i < data.length; i++) { difference = Math.max(difference, Math.abs(actual[i]! - data[i]!)); size = Math.max(size, Math.abs(data[i]!)); }
      expect(difference / Math.max(size, 0.1), name).toBeLessThan(2e-3);
    }
  });

  it('moves the momentum encoder before the keys, and appends the keys to the queue after the loss', async () => {
    const recipe = pretrainingRecipe({ ...small, method: 'mocov2' });
    const { states: [before, after, later] } = await run(recipe, 2, 'onnxruntime');
    const name = 'backbone.layer1.0.conv1.weight';
    // At the first step both encoders are equal, so nothing moves; the second blends what the first step learnt.
    expect(after![name]).not.toEqual(before![name]);
    for (let i = 0; i < 10; i++) {
      expect(after![`momentum.${name}`]!.data[i]).toBeCloseTo(before![name]!.data[i]!, 6);
      expect(later![`momentum.${name}`]!.data[i]).toBeCloseTo(0.9 * after![`momentum.${name}`]!.data[i]! + 0.1 * after![name]!.data[i]!, 6);
    }
    const row = 8;
    expect(after!['queue']!.data.slice(0, 4 * row)).toEqual(before!['queue']!.data.slice(4 * row));
    expect(later!['queue']!.data.slice(0, 4 * row)).toEqual(after!['queue']!.data.slice(4 * row));
    for (let key = 0; key < 8; key++) expect(Math.hypot(...later!['queue']!.data.slice(key * row, (key + 1) * row))).toBeCloseTo(1, 5);
  });

  it('updates the running statistics of the backbone, twice a step where both views pass', async () => {
    const { states: [, after] } = await run(pretrainingRecipe({ ...small, method: 'mocov3', optimizer: lars }), 1, 'onnxruntime');
    // The projector's last norm sees values of variance v: 1 -> 0.81 + 0.19 v after two updates of share 0.1.
    expect(after!['backbone.bn1.running_mean']!.data.some((v) => v !== 0)).toBe(true);
    expect([...after!['backbone.bn1.running_var']!.data].every((v) => v > 0.81)).toBe(true);
    expect([...after!['backbone.bn1.running_var']!.data].some((v) => v < 0.9)).toBe(true);
  });

  it('learns nothing from a sample of weight 0', async () => {
    const recipe = pretrainingRecipe({ ...small, method: 'mocov2', optimizer: { name: 'sgd', learningRate: 1, momentum: 0, weightDecay: 0 } });
    const { states: [before, after], losses } = await run(recipe, 1, 'onnxruntime', [0, 0, 0, 0]);
    expect(losses[0]).toBe(0);
    expect(after!['projector.fc2.weight']).toEqual(before!['projector.fc2.weight']);
  });

  it('with AdamW counts its updates; the first changes every element by the learning rate, beside the decay', async () => {
    const { states: [before, first, second] } = await run(pretrainingRecipe({ ...small, method: 'mocov2', optimizer: adamw }), 2, 'onnxruntime');
    expect([first!['optimizer.step']!.data[0], second!['optimizer.step']!.data[0]]).toEqual([1, 2]);
    const name = 'backbone.layer3.0.conv2.weight', old = before![name]!.data;
    const changes = first![name]!.data.map((value, i) => Math.abs(value - old[i]! * (1 - 0.05 * 0.1))).toSorted();
    expect(changes[Math.floor(changes.length / 2)]).toBeCloseTo(0.05, 5);
  });

  it('of MoCo v3 trains all of a Vision Transformer but its positions and its patch projection', async () => {
    const { states: [before, after], losses } = await run(pretrainingRecipe({ ...small, method: 'mocov3', backbone: { name: 'vit-small', patch: 8 }, optimizer: adamw }), 1, 'onnxruntime');
    expect(Number.isFinite(losses[0])).toBe(true);
    const same = (name: string): boolean => before![name]!.data.every((value, i) => value === after![name]!.data[i]);
    expect(Object.keys(before!).filter((name) => name.startsWith('backbone.') && same(name)).sort()).toEqual(['backbone.patch_embed.proj.bias', 'backbone.patch_embed.proj.weight', 'backbone.pos_embed']);
  });
});
