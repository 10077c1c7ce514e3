import type { DatasetSummary, ForegroundModel, ProbeResult, SimilarityResult } from '../stages/contract.ts';
import type { Recipe } from '../recipe/recipe.ts';

/** `runs/<run>/report.json`: everything that the page shows, without its pictures. */
export interface ReportData {
  readonly runId: string;
  readonly recipe: Recipe;
  readonly dataset: DatasetSummary;
  /** Every listed image is in exactly one of the three. */
  readonly images: { readonly train: number; readonly val: number; readonly quarantined: number };
  readonly quarantined: readonly { readonly path: string; readonly reason: string }[];
  readonly foreground: Omit<ForegroundModel, 'vector' | 'mean'>;
  /** 20 bins over [0, 1]. */
  readonly proportionHistogram: readonly number[];
  readonly levelHistogram: Readonly<Record<string, number>>;
  /** Absent where no view was generated. */
  readonly similarity?: SimilarityResult;
  readonly variants: readonly VariantReport[];
  /** Wall time of each stage in this execution; absent where the run's history cannot be read. */
  readonly stages?: readonly StageTime[];
}

export interface VariantReport {
  readonly name: string;
  readonly method: string;
  readonly viewProbability: number;
  readonly qualityLoss: boolean;
  readonly epochs: number;
  readonly linear: ProbeResult;
  readonly nearestNeighbours: ProbeResult;
  readonly semiSupervised: ProbeResult;
  /** At most 200 points, evenly spaced over the steps; each the mean of its stretch. */
  readonly curve: readonly { readonly epoch: number; readonly loss: number; readonly accuracy: number }[];
  /** Linear top-1 minus the baseline's, in percentage points; absent for the baseline. */
  readonly gain?: number;
}

export interface StageTime { readonly name: string; readonly seconds: number }

/** One pair of the gallery. */
export interface GalleryPair {
  readonly path: string;
  readonly className: string;
  readonly foregroundProportion: number;
  readonly noiseLevel: number;
  /** q of Eq. 12, on the pair as stored, not augmented. */
  readonly quality: number;
  /** PNG files. */
  readonly original: Uint8Array;
  readonly map: Uint8Array;
  readonly view: Uint8Array;
}

/** The variant that the others are compared with: `baseline`, else the first without generated views, else the first. */
export function baselineOf<T extends { readonly name: string; readonly viewProbability: number; readonly epochs: number }>(variants: readonly T[]): T {
  return variants.find((v) => v.name === 'baseline') ?? variants.find((v) => v.viewProbability === 0 && v.epochs > 0) ?? variants[0]!;
}

/** Means of at most `points` stretches of equal length. */
export function thinOut<T>(values: readonly T[], points: number, mean: (stretch: readonly T[]) => T): T[] {
  if (values.length <= points) return [...values];
  return Array.from({ length: points }, (_, i) => mean(values.slice(Math.floor(i * values.length / points), Math.floor((i + 1) * values.length / points))));
}

interface HistoryLine { readonly type: string; readonly timestamp: string | number; readonly stateEnteredEventDetails?: { readonly name: string }; readonly stateExitedEventDetails?: { readonly name: string } }

/** Seconds between first entering and last leaving each Task state, in order of entering. */
export function stageTimes(history: readonly HistoryLine[]): StageTime[] {
  const spans = new Map<string, { start: number; end: number }>();
  for (const { type, timestamp, stateEnteredEventDetails: entered, stateExitedEventDetails: exited } of history) {
    const time = new Date(timestamp).getTime();
    if (type === 'TaskStateEntered' && entered && !spans.has(entered.name)) spans.set(entered.name, { start: time, end: NaN });
    const span = type === 'TaskStateExited' && exited ? spans.get(exited.name) : undefined;
    if (span) span.end = time;
  }
  return [...spans].filter(([, { end }]) => !Number.isNaN(end)).map(([name, { start, end }]) => ({ name, seconds: (end - start) / 1000 }));
}
