import * as tf from '@tensorflow/tfjs';
import { conv2d, groupNorm, linear, parametersOf, silu, zeros } from './layers.ts';
import type { Mode, Module, Weights } from './module.ts';
import { attention } from './operations/attention.ts';

/**
 * A conditional denoising U-Net in the manner of diffusers' UNet2DConditionModel with `class_embed_type: projection`
 * and `resnet_time_scale_shift: scale_shift`; the names of its tensors are diffusers'.
 */
export interface UNetConfig {
  /** Channels of the image or latent. */
  readonly channels: number;
  /** Pixels on a side that one position of the first level holds (space to depth); 1 is none. */
  readonly patch: number;
  /** Width of each level; each next level has half the side. Multiples of `groups`. */
  readonly widths: readonly number[];
  /** Residual blocks of each level on the way down; one more on the way up. */
  readonly blocks: readonly number[];
  readonly groups: number;
  /** Width of the sum of time and class embedding. */
  readonly embedding: number;
  /** Size of the class labels: concat(noised image embedding, embedding of its noise level). */
  readonly classLabels: number;
}

export interface UNetInput {
  /** [n, h, w, channels], float32; h and w multiples of patch * 2^(levels - 1). */
  readonly sample: tf.Tensor4D;
  /** [n] diffusion timestep, float32. */
  readonly timestep: tf.Tensor1D;
  /** [n, classLabels] */
  readonly classLabels: tf.Tensor2D;
}

/**
 * [cos(t w_0), cos(t w_1), …, sin(t w_0), …] with w_j = 10000^(-j / (size / 2)): diffusers' `Timesteps` with
 * `flip_sin_to_cos` and no frequency shift (spec §3.2). t is [n], the result [n, size].
 */
function timestepEmbedding(timestep: tf.Tensor1D, size: number): tf.Tensor2D {
  const half = size / 2;
  const frequencies = tf.tensor2d(Float32Array.from({ length: half }, (_, j) => 10000 ** (-j / half)), [1, half]);
  const angles = tf.mul(tf.reshape(timestep, [-1, 1]), frequencies);
  return tf.concat([tf.cos(angles), tf.sin(angles)], 1) as tf.Tensor2D;
}

type Block = Module<{ x: tf.Tensor4D; embedding: tf.Tensor2D }, tf.Tensor4D>;

/** GN - SiLU - conv - GN scaled and shifted by the embedding - SiLU - conv, plus the input. */
function residualBlock(name: string, inputs: number, outputs: number, config: UNetConfig): Block {
  const norm1 = groupNorm(`${name}.norm1`, inputs, config.groups), conv1 = conv2d(`${name}.conv1`, inputs, outputs, 3);
  const project = linear(`${name}.time_emb_proj`, config.embedding, 2 * outputs);
  const norm2 = groupNorm(`${name}.norm2`, outputs, config.groups), conv2 = conv2d(`${name}.conv2`, outputs, outputs, 3, { initializer: zeros });
  const shortcut = inputs === outputs ? [] : [conv2d(`${name}.conv_shortcut`, inputs, outputs, 1)];
  return {
    parameters: parametersOf(norm1, conv1, project, norm2, conv2, ...shortcut),
    apply({ x, embedding }, w, mode) {
      const inner = conv1.apply(silu(norm1.apply(x, w, mode)), w, mode);
      const [scale, shift] = tf.split(tf.reshape(project.apply(silu(embedding), w, mode), [-1, 1, 1, 2 * outputs]), 2, 3) as [tf.Tensor4D, tf.Tensor4D];
      return tf.add(conv2.apply(silu(norm2.modulated(inner, { scale, shift }, w)), w, mode), shortcut.reduce((y, layer) => layer.apply(y, w, mode), x));
    },
  };
}

/** Single-head self-attention over all positions, added to its input. */
function attentionBlock(name: string, channels: number, groups: number): Module<tf.Tensor4D, tf.Tensor4D> {
  const norm = groupNorm(`${name}.group_norm`, channels, groups);
  const [q, k, v] = ['to_q', 'to_k', 'to_v'].map((part) => linear(`${name}.${part}`, channels, channels)) as [Linear, Linear, Linear];
  const out = linear(`${name}.to_out.0`, channels, channels, { initializer: zeros });
  return {
    parameters: parametersOf(norm, q, k, v, out),
    apply(x, w, mode) {
      const [n, height, width] = x.shape;
      const tokens = tf.reshape(norm.apply(x, w, mode), [-1, channels]) as tf.Tensor2D;
      const [queries, keys, values] = [q, k, v].map((layer) => tf.reshape(layer.apply(tokens, w, mode), [n, height * width, channels])) as [tf.Tensor3D, tf.Tensor3D, tf.Tensor3D];
      const mixed = tf.reshape(attention(queries, keys, values, { heads: 1 }), [-1, channels]) as tf.Tensor2D;
      return tf.add(x, tf.reshape(out.apply(mixed, w, mode), [n, height, width, channels])) as tf.Tensor4D;
    },
  };
}
type Linear = Module<tf.Tensor2D, tf.Tensor2D>;

function embeddingMlp(name: string, inputs: number, width: number): Linear {
  const first = linear(`${name}.linear_1`, inputs, width), second = linear(`${name}.linear_2`, width, width);
  return { parameters: parametersOf(first, second), apply: (x, w, mode) => second.apply(silu(first.apply(x, w, mode)), w, mode) };
}

/** [n, h, w, c] -> the predicted velocity, same shape. */
export function unet(config: UNetConfig): Module<UNetInput, tf.Tensor4D> {
  const { widths, patch, groups } = config;
  const first = widths[0]!, patched = config.channels * patch * patch;
  const timeMlp = embeddingMlp('time_embedding', first, config.embedding);
  const classMlp = embeddingMlp('class_embedding', config.classLabels, config.embedding);
  const convIn = patch === 1 ? conv2d('conv_in', config.channels, first, 3) : conv2d('conv_in', config.channels, first, 3 * patch, { stride: patch, padding: patch });

  const skips = [first];
  let width = first;
  const down = widths.map((level, i) => {
    const blocks = Array.from({ length: config.blocks[i]! }, (_, j) => {
      const block = residualBlock(`down_blocks.${i}.resnets.${j}`, width, level, config);
      width = level;
      skips.push(width);
      return block;
    });
    const last = i === widths.length - 1;
    if (!last) skips.push(width);
    return { blocks, downsample: last ? undefined : conv2d(`down_blocks.${i}.downsamplers.0.conv`, width, width, 3, { stride: 2 }) };
  });
  const middle = [residualBlock('mid_block.resnets.0', width, width, config), residualBlock('mid_block.resnets.1', width, width, config)] as const;
  const attend = attentionBlock('mid_block.attentions.0', width, groups);
  const up = [...widths].reverse().map((level, i) => {
    const blocks = Array.from({ length: config.blocks[widths.length - 1 - i]! + 1 }, (_, j) => {
      const block = residualBlock(`up_blocks.${i}.resnets.${j}`, width + skips.pop()!, level, config);
      width = level;
      return block;
    });
    return { blocks, upsample: i === widths.length - 1 ? undefined : conv2d(`up_blocks.${i}.upsamplers.0.conv`, width, width, 3) };
  });
  const normOut = groupNorm('conv_norm_out', first, groups);
  const convOut = conv2d('conv_out', first, patched, 3, { initializer: zeros });

  return {
    parameters: parametersOf(timeMlp, classMlp, convIn,
      ...down.flatMap((level) => [...level.blocks, ...(level.downsample ? [level.downsample] : [])]), middle[0], attend, middle[1],
      ...up.flatMap((level) => [...level.blocks, ...(level.upsample ? [level.upsample] : [])]), normOut, convOut),
    apply({ sample, timestep, classLabels }, w: Weights, mode: Mode) {
      const embedding = tf.add(timeMlp.apply(timestepEmbedding(timestep, first), w, mode), classMlp.apply(classLabels, w, mode)) as tf.Tensor2D;
      let x = convIn.apply(sample, w, mode);
      const kept = [x];
      for (const level of down) {
        for (const block of level.blocks) kept.push(x = block.apply({ x, embedding }, w, mode));
        if (level.downsample) kept.push(x = level.downsample.apply(x, w, mode));
      }
      x = middle[0].apply({ x, embedding }, w, mode);
      x = middle[1].apply({ x: attend.apply(x, w, mode), embedding }, w, mode);
      for (const level of up) {
        for (const block of level.blocks) x = block.apply({ x: tf.concat([x, kept.pop()!], 3), embedding }, w, mode);
        if (level.upsample) x = level.upsample.apply(tf.image.resizeNearestNeighbor(x, [x.shape[1] * 2, x.shape[2] * 2]), w, mode);
      }
      const out = convOut.apply(silu(normOut.apply(x, w, mode)), w, mode);
      return patch === 1 ? out : depthToSpace(out, patch);
    },
  };
}

/** [n, h, w, c p p] -> [n, h p, w p, c]; channel order (row in patch, column in patch, channel). */
function depthToSpace(x: tf.Tensor4D, patch: number): tf.Tensor4D {
  const [n, h, w, depth] = x.shape, channels = depth / (patch * patch);
  const split = tf.reshape(x, [n, h, w, patch, patch, channels]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4, 5]), [n, h * patch, w * patch, channels]);
}
