/**
 * A recipe with every default filled in: one experiment. `recipe/schema.ts` validates a YAML file into this form;
 * every stage reads it from `runs/<run>/recipe.json`. Nothing in it depends on the machine that runs it.
 */
export interface Recipe {
  /** Letters, digits and dashes; part of the run's name. */
  readonly name: string;
  /** Everything random derives from it. @default 0 */
  readonly seed: number;
  readonly dataset: DatasetRecipe;
  readonly foreground: ForegroundRecipe;
  readonly generation: GenerationRecipe;
  /** At least one. @default a baseline without generated views, and `genview` */
  readonly variants: readonly VariantRecipe[];
  readonly evaluation: EvaluationRecipe;
}

export interface DatasetRecipe {
  /** Folder or prefix of images (`file:`, `s3:`, or a path relative to the recipe file): `train/<class>/…` and `val/<class>/…`, or `<class>/…`. `builtin:demo` is the embedded one. */
  readonly url: string;
  /** Share of images, chosen by a hash of their path, that validates where there is no `val` folder. @default 0.1 */
  readonly validationFraction: number;
  /** Images in a shard: the unit of parallel work and of what a crash can waste. @default 512 */
  readonly shardSize: number;
  /** The run stops when a larger share of the images than this is unreadable. @default 0.05 */
  readonly quarantineLimit: number;
}

/** An ONNX network, `pixels` [n, 3, h, w] RGB in [0, 1] -> `tokens` [n, c, h', w'] and `embedding` [n, d]; or one of ours. */
export interface EncoderRecipe {
  /** `builtin:demo-encoder`, or URL or path of an .onnx file. @default 'builtin:demo-encoder' */
  readonly model: string;
  /** Side of the square input in pixels: shorter edge resized (bicubic), centre crop. @default 32 */
  readonly imageSize: number;
}

export interface ForegroundRecipe {
  readonly encoder: EncoderRecipe;
  /** Images whose tokens give the principal component. @default 10000 (paper, §2.2) */
  readonly sampleImages: number;
  /** Quantile of all projections that is the threshold. @default 0.60 (40 % of all tokens are foreground) */
  readonly quantile: number;
  /** Images in one forward pass; does not change results. @default 32 */
  readonly batch: number;
}

export type NoiseStrategy =
  | { readonly strategy: 'constant'; readonly level: number }
  /** Uniform over 0, 100, 200, 300, 400. */
  | { readonly strategy: 'random' }
  /** By the image's foreground proportion (Eq. 8). */
  | { readonly strategy: 'adaptive' };

export interface GenerationRecipe {
  /** `builtin:demo-unclip`, or URL or path of a model directory. @default 'builtin:demo-unclip' */
  readonly generator: string;
  readonly noise: NoiseStrategy;
  /** Denoising steps. PNDM makes one call more. @default 20 */
  readonly steps: number;
  /** Classifier-free guidance scale; 1 is none. @default 10 */
  readonly guidance: number;
  /** @default 'pndm' */
  readonly scheduler: 'pndm' | 'ddim';
  /** Generated views of each training image. @default 1 */
  readonly viewsPerImage: number;
  /** Images in one sampler batch. @default 16 */
  readonly batch: number;
}

export interface VariantRecipe {
  /** Letters, digits and dashes, unique in the recipe. */
  readonly name: string;
  readonly pretraining: PretrainingRecipe;
}

export type Method = 'mocov2' | 'mocov3';

export interface BackboneRecipe {
  /** `resnet-small`: one basic block a stage; the demo's. */
  readonly name: 'resnet18' | 'resnet-small';
  /** `cifar`: 3x3 stride 1, no pooling (32 and 64 px images). @default 'cifar' */
  readonly stem: 'cifar' | 'imagenet';
  /** Channels of the first stage; doubles each stage. @default 64 (resnet18), 32 (resnet-small) */
  readonly width: number;
  /** `none` exists for exact comparisons of distributed runs. @default 'batch' */
  readonly norm: 'batch' | 'none';
}

export type OptimizerRecipe =
  | { readonly name: 'sgd'; readonly learningRate: number; readonly momentum: number; readonly weightDecay: number }
  /** `form`: mmpretrain's (lr inside the buffer, bias/BN excluded) or moco-v3's. */
  | { readonly name: 'lars'; readonly learningRate: number; readonly momentum: number; readonly weightDecay: number; readonly trust: number; readonly form: 'mmpretrain' | 'moco-v3' };

export interface AugmentationRecipe {
  /** Side of the square crops in pixels. @default 32 */
  readonly imageSize: number;
  /** Lower bound of the crop's area fraction. @default 0.2 */
  readonly minScale: number;
  /** Brightness, contrast, saturation, hue. @default [0.4, 0.4, 0.4, 0.1] */
  readonly jitter: readonly [number, number, number, number];
  /** @default 0.8 */
  readonly jitterProbability: number;
  /** @default 0.2 */
  readonly grayscaleProbability: number;
  /** Of the first and the second view. @default [0.5, 0.5] (MoCo v2), [1, 0.1] (MoCo v3) */
  readonly blurProbability: readonly [number, number];
  /** @default [0, 0] (MoCo v2), [0, 0.2] (MoCo v3) */
  readonly solarizeProbability: readonly [number, number];
  /** @default 0.5 */
  readonly flipProbability: number;
  /** Channel statistics of the network's input. @default CLIP's (spec §4.3) */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

export interface PretrainingRecipe {
  readonly method: Method;
  readonly backbone: BackboneRecipe;
  /** Projector (and predictor of MoCo v3): hidden and output widths. @default MoCo v2: backbone width, 128; MoCo v3: 4096, 256 */
  readonly head: { readonly hidden: number; readonly output: number };
  /** 0 evaluates the random initialisation. */
  readonly epochs: number;
  /** Images in a step over all processes. @default 256 */
  readonly batch: number;
  readonly optimizer: OptimizerRecipe;
  /** Linear warm-up, then half-cosine to 0, per step. */
  readonly schedule: { readonly warmupEpochs: number };
  /** EMA of the momentum encoder; `cosine` rises to 1. @default mocov2: 0.999 constant; mocov3: 0.99 cosine */
  readonly ema: { readonly base: number; readonly schedule: 'constant' | 'cosine' };
  /** @default 0.2 (MoCo v2, MoCo v3 ViT); 1.0 (MoCo v3 ResNet) */
  readonly temperature: number;
  /** MoCo v2: negatives kept; a multiple of the batch. @default 65536 */
  readonly queue: number;
  readonly augmentation: AugmentationRecipe;
  readonly views: {
    /** Probability that a pair uses a generated view (p_gen); 0 is the baseline. @default 1 */
    readonly probability: number;
    /** Which of the two views it replaces: a random one (official code), or always the second (Eq. 6). @default 'random' */
    readonly order: 'random' | 'fixed';
  };
  readonly qualityLoss: { readonly enabled: boolean; /** @default 1 */ readonly gamma: number };
  /** Processes (GPUs or local processes) that train together. @default 1 */
  readonly nodes: number;
  /** @default 100 */
  readonly checkpointSteps: number;
}

export interface EvaluationRecipe {
  /** Linear classifier on frozen features. */
  readonly linear: { readonly epochs: number; readonly batch: number; readonly learningRate: number; readonly momentum: number; readonly weightDecay: number };
  /** Weighted k-nearest neighbours on frozen features. @default k 20, temperature 0.07 */
  readonly knn: { readonly k: number; readonly temperature: number };
  /** Fine-tuning of the whole network on a class-balanced fraction of the labels. */
  readonly semiSupervised: { readonly fraction: number; readonly epochs: number; readonly batch: number; readonly headLearningRate: number; readonly backboneLearningRate: number };
  /** Images whose (original, generated) embedding cosine is averaged. @default 50000 (all, when fewer) */
  readonly similarityImages: number;
}
