import type { EvaluationRecipe, PretrainingRecipe, Recipe } from '../recipe/recipe.ts';
import { featureSize } from '../recipe/backbone.ts';
import { usesViews } from '../stages/artefacts.ts';
import { mostShards } from '../stages/shards.ts';
import type { ProgramName } from '../workflow/stages.ts';
import { cropSeconds, decodedBytesPerSecond, decodedPngBytesPerSecond, pngRatio } from './constants.ts';
import { autoencoderDecoderMacs, backboneMacs, clipViTH14Macs, demoEncoderMacs, demoUnetMacs, stableDiffusionUnetMacs } from './flops.ts';

/** What is known of a dataset before it is listed for good. */
export interface DatasetSize {
  readonly train: number;
  readonly val: number;
  /** Of all images together. */
  readonly bytes: number;
}

/** Which networks a recipe uses: the embedded ones, or the paper's (CLIP ViT-H/14 and Stable unCLIP 2.1 at 768 pixels). */
export interface Models {
  readonly encoder: 'demo' | 'clip-vit-h-14';
  readonly generator: 'demo' | 'stable-unclip-2.1';
}

/** An encoder given as a file is counted as the paper's, which is larger than any that one would give. */
export function modelsOf({ foreground, generation }: Recipe): Models {
  return {
    encoder: foreground.encoder.model === 'builtin:demo-encoder' ? 'demo' : 'clip-vit-h-14',
    generator: generation.generator === 'builtin:demo-unclip' ? 'demo' : 'stable-unclip-2.1',
  };
}

/** What one stage has to do, whatever the machine. */
export interface StageWork {
  readonly stage: ProgramName;
  readonly variant?: string;
  /** Images that it works on. */
  readonly images: number;
  /** Jobs, or children of its array job. */
  readonly jobs: number;
  /** Processes that work together; above 1 on the training queue. */
  readonly nodes: number;
  /** Floating-point operations: of inference in half precision, of training in float32. */
  readonly inferenceFlop: number;
  readonly trainingFlop: number;
  /** Seconds of one core for decoding and cropping. */
  readonly cpuSeconds: number;
  /** Whether the published models have to be loaded. */
  readonly published: boolean;
}

/** Bytes that a run leaves in the store, and requests for single images. */
export interface StoreWork {
  readonly bytes: number;
  readonly gets: number;
  readonly puts: number;
}

const encoders = { 'demo': { macs: demoEncoderMacs, side: 32 }, 'clip-vit-h-14': { macs: clipViTH14Macs, side: 224 } } as const;
/** Multiply-adds of one call of the denoising network and of what comes behind the last one; side of the view in pixels. */
const generators = {
  'demo': { call: demoUnetMacs, end: 0, side: 32 },
  'stable-unclip-2.1': { call: stableDiffusionUnetMacs(96), end: autoencoderDecoderMacs(96), side: 768 },
} as const;

/** The work of every stage of a run that finds nothing in its store. */
export function workOf(recipe: Recipe, dataset: DatasetSize, models: Models = modelsOf(recipe)): StageWork[] {
  const { train, val } = dataset;
  const { foreground, generation, evaluation, variants } = recipe;
  const encoder = encoders[models.encoder], views = usesViews(recipe);
  const shards = shardsOf(recipe, dataset);
  const original = decodeSeconds(dataset);
  const stage = (name: ProgramName, images: number, more: Partial<StageWork>): StageWork => ({
    stage: name, images, jobs: 1, nodes: 1, inferenceFlop: 0, trainingFlop: 0, cpuSeconds: 0, published: models.encoder !== 'demo', ...more,
  });
  const encode = (images: number): Pick<StageWork, 'inferenceFlop' | 'cpuSeconds'> => ({ inferenceFlop: 2 * encoder.macs * images, cpuSeconds: images * (original + cropSeconds(encoder.side)) });

  const sample = Math.min(foreground.sampleImages, train), similar = views ? Math.min(evaluation.similarityImages, train) : 0;
  return [
    stage('fit-foreground', sample, encode(sample)),
    // Validation images are decoded, to see whether they can be.
    stage('analyze-foreground', train + val, { ...encode(train), cpuSeconds: train * cropSeconds(encoder.side) + (train + val) * original, jobs: shards }),
    stage('generate-views', views ? train * generation.viewsPerImage : 0, {
      jobs: shards, published: models.generator !== 'demo',
      ...views && { inferenceFlop: train * generation.viewsPerImage * viewFlop(recipe, models), cpuSeconds: train * original },
    }),
    stage('pair-similarity', similar, encode(similar * (1 + generation.viewsPerImage))),
    ...variants.flatMap(({ name, pretraining }) => {
      const macs = backboneMacs(pretraining.backbone, pretraining.augmentation.imageSize), side = pretraining.augmentation.imageSize;
      return [
        stage('pretrain', train * pretraining.epochs, { variant: name, ...pretrainWork(pretraining, dataset, models, macs) }),
        // Features of every image and of its mirror image.
        stage('linear-probe', 2 * train + val, { variant: name, published: false, inferenceFlop: 2 * macs * (2 * train + val), cpuSeconds: (train + val) * original + (2 * train + val) * cropSeconds(side) }),
        stage('nearest-neighbours', train + val, {
          variant: name, published: false,
          inferenceFlop: 2 * macs * (train + val) + 2 * val * train * featureSize(pretraining.backbone), cpuSeconds: (train + val) * (original + cropSeconds(side)),
        }),
        stage('semi-supervised', ...semiSupervised(evaluation.semiSupervised, name, dataset, macs, side)),
      ];
    }),
  ].filter(({ images }) => images > 0);
}

/** Operations of one view: the sampler's calls, twice with guidance, the decoder, and the embedding of the original. */
export function viewFlop({ generation: { steps, scheduler, guidance } }: Recipe, models: Models): number {
  const { call, end } = generators[models.generator];
  const calls = (scheduler === 'pndm' ? steps + 1 : steps) * (guidance > 1 ? 2 : 1);
  return 2 * (calls * call + end + encoders[models.encoder].macs);
}

/**
 * Of each image in each epoch: gradients cost twice a forward pass, the momentum encoder one. MoCo v2 passes one view through
 * each, MoCo v3 both views through both. The quality loss passes both views through the frozen encoder.
 */
function pretrainWork({ method, epochs, nodes, views, qualityLoss, augmentation: { imageSize } }: PretrainingRecipe, dataset: DatasetSize, models: Models, macs: number): Partial<StageWork> {
  const images = dataset.train * epochs;
  const forward = 2 * macs, passes = method === 'mocov3' ? 8 : 4;
  const view = views.probability * pngRatio * generators[models.generator].side ** 2 * 3 / decodedPngBytesPerSecond;
  return {
    nodes, published: qualityLoss.enabled && models.encoder !== 'demo',
    trainingFlop: images * passes * forward,
    inferenceFlop: qualityLoss.enabled ? images * 2 * 2 * encoders[models.encoder].macs : 0,
    cpuSeconds: images * (decodeSeconds(dataset) + view + 2 * cropSeconds(imageSize)),
  };
}

function semiSupervised({ fraction, epochs }: EvaluationRecipe['semiSupervised'], variant: string, dataset: DatasetSize, macs: number, side: number): [number, Partial<StageWork>] {
  const trained = dataset.train * fraction * epochs, scored = dataset.val * epochs, forward = 2 * macs;
  return [Math.round(trained), {
    variant, published: false, trainingFlop: 3 * forward * trained, inferenceFlop: forward * scored,
    cpuSeconds: (trained + scored) * (decodeSeconds(dataset) + cropSeconds(side)),
  }];
}

const decodeSeconds = ({ train, val, bytes }: DatasetSize): number => bytes / Math.max(1, train + val) / decodedBytesPerSecond;

/** An array job has two children at least, and Batch's limit has more images in each. */
export function shardsOf({ dataset: { shardSize } }: Recipe, { train, val }: DatasetSize): number {
  return Math.min(mostShards, Math.max(2, Math.ceil((train + val) / shardSize)));
}

/** The shards hold the originals and their views; analysis and generation read each original by itself. */
export function storeWork(recipe: Recipe, dataset: DatasetSize, models: Models = modelsOf(recipe)): StoreWork {
  const { train, val, bytes } = dataset;
  const views = usesViews(recipe) ? train * recipe.generation.viewsPerImage : 0;
  const shards = shardsOf(recipe, dataset);
  return { bytes: bytes + views * pngRatio * generators[models.generator].side ** 2 * 3, gets: 2 * (train + val), puts: 12 * shards };
}
