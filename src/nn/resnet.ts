import * as tf from '@tensorflow/tfjs';
import type { BackboneRecipe } from '../recipe/recipe.ts';
import { batchNorm, conv2d, kaimingFanOut, lambda, parametersOf } from './layers.ts';
import type { Mode, Module, Weights } from './module.ts';

/** He et al. 2016, basic blocks; names as torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0` …). */
export interface ResNetConfig {
  readonly stem: {
    readonly width: number;
    readonly kernel: number;
    readonly stride: number;
    /** 3x3 max pooling with stride 2 behind it. */
    readonly pool: boolean;
  };
  readonly stages: readonly { readonly width: number; readonly blocks: number; readonly stride: number }[];
  readonly norm: 'batch' | 'none';
}

export interface ResNet extends Module<tf.Tensor4D, tf.Tensor2D> {
  /** Width of the pooled features. */
  readonly featureSize: number;
  /** Last feature map, [n, h, w, featureSize]. */
  featureMap(x: tf.Tensor4D, weights: Weights, mode: Mode): tf.Tensor4D;
}

/** The configuration of a recipe's backbone. The stem `cifar` of `resnet-small` has stride 2, a quarter of the work; that of `resnet18` has 1, as in the paper. */
export function resnetConfig(recipe: BackboneRecipe): ResNetConfig {
  const cifar = recipe.stem === 'cifar';
  const small = recipe.name === 'resnet-small';
  const stem = cifar
    ? { width: recipe.width, kernel: 3, stride: small ? 2 : 1, pool: false }
    : { width: recipe.width, kernel: 7, stride: 2, pool: true };
  const stages = (small ? [1, 1, 1] : [2, 2, 2, 2]).map((blocks, i) => ({ width: recipe.width * 2 ** i, blocks, stride: i === 0 ? 1 : 2 }));
  return { stem, stages, norm: recipe.norm };
}

/** [n, h, w, 3] normalised pixels -> [n, featureSize] globally pooled features. */
export function resnet(config: ResNetConfig): ResNet {
  const norm = (name: string, channels: number): Module<tf.Tensor4D, tf.Tensor4D> =>
    config.norm === 'batch' ? batchNorm(name, channels) as Module<tf.Tensor4D, tf.Tensor4D> : lambda((x) => x);
  const convolution = (name: string, inputs: number, outputs: number, kernel: number, stride: number): Module<tf.Tensor4D, tf.Tensor4D> =>
    // Without normalisation a bias takes its place.
    conv2d(name, inputs, outputs, kernel, { stride, bias: config.norm === 'none', initializer: kaimingFanOut });

  const block = (name: string, inputs: number, outputs: number, stride: number): Module<tf.Tensor4D, tf.Tensor4D> => {
    const conv1 = convolution(`${name}.conv1`, inputs, outputs, 3, stride), bn1 = norm(`${name}.bn1`, outputs);
    const conv2 = convolution(`${name}.conv2`, outputs, outputs, 3, 1), bn2 = norm(`${name}.bn2`, outputs);
    const shortcut = stride === 1 && inputs === outputs ? [] : [convolution(`${name}.downsample.0`, inputs, outputs, 1, stride), norm(`${name}.downsample.1`, outputs)];
    return {
      parameters: parametersOf(conv1, bn1, conv2, bn2, ...shortcut),
      apply(x, w, mode) {
        const inner = tf.relu(bn1.apply(conv1.apply(x, w, mode), w, mode));
        const branch = bn2.apply(conv2.apply(inner, w, mode), w, mode);
        return tf.relu(tf.add(branch, shortcut.reduce((y, layer) => layer.apply(y, w, mode), x)));
      },
    };
  };

  const stem = convolution('conv1', 3, config.stem.width, config.stem.kernel, config.stem.stride);
  const stemNorm = norm('bn1', config.stem.width);
  let channels = config.stem.width;
  const blocks = config.stages.flatMap(({ width, blocks: count, stride }, stage) =>
    Array.from({ length: count }, (_, i) => {
      const made = block(`layer${stage + 1}.${i}`, channels, width, i === 0 ? stride : 1);
      channels = width;
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
