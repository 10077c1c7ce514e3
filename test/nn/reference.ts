import { readFileSync } from 'node:fs';
import type { ParameterSpec } from '../../src/nn/module.ts';
import { float32, sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';

/** Numbers that test/fixtures/nn/make.py computed with PyTorch. */
export const reference = JSON.parse(readFileSync(new URL('../fixtures/nn/reference.json', import.meta.url), 'utf8')) as Record<string, any>;

/** The same formula for weights as make.py's: tensor k of the sorted names, element i. */
export function referenceTensors(parameters: readonly ParameterSpec[]): NamedTensors {
  const names = parameters.map((p) => p.name).sort();
  const shapes = new Map(parameters.map((p) => [p.name, p.shape]));
  return Object.fromEntries(names.map((name, k) => {
    const shape = shapes.get(name)!, fanIn = sizeOf(shape.slice(1));
    const value = (i: number): number => {
      const w = noise(k, i);
      if (name.endsWith('running_var')) return 1 + 0.2 * w * w;
      if (shape.length > 1) return w * Math.sqrt(2 / fanIn);
      return name.endsWith('weight') ? 1 + 0.1 * w : 0.1 * w;
    };
    return [name, float32(Float32Array.from({ length: sizeOf(shape) }, (_, i) => value(i)), shape)];
  }));
}

/** The same images as make.py's: element i of tensor number 1000. */
export function referenceImages(shape: readonly number[]): HostTensor<'float32'> {
  return float32(Float32Array.from({ length: sizeOf(shape) }, (_, i) => noise(1000, i)), shape);
}

/** Looks random in [-1, 1): the fraction of a large sine. */
export function noise(tensor: number, element: number): number {
  const value = Math.sin(12.9898 * element + 78.233 * (tensor + 1)) * 43758.5453;
  return (value - Math.floor(value)) * 2 - 1;
}
