import type { ProbeResult, SimilarityResult } from '../stages/contract.ts';
import { openRun } from '../stages/artefacts.ts';
import { readJson } from '../storage/index.ts';
import { formatTable } from './options.ts';

/** What a finished run measured. */
export interface RunResults {
  readonly run: string;
  readonly variants: readonly { readonly name: string; readonly linear: ProbeResult | null; readonly knn: ProbeResult | null; readonly semiSupervised: ProbeResult | null }[];
  readonly similarity: SimilarityResult | null;
}

/** Reads the results of a run; null where a stage has left none yet. */
export async function readResults(runUrl: string): Promise<RunResults> {
  const { store, plan } = await openRun(runUrl);
  const read = async <T>(key: string): Promise<T | null> => await store.head(key) ? readJson<T>(store, key) : null;
  return {
    run: runUrl,
    variants: await Promise.all(plan.variants.map(async ({ name, evaluate }) => ({
      name,
      linear: await read<ProbeResult>(`${evaluate}linear.json`),
      knn: await read<ProbeResult>(`${evaluate}knn.json`),
      semiSupervised: await read<ProbeResult>(`${evaluate}semi.json`),
    }))),
    similarity: await read<SimilarityResult>(`${plan.similarity}similarity.json`),
  };
}

/** Percent on the validation split, one line a variant, and the similarity of the pairs. */
export function formatResults({ variants, similarity }: RunResults): string {
  const cell = (value: number | undefined): string => value === undefined ? '-' : value.toFixed(1);
  const table = formatTable([
    ['variant', 'linear top-1', 'top-5', 'kNN top-1', 'top-5', 'semi top-1', 'top-5'],
    ...variants.map(({ name, linear, knn, semiSupervised }) =>
      [name, ...[linear, knn, semiSupervised].flatMap((probe) => [cell(probe?.top1), cell(probe?.top5)])]),
  ], 'right');
  const pairs = similarity && similarity.pairs > 0
    ? `cosine similarity of (original, view): ${similarity.mean.toFixed(3)} +- ${similarity.standardDeviation.toFixed(3)} over ${similarity.pairs} pairs`
    : 'no generated pairs';
  return `${table}\n${pairs}`;
}
