import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { emit } from '../../src/compiler/emit.ts';
import type { Node, Value } from '../../src/compiler/graph.ts';
import { record } from '../../src/compiler/record.ts';
import { methodOf } from '../../src/pretraining/methods/method.ts';
import { trainingSteps } from '../../src/pretraining/steps.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { decodeModel } from '../runtime/model.ts';

/** Types that onnxruntime's CUDA provider has a kernel for, by operator. Whatever else a step holds would go to the CPU and back, in every step. */
const { kernels } = JSON.parse(readFileSync(new URL('../fixtures/compiler/cudaKernels.json', import.meta.url), 'utf8')) as { kernels: Record<string, string> };
const hasKernel = (op: string, type: string): boolean => (kernels[op] ?? '').split(' ').includes(type);

/** What a training step of a recipe returns and leaves in its state. */
function recorded(method: string, backbone: string): Record<string, Value> {
  const recipe = parseRecipe(`
name: placement
dataset: { url: images }
pretraining: { method: ${method}, backbone: ${backbone}, head: { hidden: 64, output: 16 }, batch: 4, queue: 16 }
variants: [{ name: baseline }]`, 'test').variants[0]!.pretraining;
  const { whole, initialState } = trainingSteps(methodOf(recipe), recipe, 1);
  const state = Object.fromEntries(Object.entries(initialState(0)).map(([name, { shape, dtype }]) => [name, { shape, dtype }]));
  const { outputs, nextState } = record(whole.run, { name: method, inputs: whole.inputs, state });
  return { ...outputs, ...Object.fromEntries(Object.entries(nextState).map(([name, value]) => [`next/${name}`, value])) };
}

function nodesOf(outputs: Record<string, Value>): Set<Node> {
  const nodes = new Set<Node>(), values = Object.values(outputs);
  while (values.length > 0) {
    // Models for a GPU are of standard operators.
    const value = values.pop()!, { node } = value.standard?.value ?? value;
    if (!node || nodes.has(node)) continue;
    nodes.add(node);
    values.push(...node.inputs);
  }
  return nodes;
}

const isSymmetric = (pads: readonly unknown[]): boolean => pads.every((n, i) => n === pads[(i + pads.length / 2) % pads.length]);

describe.each([['mocov2', '{ name: resnet18, width: 16 }'], ['mocov3', '{ name: resnet50, width: 16 }'], ['mocov3', '{ name: vit-small }']])('a training step of %s with %s', (method, backbone) => {
  const outputs = recorded(method, backbone), nodes = [...nodesOf(outputs)];

  it('has a CUDA kernel for every node', () => {
    expect(nodes.length).toBeGreaterThan(1000);
    const without = nodes.filter(({ op, inputs }) => !hasKernel(op, (op === 'Where' ? inputs[1]! : inputs[0]!).type)).map(({ op, inputs }) => `${op} ${inputs.map(({ type }) => type).join()}`);
    expect([...new Set(without)]).toEqual([]);
  });

  it('trains no BatchNormalization: onnxruntime does not on CUDA from operator set 14 on (its issue 16867)', () => {
    expect(nodes.filter(({ op, attributes }) => op === 'BatchNormalization' && attributes['training_mode'] === 1)).toEqual([]);
  });

  it('pads convolutions and pooling alike on both sides, as cuDNN does', () => {
    const padded = nodes.filter(({ op }) => ['Conv', 'ConvTranspose', 'MaxPool', 'AveragePool'].includes(op));
    expect(padded.filter(({ attributes }) => !isSymmetric(attributes['pads'] as number[])).map(({ op, attributes }) => `${op} ${JSON.stringify(attributes)}`)).toEqual([]);
    if (backbone.includes('resnet')) expect(padded.some(({ op, attributes }) => op === 'ConvTranspose' && (attributes['output_padding'] as number[]).some((n) => n > 0))).toBe(true);
  });

  it.each(['float16', 'bfloat16'] as const)('in %s too', (precision) => {
    const { node } = decodeModel(emit('step', outputs, { precision }).bytes).graph;
    const half = node.filter(({ op_type, output }) => op_type !== 'Cast' && output[0]!.endsWith(':half'));
    expect(half.length).toBeGreaterThan(100);
    expect([...new Set(half.filter(({ op_type }) => !hasKernel(op_type, precision)).map(({ op_type }) => op_type))]).toEqual([]);
  });
});
