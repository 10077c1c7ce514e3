import type { Recipe } from '../recipe/recipe.ts';
import type { DatasetSummary, ForegroundModel, ProbeResult, ResolvedRun, SimilarityResult, ViewsPlan } from '../stages/contract.ts';
import { multiNodeStates } from '../workflow/definition.ts';

/**
 * `runs/<run>/report.json`: everything that the page shows, without its pictures. Fields of stages that have not ended
 * are absent.
 */
export interface ReportData extends Partial<Pick<ViewsPlan, 'images' | 'quarantined' | 'proportionHistogram' | 'levelHistogram'>> {
  readonly runId: string;
  readonly recipe: Recipe;
  readonly models: ResolvedRun['models'];
  readonly dataset: DatasetSummary;
  /** Stages without a result yet; empty once the run has ended. */
  readonly missing: readonly MissingStage[];
  readonly foreground?: Omit<ForegroundModel, 'vector' | 'mean'>;
  /** Absent also where no variant uses generated views. */
  readonly similarity?: SimilarityResult;
  readonly variants: readonly VariantReport[];
  /** Absent where the run has no history, as when its stages were called one by one. */
  readonly stages?: readonly StageTime[];
}

export interface MissingStage { readonly stage: string; /** Empty for a stage that is not of one variant. */ readonly variants: readonly string[] }

/** "plan-views, pretrain (baseline, genview)" */
export function listMissing(missing: readonly MissingStage[]): string {
  return missing.map(({ stage, variants }) => variants.length > 0 ? `${stage} (${variants.join(', ')})` : stage).join(', ');
}

export interface VariantReport {
  readonly name: string;
  readonly seed: number;
  readonly method: string;
  readonly viewProbability: number;
  readonly qualityLoss: boolean;
  readonly epochs: number;
  readonly linear?: ProbeResult;
  readonly nearestNeighbours?: ProbeResult;
  readonly semiSupervised?: ProbeResult;
  /** At most 200 points, evenly spaced over the steps; each the mean of its stretch. `accuracy` is a share. */
  readonly curve: readonly CurvePoint[];
  /** Name of the variant that this one is compared with; absent for a baseline. */
  readonly baseline?: string;
  /** Linear top-1 minus the baseline's, in percentage points; absent for a baseline. */
  readonly gain?: number;
}

export interface CurvePoint { /** Passes over the data, with fractions. */ readonly epoch: number; readonly loss: number; readonly accuracy: number }

/** Wall time of a stage in the last execution of the workflow, in seconds. */
export interface StageTime {
  /** `<stage>` or `<stage> (<variant>)`. */
  readonly name: string;
  /** Since the execution began. */
  readonly start: number;
  readonly seconds: number;
}

/** One pair of the gallery. Pictures are PNG files of the square that the encoder sees. */
export interface GalleryPair {
  readonly path: string;
  readonly className: string;
  readonly foregroundProportion: number;
  readonly noiseLevel: number;
  /** q of Eq. 12, on the pair as stored, not augmented. */
  readonly quality: number;
  readonly original: Picture;
  /** One pixel a token. */
  readonly map: Picture;
  readonly view: Picture;
}

export interface Picture { readonly png: Uint8Array; /** In pixels. */ readonly side: number }

type Compared = Pick<VariantReport, 'name' | 'seed' | 'method' | 'viewProbability' | 'epochs'>;

/**
 * The variant that `variant` is compared with: one named `baseline` or trained without generated views, of the same
 * method and the same seed as far as there are such; without any, the first variant. A baseline is its own.
 */
export function baselineOf<T extends Compared>(variants: readonly T[], variant: T): T {
  const isBaseline = (v: Compared): boolean => v.name === 'baseline' || (v.viewProbability === 0 && v.epochs > 0);
  let candidates = variants.filter(isBaseline);
  for (const preferred of [(v: T) => v.method === variant.method, (v: T) => v.seed === variant.seed, (v: T) => v.name === 'baseline']) {
    const narrowed = candidates.filter(preferred);
    if (narrowed.length > 0) candidates = narrowed;
  }
  return candidates[0] ?? variants[0]!;
}

/** Adds baseline and gain where there is one to compare with. */
export function withGains(variants: readonly VariantReport[]): VariantReport[] {
  return variants.map((variant) => {
    const baseline = baselineOf(variants, variant);
    if (baseline === variant) return variant;
    return { ...variant, baseline: baseline.name, ...(variant.linear && baseline.linear && { gain: variant.linear.top1 - baseline.linear.top1 }) };
  });
}

export interface Spread { readonly mean: number; /** Of a sample (n - 1). */ readonly standardDeviation: number; readonly count: number }

export function spreadOf(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, standardDeviation: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(values.length - 1, 1)), count: values.length };
}

/** Variants that differ in nothing but their seed, where there are any such: groups in the order of the recipe. */
export function seedGroups(recipe: Recipe, variants: readonly VariantReport[]): VariantReport[][] {
  const groups = new Map<string, VariantReport[]>();
  for (const [i, variant] of variants.entries()) {
    const settings = JSON.stringify(recipe.variants[i]!.pretraining);
    groups.set(settings, [...groups.get(settings) ?? [], variant]);
  }
  const all = [...groups.values()];
  return all.some((group) => group.length > 1) ? all : [];
}

/** Half of the 95 % interval of a share in percent, from the size of its sample alone (normal approximation). */
export function samplingError(percent: number, count: number): number {
  return 1.96 * Math.sqrt(percent * (100 - percent) / count);
}

/** Means of at most `points` stretches of equal length. */
export function thinOut<T>(values: readonly T[], points: number, mean: (stretch: readonly T[]) => T): T[] {
  if (values.length <= points) return [...values];
  return Array.from({ length: points }, (_, i) => mean(values.slice(Math.floor(i * values.length / points), Math.floor((i + 1) * values.length / points))));
}

/** What the times need of a line of `history.jsonl` (GetExecutionHistory's events). */
export interface HistoryLine {
  readonly id: number;
  readonly previousEventId: number;
  readonly type: string;
  readonly timestamp: string | number;
  readonly stateEnteredEventDetails?: { readonly name: string; readonly input?: string };
  readonly stateExitedEventDetails?: { readonly name: string };
}

/**
 * Time of each task state that ended, of a multi-node job as a whole, in order of its beginning: from its first entering to its last leaving, since a state
 * may be entered again (a listing in parts). Iterations over variants run at the same time under the same state name; they are told apart by the
 * variant's name in their input.
 */
export function stageTimes(history: readonly HistoryLine[]): StageTime[] {
  if (history.length === 0) return [];
  const events = new Map(history.map((event) => [event.id, event]));
  const begin = Math.min(...history.map(({ timestamp }) => new Date(timestamp).getTime()));
  const spans = new Map<string, { start: number; end: number; id: number }>();
  for (const event of history) {
    const exited = event.stateExitedEventDetails;
    const type = exited?.name === multiNodeStates.whole ? 'Parallel' : 'Task';
    if (exited === undefined || event.type !== `${type}StateExited` || multiNodeStates.parts.includes(exited.name)) continue;
    // Events of other branches lie between: the chain of previous events leads to where this state was entered.
    let entered: HistoryLine | undefined = event;
    while (entered && !(entered.type === `${type}StateEntered` && entered.stateEnteredEventDetails?.name === exited.name)) entered = events.get(entered.previousEventId);
    if (!entered) continue;
    const name = stageName(exited.name, entered.stateEnteredEventDetails?.input);
    const start = new Date(entered.timestamp).getTime(), end = new Date(event.timestamp).getTime();
    const known = spans.get(name);
    spans.set(name, known ? { start: Math.min(known.start, start), end: Math.max(known.end, end), id: Math.min(known.id, entered.id) } : { start, end, id: entered.id });
  }
  return [...spans].toSorted(([, a], [, b]) => a.id - b.id).map(([name, { start, end }]) => ({ name, start: (start - begin) / 1000, seconds: (end - start) / 1000 }));
}

function stageName(state: string, input: string | undefined): string {
  let variant: unknown;
  try { variant = (JSON.parse(input ?? '{}') as { name?: unknown } | null)?.name; } catch { /* An input cut short, as AWS does with long ones. */ }
  return typeof variant === 'string' ? `${state} (${variant})` : state;
}
