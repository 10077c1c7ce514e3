import * as tf from '@tensorflow/tfjs';
import { float32, type HostTensor } from '../tensor.ts';
import { layerNorm } from './layerNorm.ts';
import { buffer, normal, parameter, parametersOf, uniform, weight } from './layers.ts';
import { inference, type Module, type Weights } from './module.ts';
import { patchConv2d } from './patches.ts';
import { embedTokens, joinedProjections, splitTokens, transformerBlock, type Tokens } from './transformer.ts';

/** Vision Transformer (Dosovitskiy et al. 2021); names as timm's (`patch_embed.proj`, `cls_token`, `blocks.0.attn.qkv` …). */
export interface ViTConfig {
  /** Side of the square images in pixels, a multiple of `patch`. */
  readonly imageSize: number;
  /** Side of a patch in pixels. */
  readonly patch: number;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  /** Hidden width of the MLPs. @default 4 * width */
  readonly hidden?: number;
  /** `sincos`: fixed, {@link sinCosPositions}, a buffer; `learned`: a parameter. */
  readonly positions: 'sincos' | 'learned';
  /** moco-v3's `stop_grad_conv1`: the patch projection is never trained, which keeps pretraining stable. @default false */
  readonly frozenPatches?: boolean;
}

type Size = Pick<ViTConfig, 'patch' | 'width' | 'depth' | 'heads'>;

/** Usual sizes; `small` has 6 heads as in DeiT and timm, moco-v3's `vit_small` has 12 (spec section 6.1). */
export const vitSizes: Readonly<Record<'tiny' | 'small' | 'small-mocov3' | 'base' | 'huge', Size>> = {
  tiny: { patch: 16, width: 192, depth: 12, heads: 3 },
  small: { patch: 16, width: 384, depth: 12, heads: 6 },
  'small-mocov3': { patch: 16, width: 384, depth: 12, heads: 12 },
  base: { patch: 16, width: 768, depth: 12, heads: 12 },
  huge: { patch: 14, width: 1280, depth: 32, heads: 16 },
};

export interface ViT extends Module<tf.Tensor4D, tf.Tensor2D> {
  /** Width of the features. */
  readonly featureSize: number;
  /** Class token [n, width] and patch tokens [n, rows * columns, width], row by row, both behind the last layer norm. */
  tokens(x: tf.Tensor4D, weights: Weights): { classToken: tf.Tensor2D; patchTokens: tf.Tensor3D };
}

const epsilon = 1e-6;

/** [n, h, w, 3] normalised pixels -> [n, width] features of the class token. Initialised as moco-v3's `vits.py`. */
export function vit(config: ViTConfig): ViT {
  const { imageSize, patch, width, depth, heads, hidden = 4 * width, positions, frozenPatches = false } = config;
  const side = imageSize / patch;
  if (!Number.isInteger(side)) throw new RangeError(`images of ${imageSize} pixels do not divide into patches of ${patch}`);
  const count = side * side + 1;
  const patches = patchConv2d('patch_embed.proj', 3, width, patch, { initializer: uniform(Math.sqrt(6 / (3 * patch ** 2 + width))), frozen: frozenPatches });
  const blocks = Array.from({ length: depth }, (_, i) => {
    const name = `blocks.${i}`;
    return transformerBlock(
      { norm1: `${name}.norm1`, projection: `${name}.attn.proj`, norm2: `${name}.norm2`, fc1: `${name}.mlp.fc1`, fc2: `${name}.mlp.fc2` },
      joinedProjections(`${name}.attn.qkv`, width), { width, heads, hidden, epsilon });
  });
  const norm = layerNorm<tf.Tensor>('norm', width, epsilon);
  const encode = (x: tf.Tensor4D, w: Weights): Tokens => {
    const embedded = embedTokens(patches.apply(x, w, inference), weight(w, 'cls_token'), weight(w, 'pos_embed'));
    return blocks.reduce((y, block) => block.apply(y, x.shape[0], w), embedded);
  };
  return {
    featureSize: width,
    parameters: [
      parameter('cls_token', [1, 1, width], normal(1e-6)),
      positions === 'sincos'
        ? buffer('pos_embed', [1, count, width], () => float32(sinCosPositions(width, side, side).data, [1, count, width]))
        : parameter('pos_embed', [1, count, width], normal(0.02)),
      ...parametersOf(patches, ...blocks, norm),
    ],
    tokens(x, w) {
      const { first, others } = splitTokens(norm.apply(encode(x, w), w, inference) as Tokens, x.shape[0]);
      return { classToken: first, patchTokens: others };
    },
    // Nothing but the class token is normalised: it is all that counts here.
    apply: (x, w) => norm.apply(splitTokens(encode(x, w), x.shape[0]).first, w, inference) as tf.Tensor2D,
  };
}

/**
 * Fixed 2-D positions of moco-v3's `vits.py`, [1 + rows * columns, width]: zeros for the class token, then for each patch sin and
 * cos of row / 10000^(4 i / width), sin and cos of column / 10000^(4 i / width), a quarter of the width each.
 * @param width a multiple of 4
 */
export function sinCosPositions(width: number, rows: number, columns: number): HostTensor<'float32'> {
  if (width % 4 !== 0) throw new RangeError(`sin-cos positions need a width that is a multiple of 4, not ${width}`);
  const quarter = width / 4;
  const data = new Float32Array((1 + rows * columns) * width);
  for (let patch = 0; patch < rows * columns; patch++) {
    const start = (1 + patch) * width;
    for (let i = 0; i < quarter; i++) {
      const frequency = 10_000 ** (-i / quarter);
      const row = Math.floor(patch / columns) * frequency, column = (patch % columns) * frequency;
      data[start + i] = Math.sin(row);
      data[start + quarter + i] = Math.cos(row);
      data[start + 2 * quarter + i] = Math.sin(column);
      data[start + 3 * quarter + i] = Math.cos(column);
    }
  }
  return float32(data, [1 + rows * columns, width]);
}
