import * as tf from '@tensorflow/tfjs';
import { layerNorm } from './layerNorm.ts';
import { linear, normal, parameter, parametersOf, weight } from './layers.ts';
import { inference, type ParameterSpec, type Weights } from './module.ts';
import { patchConv2d } from './patches.ts';
import { embedTokens, separateProjections, splitTokens, transformerBlock, type Tokens } from './transformer.ts';

/** CLIP's vision transformer (Radford et al. 2021). */
export interface ClipVisionConfig {
  /** Side of the square images in pixels, a multiple of `patch`. */
  readonly imageSize: number;
  /** Side of a patch in pixels. */
  readonly patch: number;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  /** Hidden width of the MLPs. */
  readonly hidden: number;
  /** Width of the image embedding. */
  readonly projection: number;
}

/** ViT-H/14 of open_clip, `laion2b_s32b_b79k`: the foreground encoder, and unCLIP's image encoder (spec sections 2.1 and 3.1). */
export const clipVitH14: ClipVisionConfig = { imageSize: 224, patch: 14, width: 1280, depth: 32, heads: 16, hidden: 5120, projection: 1024 };

export interface ClipVision {
  readonly parameters: readonly ParameterSpec[];
  /** Width of the image embedding. */
  readonly embeddingSize: number;
  /**
   * @param x [n, imageSize, imageSize, 3] normalised pixels
   * @returns the image embedding [n, projection], not normalised (`image_embeds`), and the patch tokens [n, rows * columns, width]
   * of the last block, row by row, behind `post_layernorm` (as GenView's patched open_clip returns them), not projected
   */
  apply(x: tf.Tensor4D, weights: Weights): { embedding: tf.Tensor2D; patchTokens: tf.Tensor3D };
}

const epsilon = 1e-5;

/**
 * Names as those of transformers' `CLIPVisionModelWithProjection` (`vision_model.embeddings.patch_embedding`,
 * `vision_model.pre_layrnorm` (its spelling), `vision_model.encoder.layers.0.self_attn.q_proj` …, `visual_projection`), in which
 * Stable unCLIP's `image_encoder` is published. Exact (erf) GELU, as open_clip's ViT-H/14 has it.
 */
export function clipVision({ imageSize, patch, width, depth, heads, hidden, projection }: ClipVisionConfig): ClipVision {
  const side = imageSize / patch;
  if (!Number.isInteger(side)) throw new RangeError(`images of ${imageSize} pixels do not divide into patches of ${patch}`);
  const initializer = normal(0.02);
  const patches = patchConv2d('vision_model.embeddings.patch_embedding', 3, width, patch, { bias: false, initializer });
  const pre = layerNorm<Tokens>('vision_model.pre_layrnorm', width, epsilon), post = layerNorm<Tokens>('vision_model.post_layernorm', width, epsilon);
  const blocks = Array.from({ length: depth }, (_, i) => {
    const name = `vision_model.encoder.layers.${i}`, attention = `${name}.self_attn`;
    return transformerBlock(
      { norm1: `${name}.layer_norm1`, projection: `${attention}.out_proj`, norm2: `${name}.layer_norm2`, fc1: `${name}.mlp.fc1`, fc2: `${name}.mlp.fc2` },
      separateProjections([`${attention}.q_proj`, `${attention}.k_proj`, `${attention}.v_proj`], width), { width, heads, hidden, epsilon });
  });
  const project = linear('visual_projection', width, projection, { bias: false, initializer });
  return {
    embeddingSize: projection,
    parameters: [
      parameter('vision_model.embeddings.class_embedding', [width], initializer),
      parameter('vision_model.embeddings.position_embedding.weight', [side * side + 1, width], initializer),
      ...parametersOf(patches, pre, ...blocks, post, project),
    ],
    apply(x, w) {
      const n = x.shape[0];
      const embedded = embedTokens(patches.apply(x, w, inference), weight(w, 'vision_model.embeddings.class_embedding'), weight(w, 'vision_model.embeddings.position_embedding.weight'));
      const last = blocks.reduce((y, block) => block.apply(y, n, w), pre.apply(embedded, w, inference));
      const { first, others } = splitTokens(post.apply(last, w, inference), n);
      return { embedding: project.apply(first, w, inference), patchTokens: others };
    },
  };
}
