import type { Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import type { HostTensor } from '../tensor.ts';
import type { Normalizer } from './embedding.ts';

/**
 * An image-conditioned diffusion model (unCLIP): what the sampler needs of it. Every call of its networks gets exactly `batch`
 * rows, whatever the number of images, so that a network may have a static batch, and a row's values cannot depend on
 * how many images happen to be generated together.
 */
export interface UnclipModel {
  /** [channels, height, width] of one latent; pixel space where there is no autoencoder. */
  readonly sampleShape: readonly [number, number, number];
  /** d, size of an image embedding. */
  readonly embeddingSize: number;
  /** Applied to an embedding before noise is added (StableUnCLIPImageNormalizer); mean 0 and std 1 change nothing. */
  readonly normalizer: Normalizer;
  /** β schedule that the network was trained with. */
  readonly betas: 'scaled_linear' | 'squaredcos_cap_v2';
  /** Side of the square views in pixels. */
  readonly imageSize: number;
  /** Side of the square images that `embed` takes, in pixels. @default imageSize */
  readonly embedSize?: number;
  /** Rows of every call below. */
  readonly batch: number;
  /** Embeddings [batch, d] of `batch` square originals. */
  embed(images: readonly Image[]): Promise<HostTensor<'float32'>>;
  /**
   * v-prediction [n, channels, height, width], flat.
   * @param sample [n, channels, height, width], flat
   * @param timestep of the sampler, 0..999, one for all rows
   * @param classLabels [n, 2d], flat: noised embedding beside `timeEmbedding(level, d)`, or all zeros (unconditional)
   * @param n always `batch`
   */
  predict(sample: Float32Array, timestep: number, classLabels: Float32Array, n: number): Promise<Float32Array>;
  /** Views of `imageSize` from samples [n, channels, height, width], flat; `n` is always `batch`. */
  decode(sample: Float32Array, n: number): Promise<Image[]>;
  dispose(): Promise<void>;
}

/**
 * The model that a recipe's `generation.generator` names.
 * Throws `GeneratorUnsupported` for anything but `builtin:demo-unclip`.
 */
export async function openUnclip(generator: string, options: { readonly threads: number; readonly batch: number }): Promise<UnclipModel> {
  if (generator === 'builtin:demo-unclip') {
    const { openDemoUnclip } = await import('../demo/models.ts');
    return openDemoUnclip(options);
  }
  throw new GenViewError('GeneratorUnsupported', `generation.generator: cannot open ${generator}: only builtin:demo-unclip runs in this version`);
}
