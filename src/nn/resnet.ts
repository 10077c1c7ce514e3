import * as tf from '@tensorflow/tfjs';
import type { ResNetRecipe } from '../recipe/recipe.ts';
import { batchNorm, conv2d, kaimingFanOut, lambda, parametersOf, sequential } from './layers.ts';
import type { Mode, Module, Weights } from './module.ts';

/** He et al. 2016; names as torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0` …). */
export interface ResNetConfig {
  readonly stem: {
    readonly width: number;
    readonly kernel: number;
    readonly stride: number;
    /** 3x3 max pooling with stride 2 behind it. */
    readonly pool: boolean;
  };
  /** `width`: channels of the blocks' 3x3 convolutions, and of their output times the block's expansion. */
  readonly stages: readonly { readonly width: number; readonly blocks: number; readonly stride: number }[];
  /** `basic`: two 3x3 convolutions; `bottleneck`: 1x1, 3x3 (which has the stride, torchvision's v1.5), 1x1 to four times the width. @default 'basic' */
  readonly block?: keyof typeof expansions;
  readonly norm: 'batch' | 'none';
}

/** Channels that a block returns, as a multiple of its width. */
const expansions = { basic: 1, bottleneck: 4 } as const;

export interface ResNet extends Module<tf.Tensor4D, tf.Tensor2D> {
  /** Width of the pooled features. */
  readonly featureSize: number;
  /** Last feature map, [n, h, w, featureSize]. */
  featureMap(x: tf.Tensor4D, weights: Weights, mode: Mode): tf.Tensor4D;
}

/** Blocks of each stage. */
const depths = { resnet18: [2, 2, 2, 2], resnet50: [3, 4, 6, 3], 'resnet-small': [1, 1, 1] } as const;

/** The configuration of a recipe's backbone. The stem `cifar` of `resnet-small` has stride 2, a quarter of the work; that of the others has 1, as in the paper. */
export function resnetConfig(recipe: ResNetRecipe): ResNetConfig {
  const stem = recipe.stem === 'cifar'
    ? { width: recipe.width, kernel: 3, stride: recipe.name === 'resnet-small' ? 2 : 1, pool: false }
    : { width: recipe.width, kernel: 7, stride: 2, pool: true };
  const stages = depths[recipe.name].map((blocks, i) => ({ width: recipe.width * 2 ** i, blocks, stride: i === 0 ? 1 : 2 }));
  return { stem, stages, block: recipe.name === 'resnet50' ? 'bottleneck' : 'basic', norm: recipe.norm };
}

/** [n, h, w, 3] normalised pixels -> [n, featureSize] globally pooled features. */
export function resnet(config: ResNetConfig): ResNet {
  const identity = lambda<tf.Tensor4D>((x) => x), relu = lambda<tf.Tensor4D>((x) => tf.relu(x));
  const norm = (name: string, channels: number): Module<tf.Tensor4D, tf.Tensor4D> =>
    config.norm === 'batch' ? batchNorm(name, channels) as Module<tf.Tensor4D, tf.Tensor4D> : identity;
  const convolution = (name: string, inputs: number, outputs: number, kernel: number, stride: number): Module<tf.Tensor4D, tf.Tensor4D> =>
    // Without normalisation a bias takes its place.
    conv2d(name, inputs, outputs, kernel, { stride, bias: config.norm === 'none', initializer: kaimingFanOut });

  const kind = config.block ?? 'basic';
  const block = (name: string, inputs: number, width: number, stride: number): Module<tf.Tensor4D, tf.Tensor4D> => {
    const outputs = width * expansions[kind];
    const part = (i: number, from: number, to: number, kernel: number, step: number): Module<tf.Tensor4D, tf.Tensor4D> =>
      sequential(convolution(`${name}.conv${i}`, from, to, kernel, step), norm(`${name}.bn${i}`, to));
    const branch = kind === 'basic'
      ? sequential(part(1, inputs, width, 3, stride), relu, part(2, width, outputs, 3, 1))
      : sequential(part(1, inputs, width, 1, 1), relu, part(2, width, width, 3, stride), relu, part(3, width, outputs, 1, 1));
    const shortcut = stride === 1 && inputs === outputs
      ? identity
      : sequential(convolution(`${name}.downsample.0`, inputs, outputs, 1, stride), norm(`${name}.downsample.1`, outputs));
    return {
      parameters: parametersOf(branch, shortcut),
      apply: (x, w, mode) => tf.relu(tf.add(branch.apply(x, w, mode), shortcut.apply(x, w, mode))),
    };
  };

  const stem = convolution('conv1', 3, config.stem.width, config.stem.kernel, config.stem.stride);
  const stemNorm = norm('bn1', config.stem.width);
  let channels = config.stem.width;
  const blocks = config.stages.flatMap(({ width, blocks: count, stride }, stage) =>
    Array.from({ length: count }, (_, i) => {
      const made = block(`layer${stage + 1}.${i}`, channels, width, i === 0 ? stride : 1);
      channels = width * expansions[kind];
      return made;
    }));
  const featureMap = (x: tf.Tensor4D, w: Weights, mode: Mode): tf.Tensor4D => {
    let y = tf.relu(stemNorm.apply(stem.apply(x, w, mode), w, mode));
    if (config.stem.pool) y = tf.maxPool(y, 3, 2, 1);
    return blocks.reduce((z, b) => b.apply(z, w, mode), y);
  };
  return {
    featureSize: channels,
    parameters: parametersOf(stem, stemNorm, ...blocks),
    featureMap,
    apply: (x, w, mode) => tf.mean(featureMap(x, w, mode), [1, 2]),
  };
}
