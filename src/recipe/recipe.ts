/**
 * A recipe with every default filled in: one experiment. `parseRecipe` of `recipe/parse.ts` reads a YAML file into this
 * form (fields: `schema.ts`, defaults: `defaults.ts`); every stage reads it from `runs/<run>/recipe.json`. In a file,
 * settings that all variants share stand under a top-level `pretraining`; those of a variant are laid over them.
 */
export interface Recipe {
  /** Letters, digits and dashes, at most 48; part of the run's name. */
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
  /**
   * Which images of `url` there are, instead of a listing of it: URL or path of the `manifest.json` of an S3 Inventory, or of a `.jsonl` or
   * `.jsonl.gz` list, which may also give splits and labels. @default none: `url` is listed
   */
  readonly list?: string;
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
  /** Divide every token by its length first; better for convolutional encoders, not part of the paper (CLIP). @default false */
  readonly normalizeTokens: boolean;
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
  /** Others are refused in this version. @default 'builtin:demo-unclip' */
  readonly generator: string;
  /** In a file: `adaptive`, `random` or `{ constant: 200 }`. @default adaptive */
  readonly noise: NoiseStrategy;
  /** Denoising steps, 1 to 999. PNDM needs 2 and makes one call more. @default 20 */
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
  /** Of the variant's pretraining and probes: several variants that differ only in it show the spread. Views do not depend on it. @default the recipe's seed */
  readonly seed: number;
  readonly pretraining: PretrainingRecipe;
}

export type Method = 'mocov2' | 'mocov3';

export type BackboneRecipe = ResNetRecipe | ViTRecipe;

/** Vision Transformer as moco-v3's: 12 blocks and 12 heads, fixed sin-cos positions, patch projection frozen in pretraining. */
export interface ViTRecipe {
  /** Width 384 or 768. */
  readonly name: 'vit-small' | 'vit-base';
  /** Side of a patch in pixels; divides the image size. @default 16, and 4 for images up to 64 pixels */
  readonly patch: number;
}

export interface ResNetRecipe {
  /** `resnet18`: basic blocks; `resnet50`: bottleneck blocks; `resnet-small`: three stages of one basic block, the demo's. @default 'resnet18' */
  readonly name: 'resnet18' | 'resnet50' | 'resnet-small';
  /** `cifar`: 3x3, no pooling (32 and 64 px images), stride 1; of `resnet-small` stride 2. `imagenet`: 7x7 stride 2, 3x3 max pooling. @default 'cifar' */
  readonly stem: 'cifar' | 'imagenet';
  /** Channels of the first stage's 3x3 convolutions; doubles each stage. @default 64 (resnet18, resnet50), 32 (resnet-small) */
  readonly width: number;
  /** `none` exists for exact comparisons of distributed runs. @default 'batch' */
  readonly norm: 'batch' | 'none';
}

export type OptimizerRecipe =
  | { readonly name: 'sgd'; readonly learningRate: number; readonly momentum: number; readonly weightDecay: number }
  /** Betas 0.9 and 0.999, epsilon 1e-8; every parameter decays, as in moco-v3. */
  | { readonly name: 'adamw'; readonly learningRate: number; readonly weightDecay: number }
  /** `form`: mmpretrain's (lr inside the buffer, bias/BN excluded) or moco-v3's. */
  | { readonly name: 'lars'; readonly learningRate: number; readonly momentum: number; readonly weightDecay: number; readonly trust: number; readonly form: 'mmpretrain' | 'moco-v3' };

export interface AugmentationRecipe {
  /** Side of the square crops in pixels. @default 32 */
  readonly imageSize: number;
  /** Lower bound of the crop's area fraction. @default 0.2; 0.08 (MoCo v3 with a Vision Transformer) */
  readonly minScale: number;
  /** Brightness, contrast, saturation, hue. @default [0.4, 0.4, 0.4, 0.1] (mocov2), [0.4, 0.4, 0.2, 0.1] (mocov3) */
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
  /** @default 'mocov2' */
  readonly method: Method;
  readonly backbone: BackboneRecipe;
  /** Projector (and predictor of MoCo v3): hidden and output widths. @default MoCo v2: width of the backbone's features, 128; MoCo v3: 4096, 256 */
  readonly head: { readonly hidden: number; readonly output: number };
  /** 0 evaluates the random initialisation. @default 200 (MoCo v2), 100 (MoCo v3), 300 (MoCo v3 with a Vision Transformer) */
  readonly epochs: number;
  /** Images in a step over all processes. @default 256 */
  readonly batch: number;
  /** @default MoCo v2: sgd, 0.03 x batch / 256, momentum 0.9, weight decay 1e-4; MoCo v3: lars, 0.6 (0.3 from 300 epochs) x batch / 256, 0.9, 1e-6, trust 0.001, form mmpretrain; MoCo v3 with a Vision Transformer: adamw, 1.5e-4 x batch / 256, weight decay 0.1 */
  readonly optimizer: OptimizerRecipe;
  /** Linear warm-up, then half-cosine to 0, per step. @default MoCo v2: 0; MoCo v3: 10, or a tenth of the epochs when that is less; with a Vision Transformer 40 of 300, in proportion when fewer */
  readonly schedule: { readonly warmupEpochs: number };
  /** EMA of the momentum encoder; `cosine` rises to 1. @default mocov2: 0.999 constant; mocov3: 0.99 cosine */
  readonly ema: { readonly base: number; readonly schedule: 'constant' | 'cosine' };
  /** @default 0.2 (MoCo v2, and MoCo v3 with a Vision Transformer), 1.0 (MoCo v3) */
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
  readonly qualityLoss: { /** @default false */ readonly enabled: boolean; /** @default 1 */ readonly gamma: number };
  /** Processes (GPUs or local processes) that train together. @default 1 */
  readonly nodes: number;
  /** @default 100 */
  readonly checkpointSteps: number;
}

export interface EvaluationRecipe {
  /** Linear classifier on frozen features. @default 100 epochs, batch 256, learning rate 0.2, momentum 0.9, no weight decay (spec §8.1, small data) */
  readonly linear: { readonly epochs: number; readonly batch: number; readonly learningRate: number; readonly momentum: number; readonly weightDecay: number };
  /** Weighted k-nearest neighbours on frozen features. @default k 20, temperature 0.07 */
  readonly knn: { readonly k: number; readonly temperature: number };
  /** Fine-tuning of the whole network on a class-balanced fraction of the labels. @default 0.1, 20 epochs, batch 256, rates 0.2 and 0.02 (1 and 1e-5 below a fraction of 0.05; spec §8.2) */
  readonly semiSupervised: { readonly fraction: number; readonly epochs: number; readonly batch: number; readonly headLearningRate: number; readonly backboneLearningRate: number };
  /** Images whose (original, generated) embedding cosine is averaged. @default 50000 (all, when fewer) */
  readonly similarityImages: number;
}
