import { listMissing, stageTimes, thinOut, withGains, type CurvePoint, type HistoryLine, type ReportData, type VariantReport } from '../report/data.ts';
import { collectGallery } from '../report/gallery.ts';
import { renderPage } from '../report/page.ts';
import type { VariantRecipe } from '../recipe/recipe.ts';
import { readJson, readLines, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { openRun, usesViews } from './artefacts.ts';
import type { DatasetSummary, ForegroundModel, ProbeResult, ReportOutput, RunInput, RunPlan, SimilarityResult, StageContext, StepMetrics, ViewsPlan } from './contract.ts';

/** Points of a curve in the report. */
const curvePoints = 200;

/**
 * Report: `runs/<run>/report.json` and `report.html` from what the other stages left in the store. It can be made again at any
 * time, also of a run that has not ended: the report then says what is missing. The same store gives the same bytes.
 * Throws `RunNotFound`, `RunNotPlanned`.
 */
export async function report(input: RunInput, context: StageContext): Promise<ReportOutput> {
  const { store, run, plan, runPrefix } = await openRun(input.run);
  const { recipe } = run;
  const lacking = new Map<string, string[]>();
  const read: Read = async <T>(key: string, stage: string, variant?: string): Promise<T | undefined> => {
    if (await store.head(key)) return readJson<T>(store, key);
    lacking.set(stage, [...lacking.get(stage) ?? [], ...variant === undefined ? [] : [variant]]);
    return undefined;
  };

  const dataset = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
  const model = await read<ForegroundModel>(`${plan.foreground}foreground.json`, 'fit-foreground');
  const planned = await read<ViewsPlan>(`${plan.views}plan.json`, 'plan-views');
  const similarity = usesViews(recipe) ? await read<SimilarityResult>(`${plan.similarity}similarity.json`, 'pair-similarity') : undefined;
  const variants: VariantReport[] = [];
  const trainImages = planned?.images.train ?? dataset.images.train;
  for (const variant of recipe.variants) variants.push(await variantReport(store, plan, variant, trainImages, read));
  const stages = await historyOf(store, runPrefix);
  const gallery = usesViews(recipe) && model && planned ? await collectGallery(store, run, plan, dataset, model, context.threads) : [];

  const missing = [...lacking].map(([stage, names]) => ({ stage, variants: names }));
  const data: ReportData = {
    runId: run.runId, recipe, models: run.models, dataset, missing,
    ...(planned && { images: planned.images, quarantined: planned.quarantined, proportionHistogram: planned.proportionHistogram, levelHistogram: planned.levelHistogram }),
    ...(model && { foreground: withoutVectors(model) }),
    ...(similarity && { similarity }),
    variants: withGains(variants),
    ...(stages && { stages }),
  };
  context.signal.throwIfAborted();
  await writeJson(store, `${runPrefix}report.json`, data);
  await store.put(`${runPrefix}report.html`, renderPage(data, gallery), { contentType: 'text/html; charset=utf-8' });
  if (missing.length > 0) context.log.warn(`the report is of a run that has not ended: no result yet of ${listMissing(missing)}`);
  return { report: store.url(`${runPrefix}report.html`) };
}

/** An object of a stage, or undefined, noting the stage as missing. */
type Read = <T>(key: string, stage: string, variant?: string) => Promise<T | undefined>;

async function variantReport(store: ObjectStore, plan: RunPlan, { name, seed, pretraining }: VariantRecipe, trainImages: number, read: Read): Promise<VariantReport> {
  const { pretrain, evaluate } = plan.variants.find((variant) => variant.name === name)!;
  const points: CurvePoint[] = [];
  if (pretraining.epochs > 0) {
    await read(`${pretrain}encoder.json`, 'pretrain', name);
    // The last, incomplete batch of an epoch is dropped.
    const stepsPerEpoch = Math.max(1, Math.floor(trainImages / pretraining.batch));
    if (await store.head(`${pretrain}metrics.jsonl`)) {
      for await (const { step, loss, accuracy } of readLines<StepMetrics>(store, `${pretrain}metrics.jsonl`)) points.push({ epoch: (step + 1) / stepsPerEpoch, loss, accuracy });
    }
  }
  const linear = await read<ProbeResult>(`${evaluate}linear.json`, 'linear-probe', name);
  const nearestNeighbours = await read<ProbeResult>(`${evaluate}knn.json`, 'nearest-neighbours', name);
  const semiSupervised = await read<ProbeResult>(`${evaluate}semi.json`, 'semi-supervised', name);
  return {
    name, seed, method: pretraining.method, viewProbability: pretraining.views.probability, qualityLoss: pretraining.qualityLoss.enabled, epochs: pretraining.epochs,
    ...(linear && { linear }), ...(nearestNeighbours && { nearestNeighbours }), ...(semiSupervised && { semiSupervised }),
    curve: thinOut(points, curvePoints, meanPoint),
  };
}

function meanPoint(points: readonly CurvePoint[]): CurvePoint {
  const mean = (key: keyof CurvePoint): number => points.reduce((sum, point) => sum + point[key], 0) / points.length;
  return { epoch: mean('epoch'), loss: mean('loss'), accuracy: mean('accuracy') };
}

function withoutVectors({ vector: _vector, mean: _mean, ...rest }: ForegroundModel): Omit<ForegroundModel, 'vector' | 'mean'> {
  return rest;
}

/** Wall time of the stages so far, where the runner left its history in the store. */
async function historyOf(store: ObjectStore, runPrefix: string): Promise<ReportData['stages']> {
  if (!await store.head(`${runPrefix}history.jsonl`)) return undefined;
  const events: HistoryLine[] = [];
  for await (const event of readLines<HistoryLine>(store, `${runPrefix}history.jsonl`)) events.push(event);
  return stageTimes(events);
}
