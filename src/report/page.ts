import { formatSeconds } from '../log.ts';
import { curves, histogram, type Curve } from './charts.ts';
import { baselineOf, type GalleryPair, type ReportData, type VariantReport } from './data.ts';

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text: string): string => text.replace(/[&<>"']/g, (c) => escapes[c]!);
const percent = (value: number): string => value.toFixed(2);
const png = (bytes: Uint8Array): string => `data:image/png;base64,${Buffer.from(bytes).toString('base64')}`;

const style = `
:root { color-scheme: light; --line: #ddd; --soft: #666; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; } p { margin: .3rem 0; } .soft { color: var(--soft); }
table { border-collapse: collapse; } th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; } th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; } tr.baseline td { background: #f5f5f5; } .gain { color: #00704f; } .loss { color: #a33b00; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; } figure div { display: flex; gap: 6px; }
figure img { width: 100px; height: 100px; object-fit: contain; background: #f0f0f0; image-rendering: pixelated; }
figcaption { font-size: 13px; margin-top: .3rem; overflow-wrap: anywhere; } .charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts > div { max-width: 100%; overflow-x: auto; }
.charts h3 { font-size: 1rem; margin: .4rem 0; } details { margin: .6rem 0; } pre { background: #f5f5f5; padding: .8rem; overflow: auto; font-size: 13px; }`;

/** The whole report as one HTML file without any outside reference. */
export function renderPage(data: ReportData, gallery: readonly GalleryPair[]): string {
  const { recipe, images, dataset } = data;
  const listed = images.train + images.val + images.quarantined;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>GenView report: ${escape(recipe.name)}</title><link rel="icon" href="data:,"><style>${style}</style></head><body>
<h1>GenView: ${escape(recipe.name)}</h1>
<p class="soft">Run ${escape(data.runId)}. ${listed} images listed in ${dataset.classes.length} classes: ${images.train} for training, ${images.val} for validation, ${images.quarantined} quarantined.</p>
${variantsSection(data)}
${gallerySection(data, gallery)}
${histogramSection(data)}
${curvesSection(data.variants)}
${foregroundSection(data)}
${quarantineSection(data)}
${stagesSection(data)}
<details><summary>Recipe with every default filled in</summary><pre>${escape(JSON.stringify(recipe, null, 2))}</pre></details>
</body></html>
`;
}

function variantsSection({ variants, recipe }: ReportData): string {
  const baseline = baselineOf(variants);
  const rows = variants.map((v) => {
    const gain = v.gain === undefined ? '' : `<span class="${v.gain >= 0 ? 'gain' : 'loss'}">${v.gain >= 0 ? '+' : ''}${percent(v.gain)}</span>`;
    const cells = [v.linear, v.nearestNeighbours, v.semiSupervised].map((p) => `<td>${percent(p.top1)}</td><td>${percent(p.top5)}</td>`);
    return `<tr${v === baseline ? ' class="baseline"' : ''}><td>${escape(v.name)}</td><td>${escape(v.method)}</td><td>${v.viewProbability}</td><td>${v.qualityLoss ? 'yes' : 'no'}</td>${cells.join('')}<td>${gain}</td></tr>`;
  });
  const share = 100 * recipe.evaluation.semiSupervised.fraction;
  return `<h2>Variants</h2><div style="overflow-x:auto"><table id="variants"><thead>
<tr><th rowspan="2">variant</th><th rowspan="2">method</th><th rowspan="2">p<sub>gen</sub></th><th rowspan="2">quality loss</th><th colspan="2">linear probe</th><th colspan="2">weighted ${recipe.evaluation.knn.k}-NN</th><th colspan="2">fine-tuned on ${share} %</th><th rowspan="2">gain, linear top-1</th></tr>
<tr><th>top-1</th><th>top-5</th><th>top-1</th><th>top-5</th><th>top-1</th><th>top-5</th></tr></thead><tbody>${rows.join('\n')}</tbody></table></div>
<p class="soft">Percent of ${variants[0]!.linear.validationImages} validation images. One seed: differences of a point or two are within chance on data sets of this size.</p>`;
}

function gallerySection({ similarity }: ReportData, gallery: readonly GalleryPair[]): string {
  if (gallery.length === 0) return '<h2>Pairs</h2><p>No variant of this recipe uses generated views.</p>';
  const figures = gallery.map((pair) => `<figure><div><img src="${png(pair.original)}" alt="original" title="original"><img src="${png(pair.map)}" alt="foreground map" title="foreground map"><img src="${png(pair.view)}" alt="generated view" title="generated view"></div>
<figcaption>${escape(pair.className)}: foreground ${(100 * pair.foregroundProportion).toFixed(0)} %, noise level ${pair.noiseLevel}, quality ${pair.quality.toFixed(2)}<br><span class="soft">${escape(pair.path)}</span></figcaption></figure>`);
  const levels = similarity ? Object.entries(similarity.byLevel).map(([level, { mean, pairs }]) => `${level}: ${mean.toFixed(3)} (${pairs})`).join(', ') : '';
  return `<h2>Pairs</h2><p class="soft">Original, foreground map (first principal component of the encoder's tokens), generated view.${similarity
    ? ` Mean cosine similarity of ${similarity.pairs} pairs: ${similarity.mean.toFixed(3)} ± ${similarity.standardDeviation.toFixed(3)}; by noise level: ${levels}.` : ''}</p>
<div class="pairs" id="pairs">${figures.join('\n')}</div>`;
}

function histogramSection({ proportionHistogram, levelHistogram }: ReportData): string {
  const bins = proportionHistogram.map((_, i) => (i / proportionHistogram.length).toFixed(2));
  const levels = Object.keys(levelHistogram).sort((a, b) => Number(a) - Number(b));
  return `<h2>Foreground and noise</h2><div class="charts">
<div><h3>Foreground proportion</h3>${histogram(proportionHistogram, bins, 'Histogram of the foreground proportion', 'foreground proportion (left edge)')}</div>
<div><h3>Noise level</h3>${histogram(levels.map((level) => levelHistogram[level]!), levels, 'Histogram of the noise level', 'noise level')}</div></div>`;
}

function curvesSection(variants: readonly VariantReport[]): string {
  const trained = variants.filter((v) => v.curve.length > 0);
  const lines = (value: (point: VariantReport['curve'][number]) => number): Curve[] => trained.map(({ name, curve }) => ({ name, points: curve.map((p) => [p.epoch, value(p)] as const) }));
  const probes: Curve[] = variants.filter((v) => (v.linear.curve?.length ?? 0) > 0).map(({ name, linear }) => ({ name, points: linear.curve!.map((p) => [p.epoch, p.top1] as const) }));
  return `<h2>Training</h2><div class="charts">
${trained.length > 0 ? `<div><h3>Pretraining loss</h3>${curves(lines((p) => p.loss), 'Pretraining loss', 'epoch', 'loss')}</div>
<div><h3>Pretraining accuracy (positive key nearest)</h3>${curves(lines((p) => 100 * p.accuracy), 'Pretraining accuracy', 'epoch', '%')}</div>` : ''}
${probes.length > 0 ? `<div><h3>Linear probe, validation top-1</h3>${curves(probes, 'Linear probe accuracy', 'epoch', '%')}</div>` : ''}</div>`;
}

function foregroundSection({ foreground: f }: ReportData): string {
  return `<h2>Foreground model</h2><p>First principal component of ${f.images} images' tokens (grid ${f.grid[0]} x ${f.grid[1]}): ${(100 * f.explained).toFixed(1)} % of the variance; threshold ${f.threshold.toFixed(4)} (quantile ${f.quantile});
sign ${f.sign.flipped ? 'flipped' : 'kept'}: mean projection ${f.sign.centre.toFixed(4)} in the centre, ${f.sign.border.toFixed(4)} at the border before the decision.</p>`;
}

function quarantineSection({ quarantined, images, dataset }: ReportData): string {
  const shown = quarantined.slice(0, 100).map(({ path, reason }) => `<tr><td>${escape(path)}</td><td style="text-align:left">${escape(reason)}</td></tr>`);
  const more = quarantined.length > shown.length ? `<p>… and ${quarantined.length - shown.length} more in report.json.</p>` : '';
  return `<h2>Quarantine</h2><p>${images.quarantined} images could not be read and were left out; ${dataset.ignored} files are no images by their name.</p>${shown.length > 0 ? `<table><tr><th>file</th><th style="text-align:left">reason</th></tr>${shown.join('')}</table>${more}` : ''}`;
}

function stagesSection({ stages }: ReportData): string {
  if (!stages || stages.length === 0) return '';
  return `<h2>Time</h2><table>${stages.map(({ name, seconds }) => `<tr><td>${escape(name)}</td><td>${formatSeconds(seconds)}</td></tr>`).join('')}</table><p class="soft">Of this execution; a stage whose result was already in the store takes no time.</p>`;
}
