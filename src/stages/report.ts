import { GenViewError } from '../errors.ts';
import { collectGallery } from '../report/gallery.ts';
import { baselineOf, stageTimes, thinOut, type ReportData, type VariantReport } from '../report/data.ts';
import { renderPage } from '../report/page.ts';
import { readJson, readLines, writeJson } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { openRun } from './artefacts.ts';
import type { DatasetSummary, ForegroundModel, ProbeResult, ReportOutput, RunInput, RunPlan, SimilarityResult, StageContext, StepMetrics, ViewsPlan } from './contract.ts';
import { usesViews } from './generateViews.ts';

/** Points of a curve in the report. */
const curvePoints = 200;

/**
 * Report: `runs/<run>/report.json` and `report.html` from what the other stages left in the store. It can be made again
 * at any time. Throws `ObjectNotFound`, which names the missing object, when a stage has not run.
 */
export async function report(input: RunInput, context: StageContext): Promise<ReportOutput> {
  const { store, run, plan, runPrefix } = await openRun(input.run);
  const { recipe } = run;
  const dataset = await readJson<DatasetSummary>(store, `${plan.dataset}dataset.json`);
  const { vector, mean, ...foreground } = await readJson<ForegroundModel>(store, `${plan.foreground}foreground.json`);
  const views = await readJson<ViewsPlan>(store, `${plan.views}plan.json`);
  const similarity = usesViews(recipe) ? await readJson<SimilarityResult>(store, `${plan.similarity}similarity.json`) : undefined;
  const stages = await historyOf(store, runPrefix);

  const variants = await Promise.all(recipe.variants.map(({ name, pretraining }) => variantReport(store, plan, name, {
    method: pretraining.method, viewProbability: pretraining.views.probability, qualityLoss: pretraining.qualityLoss.enabled, epochs: pretraining.epochs,
  })));
  const baseline = baselineOf(variants);
  const data: ReportData = {
    runId: run.runId, recipe, dataset, images: views.images, quarantined: views.quarantined, foreground,
    proportionHistogram: views.proportionHistogram, levelHistogram: views.levelHistogram,
    ...(similarity && { similarity }),
    variants: variants.map((v) => v === baseline ? v : { ...v, gain: v.linear.top1 - baseline.linear.top1 }),
    ...(stages && { stages }),
  };
  const gallery = usesViews(recipe) ? await collectGallery(store, run, plan, dataset, { ...foreground, vector, mean }, context.threads) : [];
  context.signal.throwIfAborted();
  await writeJson(store, `${runPrefix}report.json`, data);
  await store.put(`${runPrefix}report.html`, renderPage(data, gallery), { contentType: 'text/html; charset=utf-8' });
  return { report: store.url(`${runPrefix}report.html`) };
}

async function variantReport(store: ObjectStore, plan: RunPlan, name: string, settings: Pick<VariantReport, 'method' | 'viewProbability' | 'qualityLoss' | 'epochs'>): Promise<VariantReport> {
  const place = plan.variants.find((variant) => variant.name === name);
  if (!place) throw new GenViewError('RunNotPlanned', `variant ${name} is not in the plan of this run; run the stage shard-dataset again`);
  const probe = (file: string): Promise<ProbeResult> => readJson<ProbeResult>(store, `${place.evaluate}${file}.json`);
  const metrics: StepMetrics[] = [];
  if (settings.epochs > 0) for await (const line of readLines<StepMetrics>(store, `${place.pretrain}metrics.jsonl`)) metrics.push(line);
  const points = metrics.map(({ epoch, loss, accuracy }) => ({ epoch, loss, accuracy }));
  const average = (stretch: typeof points, key: 'epoch' | 'loss' | 'accuracy'): number => stretch.reduce((sum, point) => sum + point[key], 0) / stretch.length;
  return {
    name, ...settings, linear: await probe('linear'), nearestNeighbours: await probe('knn'), semiSupervised: await probe('semi'),
    curve: thinOut(points, curvePoints, (stretch) => ({ epoch: average([...stretch], 'epoch'), loss: average([...stretch], 'loss'), accuracy: average([...stretch], 'accuracy') })),
  };
}

/** Wall time of the stages so far, where the runner left its history in the store. */
async function historyOf(store: ObjectStore, runPrefix: string): Promise<ReportData['stages']> {
  if (!await store.head(`${runPrefix}history.jsonl`)) return undefined;
  const events: Parameters<typeof stageTimes>[0][number][] = [];
  for await (const event of readLines<(typeof events)[number]>(store, `${runPrefix}history.jsonl`)) events.push(event);
  return stageTimes(events);
}
