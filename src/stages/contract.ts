import type { Log } from '../log.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { TrainingMachines } from './trainingMachines.ts';

/**
 * What the stages leave in the store, and how they find it. Every stage is a function
 * `(input, context) => Promise<output>` in this folder; a Lambda handler, a container program, a CLI command and the
 * local runner call the same function. Every stage takes the URL of the run: `<store>/runs/<runId>/`.
 */
export interface StageContext {
  /** Aborts on SIGTERM, on a lost parent, or when the workflow stops. */
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Threads an engine may use. */
  readonly threads: number;
  /** Milliseconds until the machine ends the call, where it does. */
  readonly remaining?: () => number;
}

export interface RunInput {
  /** `<store>/runs/<runId>/` */
  readonly run: string;
}
export interface ShardInput extends RunInput {
  /** 0-based; AWS_BATCH_JOB_ARRAY_INDEX. */
  readonly shard: number;
}
export interface VariantInput extends RunInput {
  /** Name of a variant of the recipe. */
  readonly variant: string;
}

/** `runs/<runId>/recipe.json` */
export interface ResolvedRun {
  readonly runId: string;
  /** Root URL of the store, ends with a slash. */
  readonly store: string;
  readonly recipe: Recipe;
  /** SHA-256 of the bytes of each model the recipe names: what later stages depend on. */
  readonly models: { readonly encoder: string; readonly generator: string };
}

/** `runs/<runId>/plan.json`, written by ShardDataset's last call. All prefixes are keys in the store that end with a slash. */
export interface RunPlan {
  /** `datasets/<hash>/`: `dataset.json`, `shard-00000.jsonl` … (10,000 at most), `sample.jsonl` */
  readonly dataset: string;
  /** `foreground/<hash>/`: `foreground.json` */
  readonly foreground: string;
  /** `analysis/<hash>/`: `shard-00000.jsonl` */
  readonly analysis: string;
  /** `views/<hash>/`: `plan.json`, `manifest-00000.jsonl`, `shard-00000.tar` */
  readonly views: string;
  /** `similarity/<hash>/`: `similarity.json` */
  readonly similarity: string;
  readonly variants: readonly {
    readonly name: string;
    /** `pretrain/<hash>/`: `encoder.safetensors`, `encoder.json`, `metrics.jsonl`, `checkpoint.safetensors` */
    readonly pretrain: string;
    /** `evaluate/<hash>/`: `linear.json`, `knn.json`, `semi.json` */
    readonly evaluate: string;
  }[];
  readonly shards: number;
}

export type Split = 'train' | 'val';

/** One line of `datasets/<hash>/shard-*.jsonl`. */
export interface ListedImage {
  /** Position in the sorted listing of the whole dataset; names the sample in tar shards (9 digits). */
  readonly index: number;
  /** Relative to the dataset's root; the sample's identity. */
  readonly path: string;
  readonly bytes: number;
  readonly etag: string;
  readonly split: Split;
  /** Index into `dataset.json`'s classes. */
  readonly label: number;
}

/** `datasets/<hash>/dataset.json` */
export interface DatasetSummary {
  readonly classes: readonly string[];
  readonly images: { readonly train: number; readonly val: number };
  readonly shards: number;
  /** Files that are no images by their name (not .jpg .jpeg .png .webp .gif .avif .tif .tiff .bmp), left alone. */
  readonly ignored: number;
}

/** `foreground/<hash>/foreground.json` */
export interface ForegroundModel {
  /** First principal vector, unit norm, signed so that larger is foreground. */
  readonly vector: readonly number[];
  readonly mean: readonly number[];
  /** The first eigenvalue's share of the total variance. */
  readonly explained: number;
  readonly threshold: number;
  readonly quantile: number;
  /** How the sign was decided: mean projection of the centre and of the border tokens, before the flip. */
  readonly sign: { readonly centre: number; readonly border: number; readonly flipped: boolean };
  /** Token grid [rows, columns]. */
  readonly grid: readonly [number, number];
  readonly images: number;
  /** Sampled images that could not be read. */
  readonly skipped: number;
  /** Tokens are divided by their length before they are projected. */
  readonly normalizeTokens: boolean;
}

/** One line of `analysis/<hash>/shard-*.jsonl`: every listed image of the shard once, in order. */
export type AnalyzedImage =
  | (ListedImage & {
      readonly status: 'used';
      readonly width: number;
      readonly height: number;
      /** Absent for validation images, which are only checked. */
      readonly foregroundProportion?: number;
      /** Min-max normalised first-component map, row-major, 0-255; kept for at most 16 training images, spread evenly over the shard's. */
      readonly map?: readonly number[];
    })
  | (ListedImage & { readonly status: 'quarantined'; readonly reason: string });

/** One line of `views/<hash>/manifest-*.jsonl`: what GenerateViews writes, in order. */
export interface PlannedImage extends ListedImage {
  readonly foregroundProportion?: number;
  /** Absent for validation images. */
  readonly noiseLevel?: number;
}

/** `views/<hash>/plan.json` */
export interface ViewsPlan {
  readonly images: { readonly train: number; readonly val: number; readonly quarantined: number };
  /** The first 1,000 of them; all stand in `analysis/<hash>/`. */
  readonly quarantined: readonly { readonly path: string; readonly reason: string }[];
  /** 20 bins over [0, 1]. */
  readonly proportionHistogram: readonly number[];
  /** Images at each level. */
  readonly levelHistogram: Readonly<Record<string, number>>;
  readonly shards: number;
}

/**
 * A sample of `views/<hash>/shard-*.tar` (WebDataset): `<index 9 digits>.orig.<ext>` (the file's bytes as found),
 * `<index>.view0.png` … (training images only), `<index>.json` (SampleMetadata).
 */
export interface SampleMetadata {
  readonly index: number;
  readonly path: string;
  readonly split: Split;
  readonly label: number;
  readonly foregroundProportion?: number;
  readonly noiseLevel?: number;
  /** Seed keys of the views, for reproduction. */
  readonly seed: number;
}

/** One line of `pretrain/<hash>/metrics.jsonl`. */
export interface StepMetrics {
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly ema: number;
  /** Share of queries whose positive key is the nearest. */
  readonly accuracy: number;
  /** Mean quality of the step's pairs; only with the quality loss. */
  readonly quality?: number;
}

/** `linear.json`, `knn.json`, `semi.json`: percent on the validation split. */
export interface ProbeResult {
  readonly top1: number;
  readonly top5: number;
  readonly validationImages: number;
  readonly trainImages: number;
  /** Validation top-1 after each epoch, where there are epochs. */
  readonly curve?: readonly { readonly epoch: number; readonly loss: number; readonly top1: number }[];
}

/** `similarity.json` */
export interface SimilarityResult {
  /** Mean over pairs of cos(embedding(original), embedding(view)). */
  readonly mean: number;
  readonly standardDeviation: number;
  readonly pairs: number;
  readonly byLevel: Readonly<Record<string, { readonly mean: number; readonly pairs: number }>>;
}
/** What the workflow passes between states (URLs and small numbers, never lists of images). */
export interface ResolveRecipeInput { /** URL of the recipe file. */ readonly recipe: string; /** Root URL of the store. */ readonly store: string; /** Machines of multi-node jobs. @default as many as are asked for */ readonly training?: TrainingMachines | undefined }
export interface ResolveRecipeOutput extends RunInput { readonly runId: string; readonly variants: readonly { readonly name: string; readonly nodes: number }[] }
export interface ShardDatasetInput extends RunInput { readonly continuation?: string | null }
export interface ShardDatasetOutput { /** null when the listing is complete and `plan.json` is written. */ readonly continuation: string | null; readonly shards: number }
export interface PlanViewsOutput { readonly train: number; readonly val: number; readonly quarantined: number }
export interface ReportOutput { /** URL of report.html */ readonly report: string }
export interface RecordFailureInput { readonly run?: string; readonly error: string; readonly cause: string }
