import { z } from 'zod';

/**
 * What may be written in a recipe file: every field, its type and its range. Fields that have a default may be left out;
 * the defaults, some of which depend on the method, are filled in by `defaults.ts`. Unknown fields are errors.
 */

const count = z.int().min(1);
const positive = z.number().positive();
const notNegative = z.number().min(0);
const fraction = z.number().min(0).max(1);
const label = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,47}$/, 'must be 1 to 48 letters, digits and dashes, and begin with a letter or a digit');
const location = z.string().min(1, 'must not be empty');

const dataset = z.strictObject({
  url: location,
  list: location.optional(),
  validationFraction: z.number().gt(0).lt(1).optional(),
  shardSize: count.optional(),
  quarantineLimit: fraction.optional(),
});

const foreground = z.strictObject({
  encoder: z.strictObject({ model: location.optional(), imageSize: z.int().min(8).max(1024).optional() }).optional(),
  sampleImages: count.optional(),
  quantile: z.number().gt(0).lt(1).optional(),
  normalizeTokens: z.boolean().optional(),
  batch: count.optional(),
});

/** `adaptive`, `random`, `{ constant: 200 }`, or in full `{ strategy: constant, level: 200 }`. */
const noise = z.union([
  z.enum(['adaptive', 'random']),
  z.strictObject({ constant: z.int().min(0).max(999) }),
  z.strictObject({ strategy: z.enum(['constant', 'random', 'adaptive']), level: z.int().min(0).max(999).optional() }),
]);

const generation = z.strictObject({
  generator: location.optional(),
  noise: noise.optional(),
  steps: z.int().min(1).max(999).optional(),
  guidance: z.number().min(1).optional(),
  scheduler: z.enum(['pndm', 'ddim']).optional(),
  viewsPerImage: z.int().min(1).max(100).optional(),
  batch: count.optional(),
});

const triple = <T extends z.ZodType>(item: T) => z.tuple([item, item, item]);
const pair = <T extends z.ZodType>(item: T) => z.tuple([item, item]);

const pretraining = z.strictObject({
  method: z.enum(['mocov2', 'mocov3']).optional(),
  backbone: z.strictObject({
    name: z.enum(['resnet18', 'resnet50', 'resnet-small', 'vit-small', 'vit-base']).optional(),
    stem: z.enum(['cifar', 'imagenet']).optional(),
    width: count.optional(),
    norm: z.enum(['batch', 'none']).optional(),
    patch: z.int().min(2).max(64).optional(),
  }).optional(),
  head: z.strictObject({ hidden: count.optional(), output: count.optional() }).optional(),
  epochs: z.int().min(0).optional(),
  batch: z.int().min(2).optional(),
  optimizer: z.strictObject({
    name: z.enum(['sgd', 'lars', 'adamw']).optional(),
    learningRate: positive.optional(),
    momentum: z.number().min(0).lt(1).optional(),
    weightDecay: notNegative.optional(),
    trust: positive.optional(),
    form: z.enum(['mmpretrain', 'moco-v3']).optional(),
  }).optional(),
  schedule: z.strictObject({ warmupEpochs: notNegative.optional() }).optional(),
  ema: z.strictObject({ base: fraction.optional(), schedule: z.enum(['constant', 'cosine']).optional() }).optional(),
  temperature: positive.optional(),
  queue: count.optional(),
  augmentation: z.strictObject({
    imageSize: z.int().min(8).max(1024).optional(),
    minScale: z.number().gt(0).max(1).optional(),
    jitter: z.tuple([notNegative, notNegative, notNegative, z.number().min(0).max(0.5)]).optional(),
    jitterProbability: fraction.optional(),
    grayscaleProbability: fraction.optional(),
    blurProbability: pair(fraction).optional(),
    solarizeProbability: pair(fraction).optional(),
    flipProbability: fraction.optional(),
    mean: triple(z.number()).optional(),
    std: triple(positive).optional(),
  }).optional(),
  views: z.strictObject({ probability: fraction.optional(), order: z.enum(['random', 'fixed']).optional() }).optional(),
  qualityLoss: z.strictObject({ enabled: z.boolean().optional(), gamma: z.number().min(0).optional() }).optional(),
  nodes: z.int().min(1).max(1000).optional(),
  checkpointSteps: count.optional(),
});

const evaluation = z.strictObject({
  linear: z.strictObject({
    epochs: count.optional(), batch: count.optional(), learningRate: positive.optional(),
    momentum: z.number().min(0).lt(1).optional(), weightDecay: notNegative.optional(),
  }).optional(),
  knn: z.strictObject({ k: count.optional(), temperature: positive.optional() }).optional(),
  semiSupervised: z.strictObject({
    fraction: z.number().gt(0).max(1).optional(), epochs: count.optional(), batch: z.int().min(2).optional(),
    headLearningRate: positive.optional(), backboneLearningRate: notNegative.optional(),
  }).optional(),
  similarityImages: count.optional(),
});

const seed = z.int().min(0).max(4294967295);

export const recipeSchema = z.strictObject({
  name: label,
  seed: seed.optional(),
  dataset,
  foreground: foreground.optional(),
  generation: generation.optional(),
  /** What every variant starts from. */
  pretraining: pretraining.optional(),
  /** `pretraining` of a variant is laid over the recipe's, field by field. */
  variants: z.array(z.strictObject({ name: label, seed: seed.optional(), pretraining: pretraining.optional() })).min(1).optional(),
  evaluation: evaluation.optional(),
});

export type RecipeFile = z.infer<typeof recipeSchema>;
export type PretrainingFile = z.infer<typeof pretraining>;
export type NoiseFile = z.infer<typeof noise>;

/** The schema below optional wrappers. */
function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodOptional ? unwrap(schema.unwrap()) : schema;
}

/** Fields that may stand in the object at `path`; empty when there is no such object. */
export function knownFields(path: readonly PropertyKey[]): string[] {
  let at: unknown = recipeSchema;
  for (const step of path) {
    const here = unwrap(at);
    if (here instanceof z.ZodObject) at = here.shape[String(step)];
    else if (here instanceof z.ZodArray) at = here.element;
    else return [];
  }
  const here = unwrap(at);
  if (here instanceof z.ZodObject) return Object.keys(here.shape);
  // The long form of `noise` is the only union of objects.
  if (here instanceof z.ZodUnion) return here.options.flatMap((option) => option instanceof z.ZodObject ? Object.keys(option.shape) : []);
  return [];
}

/** Dotted paths of every field, without those of the variants. */
export function allFields(): string[] {
  const walk = (path: string[]): string[] => knownFields(path).flatMap((key) => {
    const child = [...path, key];
    return child[0] === 'variants' && child.length > 1 ? [] : [child.join('.'), ...walk(child)];
  });
  return walk([]);
}
