import { dirname } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import type { Image } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import { noiseEmbedding, timeEmbedding } from '../generation/embedding.ts';
import { cumulativeAlphas } from '../generation/schedules.ts';
import type { Log } from '../log.ts';
import { linear, sequential, lambda, parametersOf } from '../nn/layers.ts';
import { initialize, prefixed, scoped, type Module } from '../nn/module.ts';
import { decodeSafetensors, encodeSafetensors } from '../nn/safetensors.ts';
import { unet } from '../nn/unet.ts';
import { augment } from '../pretraining/augmentation/augment.ts';
import { mocov3Loss } from '../pretraining/losses/mocov3.ts';
import { adamw } from '../pretraining/optimizers/adamw.ts';
import { learningRateAt } from '../pretraining/schedules.ts';
import { Random } from '../random.ts';
import type { AugmentationRecipe } from '../recipe/recipe.ts';
import { compile, createState } from '../runtime/compile.ts';
import type { Program, State } from '../runtime/program.ts';
import { FolderStore } from '../storage/folderStore.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { float32, int32, scalar, type HostTensor, type NamedTensors } from '../tensor.ts';
import { loadDemoArtwork } from './dataset/artwork.ts';
import { renderDemoImage } from './dataset/render.ts';
import { compileDemoEncoder, demoEncoder, demoImageSize, demoMean, demoStd, demoUNetConfig } from './models.ts';
import { demoModelFiles } from './modelFiles.ts';

export interface DemoTrainingOptions {
  /** Folder of the checkpoints; the same folder continues. */
  readonly work: string;
  /** Folder that receives `encoder.safetensors` and `unclip.safetensors`. @default models/demo of the package */
  readonly out?: string;
  /** @default 900 */
  readonly encoderSteps?: number;
  /** @default 20000 */
  readonly unclipSteps?: number;
  /** Images rendered for training, all without labels. @default 24000 */
  readonly images?: number;
  /** @default 0 */
  readonly seed?: number;
  readonly threads?: number;
  /** Starts the U-Net from the weights in `out`, with a new schedule, and leaves the encoder there as it is. @default false */
  readonly improve?: boolean;
}

const unclipBatch = 32, checkpointSteps = 100;

/** Noise levels that the U-Net learns to be conditioned on are drawn below this; the method uses 0 to 400. */
const highestNoiseLevel = 600;

/** Share of samples trained without condition, for classifier-free guidance. */
const unconditional = 0.1;

/**
 * Trains the two embedded networks from rendered images, without class labels: first the encoder by contrast of two
 * renderings of one picture, which differ in place, size, pose and surroundings (symmetric InfoNCE, temperature 0.2), then the
 * U-Net, which learns to denoise an image given the encoder's noised embedding of it, as unCLIP's decoder does (Ramesh et
 * al. 2022; spec §3). Writes a checkpoint every 100 steps and continues from it.
 */
export async function trainDemoModels(options: DemoTrainingOptions, log: Log, signal?: AbortSignal): Promise<void> {
  const { encoderSteps = 900, unclipSteps = 20_000, images: count = 24_000, seed = 0 } = options;
  const work = new FolderStore(options.work), out = new FolderStore(options.out ?? dirname(demoModelFiles.encoder));
  const { images, pictures } = await renderImages(count, seed, log);
  const settings = { log, signal, work, seed, ...(options.threads === undefined ? {} : { threads: options.threads }) };

  if (!options.improve) {
    const encoder = await trainEncoder(images, pictures, encoderSteps, settings);
    await out.put('encoder.safetensors', encodeSafetensors(encoder, { format: 'pt', description: 'GenView demo encoder: ResNet, 32 px, names as torchvision' }, { half: true }));
  }
  // The U-Net must learn from exactly the embeddings that the stored half-precision encoder gives.
  const stored = decodeSafetensors(await out.get('encoder.safetensors'), out.url('encoder.safetensors')).tensors;

  const embeddings = await embedAll(images, stored, log, options.threads);
  const start = options.improve ? decodeSafetensors(await out.get('unclip.safetensors'), out.url('unclip.safetensors')).tensors : {};
  const unclip = await trainUnclip(images, embeddings, start, unclipSteps, settings);
  await out.put('unclip.safetensors', encodeSafetensors(unclip, { format: 'pt', description: 'GenView demo unCLIP: U-Net, 32 px, v-prediction, squaredcos_cap_v2, names as diffusers' }, { half: true }));
  log.info(`wrote encoder.safetensors and unclip.safetensors to ${out.root}`);
}

interface Settings { log: Log; signal: AbortSignal | undefined; work: ObjectStore; seed: number; threads?: number }

/** Image i shows picture i mod `pictures`: every picture equally often. */
async function renderImages(count: number, seed: number, log: Log): Promise<{ images: Image[]; pictures: number }> {
  const artwork = await loadDemoArtwork();
  const pictures = artwork.classes.flatMap((list, label) => list.map((_, picture) => ({ label, picture })));
  if (count < 2 * pictures.length) throw new GenViewError('OptionInvalid', `${count} images are too few: at least two of each of ${pictures.length} pictures, ${2 * pictures.length}, are needed`);
  const progress = log.progress('render', count, 'images');
  const images: Image[] = [];
  for (let i = 0; i < count; i++) {
    const { label, picture } = pictures[i % pictures.length]!;
    images.push(renderDemoImage(artwork, [seed, 'train-demo-models', i], label, picture).image);
    progress.advance();
  }
  progress.done();
  return { images, pictures: pictures.length };
}

/** The tensors of these names, those that there are. */
function pick(tensors: NamedTensors, names: readonly string[]): NamedTensors {
  return Object.fromEntries(names.flatMap((name) => tensors[name] ? [[name, tensors[name]]] : []));
}

/** One network in training: the compiled step and where its state is kept. */
async function trainSteps(name: string, program: Program, steps: number, batch: (step: number) => NamedTensors, { log, signal, work }: Settings): Promise<void> {
  const file = `${name}.safetensors`;
  let start = 0;
  if (await work.head(file)) {
    const { tensors, metadata } = decodeSafetensors(await work.get(file), work.url(file));
    program.state.restore(tensors);
    start = Number(metadata['step']);
    log.info(`${name}: continuing after step ${start} of ${steps}`);
  }
  const progress = log.progress(name, steps, 'steps', start);
  let mean = 0;
  for (let step = start; step < steps; step++) {
    const loss = (await program.run(batch(step)))['loss']!.data[0]!;
    if (!Number.isFinite(loss)) throw new GenViewError('LossNotFinite', `the loss of ${name} became ${loss} at step ${step}; train with another seed, from an empty folder of checkpoints`);
    mean = step === start ? loss : 0.98 * mean + 0.02 * loss;
    progress.advance(1, `loss ${mean.toFixed(4)}`);
    if ((step + 1) % checkpointSteps === 0 || step + 1 === steps || signal?.aborted) {
      await work.put(file, encodeSafetensors(program.state.snapshot(), { step: String(step + 1) }));
    }
    signal?.throwIfAborted();
  }
  progress.done();
}

/** Adds AdamW moments (and an EMA copy) of every trained parameter to a state's first tensors. */
function withMoments(tensors: NamedTensors, names: readonly string[], ema: boolean): NamedTensors {
  const zero = (name: string): HostTensor => float32(new Float32Array(tensors[name]!.data.length), tensors[name]!.shape);
  const all: NamedTensors = { ...tensors };
  for (const name of names) {
    all[`mean.${name}`] = zero(name);
    all[`square.${name}`] = zero(name);
    if (ema) all[`ema.${name}`] = float32(Float32Array.from(tensors[name]!.data), tensors[name]!.shape);
  }
  return all;
}

/** One AdamW step on all parameters, and their moving average where the state has one. */
function update(state: Record<string, tf.Variable>, gradients: Record<string, tf.Tensor>, inputs: Record<string, tf.Tensor>, weightDecay: number): void {
  for (const [name, gradient] of Object.entries(gradients)) {
    const parameter = state[name]!, mean = state[`mean.${name}`]!, square = state[`square.${name}`]!;
    const next = adamw(parameter, gradient, mean, square, inputs['step']!, inputs['learningRate']!, { weightDecay: parameter.rank > 1 ? weightDecay : 0 });
    parameter.assign(next.parameter);
    mean.assign(next.mean);
    square.assign(next.square);
    const ema = state[`ema.${name}`];
    if (ema) ema.assign(tf.add(tf.mul(ema, inputs['ema']!), tf.mul(next.parameter, tf.sub(1, inputs['ema']!))));
  }
}

function gradientsOf(loss: () => tf.Scalar, state: Record<string, tf.Variable>, names: readonly string[]): { value: tf.Scalar; grads: Record<string, tf.Tensor> } {
  const { value, grads } = tf.variableGrads(loss, names.map((name) => state[name]!));
  // tf names gradients by the variables' own names; ours are the keys of the state.
  return { value, grads: Object.fromEntries(names.map((name) => [name, grads[state[name]!.name]!])) };
}

const optional = (threads: number | undefined): { threads?: number } => threads === undefined ? {} : { threads };

/**
 * A batch holds two renderings of every picture, drawn at random. What tells them from all others is the picture: its shape and
 * colours, in whatever pose and surroundings.
 */
async function trainEncoder(images: readonly Image[], pictures: number, steps: number, settings: Settings): Promise<NamedTensors> {
  const network = demoEncoder();
  const projector: Module<tf.Tensor2D, tf.Tensor2D> = sequential<tf.Tensor2D>(linear('projector.0', network.featureSize, 256), lambda<tf.Tensor2D>((x) => tf.relu(x)), linear('projector.1', 256, 128));
  const modules = { parameters: parametersOf(network, projector) };
  const trained = modules.parameters.filter((p) => p.kind === 'parameter').map((p) => p.name);
  const state: State = createState(withMoments(initialize(modules, settings.seed), trained, false));
  const n = pictures, shape = [n, 3, demoImageSize, demoImageSize];

  const program = await compile((inputs, variables) => {
    const updates: Record<string, tf.Tensor> = {};
    const { value, grads } = gradientsOf(() => {
      const views = tf.concat([inputs['first']!, inputs['second']!], 0);
      const x = tf.transpose(tf.div(tf.sub(views, demoMean), demoStd), [0, 2, 3, 1]) as tf.Tensor4D;
      const features = network.apply(x, variables, { training: true, updateBuffer: (name, tensor) => { updates[name] = tf.keep(tensor); } });
      const [z1, z2] = tf.split(projector.apply(features, variables, { training: true }), 2) as [tf.Tensor2D, tf.Tensor2D];
      return mocov3Loss({ predictions: [z1, z2], keys: [z1, z2], labels: inputs['labels']!, weights: tf.ones([n]), temperature: 0.2 }).loss;
    }, variables, trained);
    update(variables, grads, inputs, 0.05);
    for (const [name, tensor] of Object.entries(updates)) { variables[name]!.assign(tensor); tensor.dispose(); }
    return { loss: value };
  }, { first: { shape }, second: { shape }, labels: { shape: [n], dtype: 'int32' }, step: { shape: [] }, learningRate: { shape: [] } },
  { state, name: 'demo-encoder-training', ...optional(settings.threads) });

  // Colours stay nearly as they are: the generator is to repeat them.
  const recipe: AugmentationRecipe = {
    imageSize: demoImageSize, minScale: 0.4, jitter: [0.3, 0.3, 0.3, 0.04], jitterProbability: 0.8, grayscaleProbability: 0.05,
    blurProbability: [0.2, 0.2], solarizeProbability: [0, 0], flipProbability: 0.5, mean: [0, 0, 0], std: [1, 1, 1],
  };
  const labels = int32(Int32Array.from({ length: n }, (_, i) => i), [n]), length = 3 * demoImageSize * demoImageSize;
  await trainSteps('encoder', program, steps, (step) => {
    const random = new Random(settings.seed, 'encoder', step);
    const views = [new Float32Array(n * length), new Float32Array(n * length)] as const;
    for (let i = 0; i < n; i++) {
      for (const view of [0, 1] as const) {
        const image = images[i + n * random.integer(Math.ceil((images.length - i) / n))]!;
        augment(image, random, view, recipe, views[view].subarray(i * length, (i + 1) * length));
      }
    }
    return {
      first: float32(views[0], shape), second: float32(views[1], shape), labels, step: scalar(step + 1),
      learningRate: scalar(learningRateAt(step, 2e-3, { epochs: steps, warmupEpochs: 100 })),
    };
  }, settings);
  const result = program.state.snapshot();
  await program.dispose();
  return Object.fromEntries(network.parameters.map((p) => [p.name, result[p.name]!]));
}

/** Planar RGB in [-1, 1]; optionally mirrored. */
function planes(image: Image, mirrored: boolean, out: Float32Array): void {
  const { width, height, data } = image;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const p = 3 * (y * width + (mirrored ? width - 1 - x : x));
      for (let c = 0; c < 3; c++) out[c * width * height + i] = data[p + c]! / 127.5 - 1;
    }
  }
}

/** Embeddings of every image (first half of the rows) and of its mirror image (second half), [2 * images, d]. */
async function embedAll(images: readonly Image[], weights: NamedTensors, log: Log, threads?: number): Promise<{ values: Float32Array; width: number }> {
  const batch = 100, width = demoEncoder().featureSize, length = 3 * demoImageSize * demoImageSize;
  const program = await compileDemoEncoder(weights, batch, threads);
  const values = new Float32Array(2 * images.length * width), total = 2 * images.length;
  const progress = log.progress('embed', total, 'images');
  for (let start = 0; start < total; start += batch) {
    const pixels = new Float32Array(batch * length), n = Math.min(batch, total - start);
    for (let i = 0; i < n; i++) {
      const row = start + i;
      planes(images[row % images.length]!, row >= images.length, pixels.subarray(i * length, (i + 1) * length));
    }
    for (let i = 0; i < pixels.length; i++) pixels[i] = pixels[i]! / 2 + 0.5;
    const { embedding } = await program.run({ pixels: float32(pixels, [batch, 3, demoImageSize, demoImageSize]) });
    values.set((embedding!.data as Float32Array).subarray(0, n * width), start * width);
    progress.advance(n);
  }
  progress.done();
  await program.dispose();
  return { values, width };
}

async function trainUnclip(images: readonly Image[], embeddings: { values: Float32Array; width: number }, start: NamedTensors, steps: number, settings: Settings): Promise<NamedTensors> {
  const network = unet(demoUNetConfig);
  const names = network.parameters.map((p) => p.name);
  const { width } = embeddings, rows = 2 * images.length;
  const mean = new Float32Array(width), std = new Float32Array(width);
  for (let j = 0; j < width; j++) {
    let sum = 0, squares = 0;
    for (let i = 0; i < rows; i++) { const v = embeddings.values[i * width + j]!; sum += v; squares += v * v; }
    mean[j] = sum / rows;
    std[j] = Math.sqrt(Math.max(squares / rows - (sum / rows) ** 2, 1e-8));
  }
  const normalizer = { mean, std };
  const state: State = createState(withMoments({ ...initialize(network, settings.seed), ...pick(start, names) }, names, true));
  const n = unclipBatch, shape = [n, 3, demoImageSize, demoImageSize], length = 3 * demoImageSize * demoImageSize;

  const program = await compile((inputs, variables) => {
    const { value, grads } = gradientsOf(() => {
      const images = inputs['images']!, noise = inputs['noise']!;
      const signal = tf.reshape(inputs['signal']!, [n, 1, 1, 1]), sigma = tf.reshape(inputs['sigma']!, [n, 1, 1, 1]);
      const sample = tf.add(tf.mul(signal, images), tf.mul(sigma, noise));
      const velocity = tf.sub(tf.mul(signal, noise), tf.mul(sigma, images));
      const nhwc = (t: tf.Tensor): tf.Tensor4D => tf.transpose(t as tf.Tensor4D, [0, 2, 3, 1]);
      const predicted = network.apply({ sample: nhwc(sample), timestep: inputs['timestep'] as tf.Tensor1D, classLabels: inputs['classLabels'] as tf.Tensor2D }, variables, { training: true });
      return tf.mean(tf.squaredDifference(predicted, nhwc(velocity))) as tf.Scalar;
    }, variables, names);
    update(variables, grads, inputs, 0.01);
    return { loss: value };
  }, {
    images: { shape }, noise: { shape }, signal: { shape: [n] }, sigma: { shape: [n] }, timestep: { shape: [n] }, classLabels: { shape: [n, 2 * width] },
    step: { shape: [] }, learningRate: { shape: [] }, ema: { shape: [] },
  }, { state, name: 'demo-unclip-training', ...optional(settings.threads) });

  const alphas = cumulativeAlphas('squaredcos_cap_v2');
  await trainSteps(Object.keys(start).length > 0 ? 'unclip-improved' : 'unclip', program, steps, (step) => {
    const random = new Random(settings.seed, 'unclip', step);
    const pixels = new Float32Array(n * length), labels = new Float32Array(n * 2 * width);
    const timestep = new Float32Array(n), signal = new Float32Array(n), sigma = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const index = random.integer(images.length), mirrored = random.chance(0.5);
      planes(images[index]!, mirrored, pixels.subarray(i * length, (i + 1) * length));
      // Stratified over the batch: every step sees all times.
      const t = Math.min(999, Math.floor((i + random.uniform()) / n * 1000));
      timestep[i] = t; signal[i] = Math.sqrt(alphas[t]!); sigma[i] = Math.sqrt(1 - alphas[t]!);
      const row = (mirrored ? images.length : 0) + index, level = random.integer(highestNoiseLevel);
      const noise = random.normals(width);
      if (random.chance(unconditional)) continue;
      labels.set(noiseEmbedding(embeddings.values.subarray(row * width, (row + 1) * width), noise, level, normalizer), i * 2 * width);
      labels.set(timeEmbedding(level, width), (2 * i + 1) * width);
    }
    return {
      images: float32(pixels, shape), noise: float32(random.normals(n * length), shape), signal: float32(signal, [n]), sigma: float32(sigma, [n]), timestep: float32(timestep, [n]),
      classLabels: float32(labels, [n, 2 * width]), step: scalar(step + 1),
      learningRate: scalar(learningRateAt(step, 6e-4, { epochs: steps, warmupEpochs: 100 })), ema: scalar(Math.min(0.999, (1 + step) / (10 + step))),
    };
  }, settings);
  const result = program.state.snapshot();
  await program.dispose();
  return { ...scoped(result, 'ema.'), ...prefixed({ mean: float32(mean, [width]), std: float32(std, [width]) }, 'normalizer.') };
}
