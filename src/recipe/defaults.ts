import { featureSize, isViT } from './backbone.ts';
import type { AugmentationRecipe, BackboneRecipe, EvaluationRecipe, NoiseStrategy, OptimizerRecipe, PretrainingRecipe, Recipe, VariantRecipe } from './recipe.ts';
import type { NoiseFile, PretrainingFile, RecipeFile } from './schema.ts';

/** Statistics of CLIP's training images, which the official code uses everywhere (spec §4.3). */
const clip = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] } as const;

/** A recipe without variants compares ordinary pairs with GenView's. */
const defaultVariants: NonNullable<RecipeFile['variants']> = [
  { name: 'baseline', pretraining: { views: { probability: 0 }, qualityLoss: { enabled: false } } },
  { name: 'genview', pretraining: { views: { probability: 1 }, qualityLoss: { enabled: true } } },
];

/** Fills in every default. Pure; ranges are the schema's business, combinations those of `rules.ts`. */
export function completeRecipe(file: RecipeFile): Recipe {
  const { dataset, foreground = {}, generation = {} } = file;
  return {
    name: file.name,
    seed: file.seed ?? 0,
    dataset: {
      url: dataset.url,
      ...(dataset.list !== undefined && { list: dataset.list }),
      validationFraction: dataset.validationFraction ?? 0.1,
      shardSize: dataset.shardSize ?? 512,
      quarantineLimit: dataset.quarantineLimit ?? 0.05,
    },
    foreground: {
      encoder: { model: foreground.encoder?.model ?? 'builtin:demo-encoder', imageSize: foreground.encoder?.imageSize ?? 32 },
      sampleImages: foreground.sampleImages ?? 10_000,
      quantile: foreground.quantile ?? 0.6,
      normalizeTokens: foreground.normalizeTokens ?? false,
      batch: foreground.batch ?? 32,
    },
    generation: {
      generator: generation.generator ?? 'builtin:demo-unclip',
      noise: completeNoise(generation.noise ?? 'adaptive'),
      steps: generation.steps ?? 20,
      guidance: generation.guidance ?? 10,
      scheduler: generation.scheduler ?? 'pndm',
      viewsPerImage: generation.viewsPerImage ?? 1,
      batch: generation.batch ?? 16,
    },
    variants: completeVariants(file),
    evaluation: completeEvaluation(file.evaluation ?? {}),
  };
}

function completeNoise(noise: NoiseFile): NoiseStrategy {
  if (typeof noise === 'string') return { strategy: noise };
  if ('constant' in noise) return { strategy: 'constant', level: noise.constant };
  return noise.strategy === 'constant' ? { strategy: 'constant', level: noise.level ?? 0 } : { strategy: noise.strategy };
}

function completeVariants(file: RecipeFile): VariantRecipe[] {
  return (file.variants ?? defaultVariants).map(({ name, seed = file.seed ?? 0, pretraining = {} }) => ({
    name, seed, pretraining: completePretraining(overlay(file.pretraining ?? {}, pretraining)),
  }));
}

/**
 * A variant's settings over the recipe's: objects field by field, everything else replaced as a whole. An optimizer of
 * another name (given, or the default of another method or backbone) and a backbone of another family replace the recipe's altogether, since its figures would not fit.
 */
export function overlay(base: PretrainingFile, over: PretrainingFile): PretrainingFile {
  const merge = (a: unknown, b: unknown): unknown => {
    if (b === undefined) return a;
    if (!isPlain(a) || !isPlain(b)) return b;
    return Object.fromEntries([...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => [key, merge(a[key], b[key])]));
  };
  const merged = merge(base, over) as PretrainingFile;
  const family = ({ name = 'resnet18' }: NonNullable<PretrainingFile['backbone']>): boolean => isViT({ name });
  const backbone = over.backbone?.name !== undefined && family(over.backbone) !== family(base.backbone ?? {}) ? over.backbone : merged.backbone;
  const { optimizer: mixed, ...whole } = { ...merged, ...(backbone && { backbone }) };
  const optimizer = optimizerName({ ...whole, ...(mixed && { optimizer: mixed }) }) === optimizerName(base) ? mixed : over.optimizer;
  return { ...whole, ...(optimizer && { optimizer }) };
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

const namesViT = (file: PretrainingFile): boolean => isViT({ name: file.backbone?.name ?? 'resnet18' });

const optimizerName = (file: PretrainingFile): OptimizerRecipe['name'] => file.optimizer?.name ?? (file.method !== 'mocov3' ? 'sgd' : namesViT(file) ? 'adamw' : 'lars');

/** Defaults of one variant: the published settings of its method (spec §6, §7), scaled to its batch. */
function completePretraining(file: PretrainingFile): PretrainingRecipe {
  const method = file.method ?? 'mocov2';
  const v3 = method === 'mocov3';
  // moco-v3 has settings of its own for Vision Transformers.
  const transformer = v3 && namesViT(file);
  const augmentation = completeAugmentation(file.augmentation ?? {}, v3, transformer ? 0.08 : 0.2);
  const backbone = completeBackbone(file.backbone ?? {}, augmentation.imageSize);
  const epochs = file.epochs ?? (transformer ? 300 : v3 ? 100 : 200);
  const batch = file.batch ?? 256;
  return {
    method,
    backbone,
    head: { hidden: file.head?.hidden ?? (v3 ? 4096 : featureSize(backbone)), output: file.head?.output ?? (v3 ? 256 : 128) },
    epochs,
    batch,
    optimizer: completeOptimizer(file, epochs, batch),
    schedule: { warmupEpochs: file.schedule?.warmupEpochs ?? (transformer ? Math.min(40, epochs * 2 / 15) : v3 ? Math.min(10, epochs / 10) : 0) },
    ema: { base: file.ema?.base ?? (v3 ? 0.99 : 0.999), schedule: file.ema?.schedule ?? (v3 ? 'cosine' : 'constant') },
    temperature: file.temperature ?? (v3 && !transformer ? 1 : 0.2),
    queue: file.queue ?? 65_536,
    augmentation,
    views: { probability: file.views?.probability ?? 1, order: file.views?.order ?? 'random' },
    qualityLoss: { enabled: file.qualityLoss?.enabled ?? false, gamma: file.qualityLoss?.gamma ?? 1 },
    nodes: file.nodes ?? 1,
    checkpointSteps: file.checkpointSteps ?? 100,
  };
}

function completeBackbone(file: NonNullable<PretrainingFile['backbone']>, imageSize: number): BackboneRecipe {
  const { name = 'resnet18' } = file;
  if (name === 'vit-small' || name === 'vit-base') return { name, patch: file.patch ?? (imageSize <= 64 ? 4 : 16) };
  return { name, stem: file.stem ?? 'cifar', width: file.width ?? (name === 'resnet-small' ? 32 : 64), norm: file.norm ?? 'batch' };
}

function completeOptimizer(file: PretrainingFile, epochs: number, batch: number): OptimizerRecipe {
  const given = file.optimizer ?? {};
  const momentum = given.momentum ?? 0.9;
  const perBatch = (rate: number): number => Number((rate * batch / 256).toPrecision(6));
  const name = optimizerName(file);
  if (name === 'adamw') return { name, learningRate: given.learningRate ?? perBatch(1.5e-4), weightDecay: given.weightDecay ?? 0.1 };
  if (name === 'sgd') {
    return { name, learningRate: given.learningRate ?? perBatch(0.03), momentum, weightDecay: given.weightDecay ?? 1e-4 };
  }
  return {
    name, learningRate: given.learningRate ?? perBatch(epochs >= 300 ? 0.3 : 0.6), momentum,
    weightDecay: given.weightDecay ?? 1e-6, trust: given.trust ?? 0.001, form: given.form ?? 'mmpretrain',
  };
}

function completeAugmentation(file: NonNullable<PretrainingFile['augmentation']>, v3: boolean, minScale: number): AugmentationRecipe {
  return {
    imageSize: file.imageSize ?? 32,
    minScale: file.minScale ?? minScale,
    jitter: file.jitter ?? [0.4, 0.4, v3 ? 0.2 : 0.4, 0.1],
    jitterProbability: file.jitterProbability ?? 0.8,
    grayscaleProbability: file.grayscaleProbability ?? 0.2,
    blurProbability: file.blurProbability ?? (v3 ? [1, 0.1] : [0.5, 0.5]),
    solarizeProbability: file.solarizeProbability ?? (v3 ? [0, 0.2] : [0, 0]),
    flipProbability: file.flipProbability ?? 0.5,
    mean: file.mean ?? [...clip.mean],
    std: file.std ?? [...clip.std],
  };
}

function completeEvaluation(file: NonNullable<RecipeFile['evaluation']>): EvaluationRecipe {
  const { linear = {}, knn = {}, semiSupervised: semi = {} } = file;
  const fraction = semi.fraction ?? 0.1;
  // The published rates of 1 % and of 10 % of the labels (spec §8.2).
  const few = fraction < 0.05;
  return {
    linear: {
      epochs: linear.epochs ?? 100, batch: linear.batch ?? 256, learningRate: linear.learningRate ?? 0.2,
      momentum: linear.momentum ?? 0.9, weightDecay: linear.weightDecay ?? 0,
    },
    knn: { k: knn.k ?? 20, temperature: knn.temperature ?? 0.07 },
    semiSupervised: {
      fraction, epochs: semi.epochs ?? 20, batch: semi.batch ?? 256,
      headLearningRate: semi.headLearningRate ?? (few ? 1 : 0.2), backboneLearningRate: semi.backboneLearningRate ?? (few ? 1e-5 : 0.02),
    },
    similarityImages: file.similarityImages ?? 50_000,
  };
}
