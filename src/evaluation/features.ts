import * as tf from '@tensorflow/tfjs';
import { centreCrop, toPixels, type Image } from '../dataset/image.ts';
import { backboneNetwork, type FeatureNetwork } from '../nn/backbone.ts';
import { inference } from '../nn/module.ts';
import { decodeSafetensors } from '../nn/safetensors.ts';
import { loadWeights } from '../nn/weights.ts';
import type { BackboneRecipe } from '../recipe/recipe.ts';
import { compileInference } from '../runtime/compile.ts';
import { readJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { float32, type NamedTensors } from '../tensor.ts';

/** `pretrain/<hash>/encoder.json`: what `encoder.safetensors` is, and what its network expects. */
export interface EncoderDescription {
  readonly backbone: BackboneRecipe;
  /** Side of the square input in pixels. */
  readonly imageSize: number;
  /** Channel statistics of the input, RGB in [0, 1]. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** A pretrained network and its tensors: parameters and buffers in the names of torchvision or timm. */
export interface PretrainedEncoder extends EncoderDescription {
  readonly network: FeatureNetwork;
  readonly weights: NamedTensors;
}

/** Reads what Pretrain wrote. Throws `ObjectNotFound`, or `WeightsInvalid` when tensors are missing, superfluous or of another shape. */
export async function readEncoder(store: ObjectStore, pretrainPrefix: string): Promise<PretrainedEncoder> {
  const description = await readJson<EncoderDescription>(store, `${pretrainPrefix}encoder.json`);
  const key = `${pretrainPrefix}encoder.safetensors`;
  const { tensors } = decodeSafetensors(await store.get(key), store.url(key));
  // Whatever pretraining kept fixed, fine-tuning trains.
  const network = backboneNetwork(description.backbone, description.imageSize, { frozenPatches: false });
  const weights = loadWeights(network, tensors, { source: store.url(key), remedy: 'run Pretrain again' });
  return { ...description, network, weights };
}

/** [n, 3, s, s] RGB in [0, 1] -> the network's input, normalised [n, s, s, 3]. */
export function normalizedInput(pixels: tf.Tensor, { mean, std }: Pick<EncoderDescription, 'mean' | 'std'>): tf.Tensor4D {
  return tf.div(tf.sub(tf.transpose(pixels, [0, 2, 3, 1]), tf.tensor1d([...mean])), tf.tensor1d([...std]));
}

/**
 * The part of an image that is evaluated: the shorter edge resized to 8/7 of `size` and the centre cut out (256 and 224
 * pixels in the usual protocol, spec §8.1); up to 64 pixels, where images are made for their size, the largest centred square.
 */
export async function evaluationCrop(image: Image, size: number): Promise<Image> {
  if (size <= 64) return centreCrop(image, size);
  const resized = await centreCrop(image, Math.round(size * 8 / 7));
  const margin = Math.floor((resized.width - size) / 2);
  const data = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    const start = ((y + margin) * resized.width + margin) * 3;
    data.set(resized.data.subarray(start, start + size * 3), y * size * 3);
  }
  return { width: size, height: size, data };
}

/** A frozen network with running statistics. */
export interface Backbone {
  readonly description: EncoderDescription;
  /** Width d of the features. */
  readonly featureSize: number;
  /** Features (of a ResNet globally pooled, of a Vision Transformer its class token's) of images of `imageSize` pixels, [images.length, d] row-major. */
  features(images: readonly Image[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** Images in one forward pass; the last pass of a call is filled up with black ones. */
export const featureBatch = 64;

/** Opens the encoder that Pretrain left under `pretrainPrefix`. Errors as {@link readEncoder}. */
export async function openBackbone(store: ObjectStore, pretrainPrefix: string, options: { threads: number }): Promise<Backbone> {
  return backboneOf(await readEncoder(store, pretrainPrefix), options);
}

/** The encoder as a compiled forward pass. */
export async function backboneOf(encoder: PretrainedEncoder, options: { threads: number }): Promise<Backbone> {
  const { network, weights, imageSize } = encoder;
  const shape = [featureBatch, 3, imageSize, imageSize];
  const program = await compileInference(
    ({ pixels }, given) => ({ features: network.apply(normalizedInput(pixels!, encoder), given, inference) }),
    { pixels: { shape } }, weights, { threads: options.threads, name: 'features' });
  return {
    description: encoder,
    featureSize: network.featureSize,
    async features(images) {
      const all = new Float32Array(images.length * network.featureSize);
      for (let start = 0; start < images.length; start += featureBatch) {
        const batch = images.slice(start, start + featureBatch);
        const pixels = new Float32Array(featureBatch * 3 * imageSize * imageSize);
        pixels.set(toPixels(batch).data);
        const { features } = await program.run({ pixels: float32(pixels, shape) });
        all.set((features!.data as Float32Array).subarray(0, batch.length * network.featureSize), start * network.featureSize);
      }
      return all;
    },
    dispose: () => program.dispose(),
  };
}

/** `image` mirrored left to right. */
export function mirrored(image: Image): Image {
  const { width, height } = image;
  const data = new Uint8Array(image.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + x) * 3, to = (y * width + width - 1 - x) * 3;
      data[to] = image.data[from]!; data[to + 1] = image.data[from + 1]!; data[to + 2] = image.data[from + 2]!;
    }
  }
  return { width, height, data };
}
