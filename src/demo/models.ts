import { readFile } from 'node:fs/promises';
import * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../errors.ts';
import type { Image } from '../dataset/image.ts';
import { centreCrop, toPixels } from '../dataset/image.ts';
import type { UnclipModel } from '../generation/model.ts';
import { inference, type Weights } from '../nn/module.ts';
import { resnet, type ResNet, type ResNetConfig } from '../nn/resnet.ts';
import { decodeSafetensors } from '../nn/safetensors.ts';
import { unet, type UNetConfig } from '../nn/unet.ts';
import { compileInference } from '../runtime/compile.ts';
import type { Executor } from '../runtime/executor.ts';
import type { Program } from '../runtime/program.ts';
import { float32, type HostTensor, type NamedTensors } from '../tensor.ts';
import { demoModelFiles } from './modelFiles.ts';

/**
 * The embedded networks, small members of the families that the paper uses: an image encoder in the place of CLIP and
 * an image-conditioned diffusion U-Net in the place of Stable unCLIP, both for 32 x 32 RGB. `train.ts` made their weights.
 */
export const demoImageSize = 32;

const demoEncoderConfig: ResNetConfig = {
  stem: { width: 32, kernel: 3, stride: 1, pool: false },
  stages: [{ width: 48, blocks: 1, stride: 2 }, { width: 128, blocks: 2, stride: 2 }],
  norm: 'batch',
};

/** Channel statistics of the encoder's and the U-Net's input: [0, 1] -> [-1, 1]. */
export const demoMean = 0.5, demoStd = 0.5;

export const demoUNetConfig: UNetConfig = { channels: 3, patch: 2, widths: [48, 80, 128], blocks: [1, 1, 1], groups: 16, embedding: 160, classLabels: 2 * 128 };

async function readWeights(file: string): Promise<NamedTensors> {
  let bytes: Uint8Array;
  try { bytes = await readFile(file); } catch (cause) {
    throw new GenViewError('ModelMissing', `the embedded model ${file} cannot be read; reinstall the package, or train it again with npm run train:demo-models`, { cause });
  }
  return decodeSafetensors(bytes, file).tensors;
}

/** The demo encoder as a function of [n, 32, 32, 3] images in [-1, 1]. */
export function demoEncoder(): ResNet {
  return resnet(demoEncoderConfig);
}

/** Compiles the encoder for `batch` images: `pixels` [batch, 3, 32, 32] in [0, 1] -> `tokens` [batch, 128, 8, 8], `embedding` [batch, 128]. */
export async function compileDemoEncoder(weights: NamedTensors, batch: number, threads?: number, executor?: Executor): Promise<Program> {
  const network = demoEncoder();
  const encode = (inputs: Record<string, tf.Tensor>, w: Weights): Record<string, tf.Tensor> => {
    const images = tf.transpose(tf.div(tf.sub(inputs['pixels']!, demoMean), demoStd), [0, 2, 3, 1]) as tf.Tensor4D;
    const map = network.featureMap(images, w, inference);
    return { tokens: tf.transpose(map, [0, 3, 1, 2]), embedding: tf.mean(map, [1, 2]) };
  };
  return compileInference(encode, { pixels: { shape: [batch, 3, demoImageSize, demoImageSize] } }, weights, { name: 'demo-encoder', ...(threads !== undefined && { threads }), ...(executor && { executor }) });
}

/** The embedded encoder as an .onnx file with a fixed batch. @default batch 32 */
export async function demoEncoderOnnx(batch = 32): Promise<Uint8Array> {
  const program = await compileDemoEncoder(await readWeights(demoModelFiles.encoder), batch, 1, 'onnxruntime');
  try { return program.toOnnx(); } finally { await program.dispose(); }
}

/** Compiles one U-Net call for `batch` samples: `sample` [batch, 3, 32, 32], `timestep` [batch], `classLabels` [batch, 256] -> `velocity` like `sample`. */
export async function compileDemoUNet(weights: NamedTensors, batch: number, threads?: number): Promise<Program> {
  const network = unet(demoUNetConfig);
  const predict = (inputs: Record<string, tf.Tensor>, w: Weights): Record<string, tf.Tensor> => {
    const velocity = network.apply({
      sample: tf.transpose(inputs['sample']!, [0, 2, 3, 1]) as tf.Tensor4D,
      timestep: inputs['timestep'] as tf.Tensor1D,
      classLabels: inputs['classLabels'] as tf.Tensor2D,
    }, w, inference);
    return { velocity: tf.transpose(velocity, [0, 3, 1, 2]) };
  };
  return compileInference(predict, {
    sample: { shape: [batch, 3, demoImageSize, demoImageSize] },
    timestep: { shape: [batch] },
    classLabels: { shape: [batch, demoUNetConfig.classLabels] },
  }, weights, { name: 'demo-unclip', ...(threads === undefined ? {} : { threads }) });
}

/** The first `n` of `values` rows of `width`, the rest filled with zeros up to `rows`. */
function padRows(values: Float32Array, width: number, rows: number): Float32Array {
  if (values.length === rows * width) return values;
  const padded = new Float32Array(rows * width);
  padded.set(values);
  return padded;
}

/** The embedded unCLIP model; `batch` samples a call, fewer are padded (so that results do not depend on how images are grouped). */
export async function openDemoUnclip({ threads, batch }: { threads: number; batch: number }): Promise<UnclipModel> {
  const [encoderWeights, stored] = await Promise.all([readWeights(demoModelFiles.encoder), readWeights(demoModelFiles.unclip)]);
  const { 'normalizer.mean': mean, 'normalizer.std': std, ...unetWeights } = stored;
  if (!mean || !std) throw new GenViewError('ModelMissing', `${demoModelFiles.unclip} has no normalizer.mean and normalizer.std; train it again with npm run train:demo-models`);
  const encoder = await compileDemoEncoder(encoderWeights, batch, threads);
  const network = await compileDemoUNet(unetWeights, batch, threads);
  const labels = demoUNetConfig.classLabels, pixels = 3 * demoImageSize * demoImageSize;
  return {
    sampleShape: [3, demoImageSize, demoImageSize],
    embeddingSize: labels / 2,
    normalizer: { mean: mean.data as Float32Array, std: std.data as Float32Array },
    betas: 'squaredcos_cap_v2',
    imageSize: demoImageSize,
    batch,
    async embed(images) {
      const n = images.length;
      const cropped = await Promise.all(images.map((image) => centreCrop(image, demoImageSize)));
      const { embedding } = await encoder.run({ pixels: float32(padRows(toPixels(cropped).data, pixels, batch), [batch, 3, demoImageSize, demoImageSize]) });
      return float32((embedding as HostTensor<'float32'>).data.slice(0, n * labels / 2), [n, labels / 2]);
    },
    async predict(sample, timestep, classLabels, n) {
      const { velocity } = await network.run({
        sample: float32(padRows(sample, pixels, batch), [batch, 3, demoImageSize, demoImageSize]),
        timestep: float32(new Float32Array(batch).fill(timestep), [batch]),
        classLabels: float32(padRows(classLabels, labels, batch), [batch, labels]),
      });
      return (velocity!.data as Float32Array).slice(0, n * pixels);
    },
    async decode(sample, n) {
      return Array.from({ length: n }, (_, i) => fromPlanes(sample.subarray(i * pixels, (i + 1) * pixels)));
    },
    async dispose() { await Promise.all([encoder.dispose(), network.dispose()]); },
  };
}

/** [3, 32, 32] in [-1, 1] -> RGB bytes: clamp(x/2 + 0.5, 0, 1), rounded (spec §3.5). */
function fromPlanes(planes: Float32Array): Image {
  const positions = demoImageSize * demoImageSize;
  const data = new Uint8Array(3 * positions);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < positions; i++) data[3 * i + c] = Math.round(255 * Math.min(1, Math.max(0, planes[c * positions + i]! / 2 + 0.5)));
  }
  return { width: demoImageSize, height: demoImageSize, data };
}
