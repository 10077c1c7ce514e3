import { readFileSync } from 'node:fs';
import type { EncoderDescription, PretrainedEncoder } from '../../src/evaluation/features.ts';
import { backboneNetwork } from '../../src/nn/backbone.ts';
import { float32, sizeOf, type NamedTensors } from '../../src/tensor.ts';

/** Written by test/fixtures/evaluation/make.py with scikit-learn and PyTorch. */
export const reference = JSON.parse(readFileSync(new URL('../fixtures/evaluation/reference.json', import.meta.url), 'utf8')) as {
  metrics: { scores: number[]; labels: number[]; classes: number; top1: number; top5: number };
  knn: { k: number; temperature: number; classes: number; size: number; train: number[]; trainLabels: number[]; val: number[]; valLabels: number[]; top1: number; top5: number };
  linear: { features: number[]; size: number; labels: number[]; classes: number; weight: number[]; epochs: number; learningRate: number; weightDecay: number; losses: number[] };
  linearPartial: { features: number[]; labels: number[]; batch: number; epochs: number; learningRate: number; losses: number[] };
  features: { values: number[] };
  fineTuning: { losses: number[]; logits: number[]; 'bn1.running_var': number[]; 'conv1.weight': number[] };
};

/** The same tensors as make.py's `fill`. */
export function formulaTensor(name: string, shape: readonly number[]): NamedTensors[string] {
  const value = (i: number): number => {
    const wave = Math.sin(1.7 * i + name.length);
    if (name.endsWith('running_var')) return 1 + 0.3 * wave;
    if (name.includes('bn') || name.includes('downsample.1')) return (name.endsWith('weight') ? 1 : 0) + 0.1 * wave;
    return 0.3 * wave;
  };
  return float32(Float32Array.from({ length: sizeOf(shape) }, (_, i) => value(i)), shape);
}

export const description: EncoderDescription = {
  backbone: { name: 'resnet-small', stem: 'cifar', width: 4, norm: 'batch' }, imageSize: 16, mean: [0.48, 0.46, 0.41], std: [0.27, 0.26, 0.28],
};

/** make.py's network. */
export function formulaEncoder(): PretrainedEncoder {
  const network = backboneNetwork(description.backbone, description.imageSize, { frozenPatches: false });
  return { ...description, network, weights: Object.fromEntries(network.parameters.map(({ name, shape }) => [name, formulaTensor(name, shape)])) };
}

/** make.py's six images, eight bits a channel, [6, 3, 16, 16] in [0, 1]. */
export function formulaPixels(): Float32Array {
  return Float32Array.from({ length: 6 * 3 * 256 }, (_, i) => Math.round(255 * (0.5 + 0.5 * Math.sin(0.37 * i + 0.001 * i * (i % 7)))) / 255);
}
