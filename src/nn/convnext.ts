import * as tf from '@tensorflow/tfjs';
import { gelu } from './gelu.ts';
import { layerNorm } from './layerNorm.ts';
import { constant, normal, parameter, parametersOf, weight, zeros } from './layers.ts';
import { inference, type Module, type ParameterSpec, type Weights } from './module.ts';
import { patchConv2d } from './patches.ts';

/** ConvNeXt (Liu et al. 2022); names as timm's (`stem.0`, `stages.1.downsample.0`, `stages.1.blocks.0.conv_dw`, `head.norm` …). */
export interface ConvNeXtConfig {
  readonly stages: readonly { readonly width: number; readonly blocks: number }[];
}

/**
 * ConvNeXt-B, the visual trunk of open_clip's `convnext_base_w` (names there begin with `visual.trunk.`): with tag
 * `laion2b_s13b_b82k_augreg` the network that scores pairs (spec section 5.1).
 */
export const convnextBase: ConvNeXtConfig = {
  stages: [{ width: 128, blocks: 3 }, { width: 256, blocks: 3 }, { width: 512, blocks: 27 }, { width: 1024, blocks: 3 }],
};

export interface ConvNeXt extends Module<tf.Tensor4D, tf.Tensor2D> {
  /** Width of the last stage. */
  readonly featureSize: number;
  /** Output of the last stage, neither pooled nor normalised, [n, h / 32, w / 32, featureSize] (four stages). */
  featureMap(x: tf.Tensor4D, weights: Weights): tf.Tensor4D;
}

type ImageModule = Module<tf.Tensor4D, tf.Tensor4D>;

const epsilon = 1e-6;
/** timm's: a normal distribution for every convolution and linear layer, biases 0. */
const initializer = normal(0.02);

/** Depthwise 7x7 convolution with bias, [n, h, w, c] -> same; `<name>.weight` is [c, 1, 7, 7]. */
function depthwise(name: string, channels: number): ImageModule {
  return {
    parameters: [parameter(`${name}.weight`, [channels, 1, 7, 7], initializer), parameter(`${name}.bias`, [channels], zeros)],
    apply(x, w) {
      const filter = tf.transpose(weight(w, `${name}.weight`), [2, 3, 0, 1]) as tf.Tensor4D;
      return tf.add(tf.depthwiseConv2d(x, filter, 1, 'same'), weight(w, `${name}.bias`));
    },
  };
}

/** x + gamma fc2(gelu(fc1(norm(conv_dw(x))))), gamma [c] being the layer scale; linear layers work on channels. */
function convNeXtBlock(name: string, channels: number): ImageModule {
  const convolution = depthwise(`${name}.conv_dw`, channels), norm = layerNorm<tf.Tensor4D>(`${name}.norm`, channels, epsilon);
  const layer = (part: string, inputs: number, outputs: number): ParameterSpec[] =>
    [parameter(`${name}.mlp.${part}.weight`, [outputs, inputs], initializer), parameter(`${name}.mlp.${part}.bias`, [outputs], zeros)];
  return {
    parameters: [
      ...parametersOf(convolution, norm), ...layer('fc1', channels, 4 * channels), ...layer('fc2', 4 * channels, channels),
      parameter(`${name}.gamma`, [channels], constant(1e-6)),
    ],
    apply(x, w) {
      const of = (part: string): tf.Tensor => weight(w, `${name}.${part}`), gamma = of('gamma');
      const rows = tf.reshape(norm.apply(convolution.apply(x, w, inference), w, inference), [-1, channels]) as tf.Tensor2D;
      const hidden = gelu(tf.add(tf.matMul(rows, of('mlp.fc1.weight') as tf.Tensor2D, false, true), of('mlp.fc1.bias'))) as tf.Tensor2D;
      // The layer scale on the weights instead of on the result: they are fewer, and constant in inference.
      const scaled = tf.mul(of('mlp.fc2.weight'), tf.reshape(gamma, [channels, 1])) as tf.Tensor2D;
      const branch = tf.add(tf.matMul(hidden, scaled, false, true), tf.mul(of('mlp.fc2.bias'), gamma));
      return tf.add(x, tf.reshape(branch, x.shape));
    },
  };
}

/** [n, h, w, 3] normalised pixels -> [n, featureSize] features: mean over positions, then layer norm (`head.norm`). */
export function convnext({ stages }: ConvNeXtConfig): ConvNeXt {
  let channels = stages[0]!.width;
  const stem: ImageModule[] = [patchConv2d('stem.0', 3, channels, 4, { initializer }), layerNorm('stem.1', channels, epsilon)];
  const layers = [...stem, ...stages.flatMap(({ width, blocks }, i) => {
    const name = `stages.${i}`;
    const downsample: ImageModule[] = i === 0 ? [] : [layerNorm(`${name}.downsample.0`, channels, epsilon), patchConv2d(`${name}.downsample.1`, channels, width, 2, { initializer })];
    channels = width;
    return [...downsample, ...Array.from({ length: blocks }, (_, k) => convNeXtBlock(`${name}.blocks.${k}`, width))];
  })];
  const norm = layerNorm<tf.Tensor2D>('head.norm', channels, epsilon);
  const featureMap = (x: tf.Tensor4D, w: Weights): tf.Tensor4D => layers.reduce((y, layer) => layer.apply(y, w, inference), x);
  return {
    featureSize: channels,
    parameters: parametersOf(...layers, norm),
    featureMap,
    apply: (x, w) => norm.apply(tf.mean(featureMap(x, w), [1, 2]), w, inference),
  };
}
