import { formatSeconds } from '../log.ts';
import { usesViews } from '../stages/artefacts.ts';
import { bars, curves, histogram, lineSample, type Curve } from './charts.ts';
import { baselineOf, listMissing, samplingError, seedGroups, spreadOf, type GalleryPair, type Picture, type ReportData, type VariantReport } from './data.ts';
import { mapColours } from './gallery.ts';

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text: string): string => text.replace(/[&<>"']/g, (c) => escapes[c]!);
/** A name from outside, which may be written from right to left. */
const named = (text: string): string => `<bdi>${escape(text)}</bdi>`;
const decimal = (value: number, digits: number): string => value.toFixed(digits).replace('-', '−');
const signed = (value: number, digits: number): string => `${value < 0 ? '' : '+'}${decimal(value, digits)}`;
/** Decimals of a percentage: not more than the number of images carries. */
const digitsOf = (variants: readonly VariantReport[]): number => (variants.find(({ linear }) => linear)?.linear?.validationImages ?? 0) < 10_000 ? 1 : 2;
const whole = (count: number): string => count.toLocaleString('en-US');
const plural = (count: number, one: string, many = `${one}s`): string => `${whole(count)} ${count === 1 ? one : many}`;
const absent = '<span class="soft">–</span>';

/** Side of a picture on the page: small ones are enlarged by a whole factor, so that their pixels stay square and equal. */
const shownSide = 96;
function image({ png, side }: Picture, alt: string): string {
  const shown = side < shownSide ? Math.max(1, Math.floor(shownSide / side)) * side : shownSide;
  return `<img src="data:image/png;base64,${Buffer.from(png).toString('base64')}" width="${shown}" height="${shown}" alt="${alt}"${side < shownSide ? ' class="pixels"' : ''}>`;
}

/** Nothing may be loaded and nothing may run, whatever names of files and classes say. */
const policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

const style = `
:root { color-scheme: light; --ink: #1c1c1c; --soft: #626262; --line: #dcdcdc; --strong: #8a8a8a; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); max-width: 1100px; margin: 0 auto; padding: 1.6rem 1.2rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: .2rem 0 .4rem; }
p { margin: .45rem 0; max-width: 78ch; }
.soft { color: var(--soft); } .note { font-size: 13px; color: var(--soft); }
.result { font-size: 1.05rem; margin: .9rem 0; }
.warning { border-left: 3px solid #d55e00; padding: .4rem .8rem; background: #fdf4ee; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; line-height: 1.35; border-top: 1.5px solid var(--strong); border-bottom: 1.5px solid var(--strong); }
th, td { padding: .28rem .6rem; text-align: right; vertical-align: baseline; }
th { font-weight: 600; } thead { border-bottom: 1px solid var(--strong); } th.group { text-align: center; } sub { font-size: .75em; line-height: 0; }
thead th.group { border-bottom: 1px solid var(--line); }
th.text, td.text, td.name { text-align: left; } #variants th, #variants td { white-space: nowrap; } #quarantine td { overflow-wrap: anywhere; }
tbody tr + tr td { border-top: 1px solid #eee; } tr.baseline td { background: #f6f6f6; } td.first, th.first { padding-left: 1.3rem; }
.gain { color: #00654a; } .loss { color: #9c3a00; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 1.1rem 1.2rem; margin-top: .8rem; }
figure { margin: 0; min-width: 0; } figure > div { display: flex; gap: 5px; flex-wrap: wrap; } img { display: block; background: #f3f3f3; } img.pixels { image-rendering: pixelated; }
figcaption { font-size: 13px; line-height: 1.4; margin-top: .3rem; overflow-wrap: anywhere; }
.scale { display: inline-block; width: 7em; height: .75em; vertical-align: -.05em; margin: 0 .3em; background: linear-gradient(to right, ${mapColours.join(', ')}); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1.4rem 1.6rem; align-items: start; } .charts > div { min-width: 0; max-width: 540px; }
svg.chart { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; margin: .2rem 0 .8rem; padding: 0; list-style: none; font-size: 14px; } .sample { vertical-align: .15em; margin-right: .35em; }
.times { width: 100%; } .times td { white-space: nowrap; } .times td.bar { width: 100%; min-width: 60px; padding-right: 0; } .times td.bar div { height: .7em; min-width: 2px; background: #0072b2; }
details { margin: .8rem 0; } summary { cursor: pointer; } pre { background: #f6f6f6; padding: .8rem; overflow: auto; font-size: 12.5px; line-height: 1.4; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .5rem 0; font-size: 14px; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 560px) { body { padding: 1rem .8rem 2rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } .pairs { grid-template-columns: 1fr; } .times { font-size: 12.5px; } .times td { padding: .2rem .35rem; } }
@media print { body { max-width: none; padding: 0; } figure, .charts > div, tr { break-inside: avoid; } h2 { break-after: avoid; } }`;

/** The whole report as one HTML file: no script, nothing that it refers to outside. */
export function renderPage(data: ReportData, gallery: readonly GalleryPair[]): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>GenView report: ${escape(data.recipe.name)}</title><link rel="icon" href="data:,"><style>${style}</style></head><body>
${[headSection, variantsSection, (d: ReportData) => pairsSection(d, gallery), foregroundSection, trainingSection, datasetSection, timesSection, settingsSection].map((section) => section(data)).filter(Boolean).join('\n')}
</body></html>
`;
}

function headSection({ recipe, runId, images, dataset, missing, variants }: ReportData): string {
  const counted = images ? `: ${whole(images.train)} for training, ${whole(images.val)} for validation, ${whole(images.quarantined)} quarantined` : '';
  return `<header><h1>GenView: ${named(recipe.name)}</h1>
<p class="soft">Run ${named(runId)}. ${plural(dataset.images.train + dataset.images.val, 'image')} in ${plural(dataset.classes.length, 'class', 'classes')}${counted}.</p>
${missing.length > 0 ? `<p class="warning" id="missing">This run has not ended. Still without a result: ${escape(listMissing(missing))}.</p>` : ''}
${conclusion(variants)}</header>`;
}

/** The best variant against its baseline, in one sentence. */
function conclusion(variants: readonly VariantReport[]): string {
  const compared = variants.filter((v) => v.gain !== undefined && v.epochs > 0 && v.linear);
  if (compared.length === 0) return '';
  const best = compared.reduce((a, b) => b.linear!.top1 > a.linear!.top1 ? b : a);
  const baseline = variants.find(({ name }) => name === best.baseline)!;
  const digits = digitsOf(variants);
  const error = Math.hypot(...[best, baseline].map(({ linear }) => samplingError(linear!.top1, linear!.validationImages)));
  return `<p class="result" id="result">Linear probe, top-1: <b>${decimal(best.linear!.top1, digits)} %</b> with ${named(best.name)}, ${decimal(baseline.linear!.top1, digits)} % with ${named(baseline.name)}: ${signed(best.gain!, digits)} points <span class="soft">(±${decimal(error, 1)} from the number of validation images alone)</span>.</p>`;
}

function variantsSection({ variants, recipe }: ReportData): string {
  const { knn, semiSupervised } = recipe.evaluation;
  const digits = digitsOf(variants);
  const seeds = new Set(variants.map(({ seed }) => seed)).size > 1;
  const rows = variants.map((v) => {
    const probes = [v.linear, v.nearestNeighbours, v.semiSupervised].map((p) => p ? `<td class="first">${decimal(p.top1, digits)}</td><td>${decimal(p.top5, digits)}</td>` : `<td class="first">${absent}</td><td>${absent}</td>`);
    const settings = v.epochs === 0 ? `<td class="text" colspan="3">random initialisation</td>` : `<td class="text">${escape(v.method)}</td><td>${v.viewProbability}</td><td>${v.qualityLoss ? 'yes' : 'no'}</td>`;
    return `<tr${baselineOf(variants, v) === v ? ' class="baseline"' : ''}><td class="name">${named(v.name)}</td>${seeds ? `<td>${v.seed}</td>` : ''}${settings}${probes.join('')}<td class="first">${gainCell(v.gain, digits)}</td></tr>`;
  });
  const first = variants.find(({ linear }) => linear)?.linear;
  return `<section><h2>Variants</h2><div class="wide"><table id="variants"><thead>
<tr><th rowspan="2" class="text">variant</th>${seeds ? '<th rowspan="2">seed</th>' : ''}<th rowspan="2" class="text">method</th><th rowspan="2"><i>p</i><sub>gen</sub></th><th rowspan="2">quality loss</th><th colspan="2" class="group first">linear probe</th><th colspan="2" class="group first">weighted ${knn.k}-NN</th><th colspan="2" class="group first">fine-tuned (${+(100 * semiSupervised.fraction).toFixed(2)} %)</th><th rowspan="2" class="first">gain</th></tr>
<tr>${'<th class="first">top-1</th><th>top-5</th>'.repeat(3)}</tr></thead><tbody>
${rows.join('\n')}</tbody></table></div>
${first ? `<p class="note">Percent of ${plural(first.validationImages, 'validation image')}. Fine-tuned: the whole network, with the labels of ${+(100 * semiSupervised.fraction).toFixed(2)} % of the training images. Gain: linear top-1 in percentage points over the baseline (shaded).
From the number of images alone, a figure of ${decimal(first.top1, digits)} is known to ±${decimal(samplingError(first.top1, first.validationImages), 1)} (95 %)${seeds ? '' : ', and training with another seed moves it too: smaller differences are no evidence'}.</p>` : ''}
${seedsTable(recipe, variants)}</section>`;
}

const gainCell = (gain: number | undefined, digits: number): string => gain === undefined ? '' : `<span class="${gain >= 0 ? 'gain' : 'loss'}">${signed(gain, digits)}</span>`;

/** Mean and standard deviation over the seeds, where variants differ in nothing else. */
function seedsTable(recipe: ReportData['recipe'], variants: readonly VariantReport[]): string {
  const groups = seedGroups(recipe, variants);
  if (groups.length === 0) return '';
  const cell = (values: readonly (number | undefined)[], written = decimal): string => {
    const known = values.filter((value) => value !== undefined);
    if (known.length === 0) return `<td>${absent}</td>`;
    const { mean, standardDeviation, count } = spreadOf(known);
    return `<td>${written(mean, 2)}${count > 1 ? ` ± ${decimal(standardDeviation, 2)}` : ''}</td>`;
  };
  const rows = groups.map((group) => `<tr><td class="text">${group.map(({ name }) => named(name)).join(', ')}</td><td>${group.length}</td>${cell(group.map((v) => v.linear?.top1))}${cell(group.map((v) => v.nearestNeighbours?.top1))}${cell(group.map((v) => v.semiSupervised?.top1))}${group.some(({ gain }) => gain !== undefined) ? cell(group.map(({ gain }) => gain), signed) : '<td></td>'}</tr>`);
  return `<h3>Top-1 over seeds, mean ± standard deviation</h3><div class="wide"><table id="seeds"><thead><tr><th class="text">variants that differ only in their seed</th><th>seeds</th><th>linear probe</th><th>${recipe.evaluation.knn.k}-NN</th><th>fine-tuned</th><th>gain</th></tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`;
}

function pairsSection({ recipe, quarantined }: ReportData, gallery: readonly GalleryPair[]): string {
  if (!usesViews(recipe)) return '<section><h2>Pairs</h2><p>No variant of this recipe uses generated views.</p></section>';
  if (gallery.length === 0) return `<section><h2>Pairs</h2><p>${quarantined ? 'No views are generated yet.' : 'The views are not planned yet.'}</p></section>`;
  const figures = gallery.map((pair) => `<figure><div>${image(pair.original, 'original')}${image(pair.map, 'foreground map')}${image(pair.view, 'generated view')}</div>
<figcaption>${named(pair.className)} · noise ${pair.noiseLevel} · quality ${signed(pair.quality, 2)}<br><span class="soft">foreground ${(100 * pair.foregroundProportion).toFixed(0)} % · ${named(pair.path)}</span></figcaption></figure>`);
  return `<section><h2>Pairs</h2><p>Original, foreground map <span class="note">(background <span class="scale"></span> foreground)</span>, generated view: ${gallery.length} pairs, evenly over noise levels and dataset, not selected by eye.
The map is the first principal component of the encoder's tokens, stretched over its own range. Quality is the similarity of the two foregrounds minus that of the two backgrounds: the higher, the more the pair shows the same object in other surroundings.</p>
<div class="pairs" id="pairs">
${figures.join('\n')}</div></section>`;
}

function foregroundSection({ foreground, proportionHistogram, levelHistogram, similarity, recipe }: ReportData): string {
  if (!foreground) return '';
  const levels = Object.keys(levelHistogram ?? {}).toSorted((a, b) => Number(a) - Number(b));
  const charts = [
    proportionHistogram && `<div><h3>Foreground proportion</h3>${histogram(proportionHistogram, 'proportions', 'Histogram of the foreground proportion', 'share of tokens above the threshold')}</div>`,
    usesViews(recipe) && levelHistogram && `<div><h3>Noise level (${escape(recipe.generation.noise.strategy)})</h3>${bars(levels.map((level) => [level, levelHistogram[level]!]), 'levels', 'Images at each noise level', 'noise level (timestep)')}</div>`,
    similarity && similarity.pairs > 0 && similarityTable(similarity),
  ];
  const { sign, grid: [rows, columns], threshold, quantile, explained, images, skipped } = foreground;
  return `<section><h2>Foreground and noise</h2>
<p>First principal component of the tokens of ${plural(images, 'training image')}${skipped > 0 ? ` (${plural(skipped, 'more was', 'more were')} unreadable)` : ''}, ${rows} × ${columns} tokens each: ${(100 * explained).toFixed(1)} % of the variance.
Threshold ${decimal(threshold, 4)}, the ${quantile} quantile of all projections. Sign ${sign.flipped ? 'flipped' : 'kept'}: before the decision the mean projection was ${decimal(sign.centre, 4)} in the centre and ${decimal(sign.border, 4)} at the border.</p>
<div class="charts">${charts.filter(Boolean).join('\n')}</div></section>`;
}

function similarityTable({ mean, standardDeviation, pairs, byLevel }: NonNullable<ReportData['similarity']>): string {
  const rows = Object.entries(byLevel).map(([level, own]) => `<tr><td>${escape(level)}</td><td>${whole(own.pairs)}</td><td>${decimal(own.mean, 3)}</td></tr>`);
  return `<div><h3>Similarity of original and view</h3><table id="similarity"><thead><tr><th>noise level</th><th>pairs</th><th>mean cosine</th></tr></thead><tbody>${rows.join('')}
<tr><td>all</td><td>${whole(pairs)}</td><td>${decimal(mean, 3)} ± ${decimal(standardDeviation, 3)}</td></tr></tbody></table>
<p class="note">Cosine of the encoder's embeddings; ± standard deviation over pairs.</p></div>`;
}

function trainingSection({ variants }: ReportData): string {
  const lines = (pointsOf: (variant: VariantReport) => Curve['points']): Curve[] =>
    variants.map((variant, style) => ({ name: variant.name, style, points: pointsOf(variant) })).filter(({ points }) => points.length > 0);
  const charts = [
    { id: 'loss', title: 'Pretraining loss', unit: 'loss', curves: lines(({ curve }) => curve.map(({ epoch, loss }) => [epoch, loss])) },
    { id: 'accuracy', title: 'Pretraining accuracy', unit: '% of positives nearest', curves: lines(({ curve }) => curve.map(({ epoch, accuracy }) => [epoch, 100 * accuracy])) },
    { id: 'probe', title: 'Linear probe, validation top-1', unit: '%', curves: lines(({ linear }) => (linear?.curve ?? []).map(({ epoch, top1 }) => [epoch, top1])) },
    { id: 'tuning', title: 'Fine-tuning, validation top-1', unit: '%', curves: lines(({ semiSupervised }) => (semiSupervised?.curve ?? []).map(({ epoch, top1 }) => [epoch, top1])) },
  ].filter((chart) => chart.curves.length > 0);
  if (charts.length === 0) return '';
  const shown = variants.map(({ name }, style) => ({ name, style })).filter(({ name }) => charts.some((chart) => chart.curves.some((curve) => curve.name === name)));
  return `<section><h2>Training</h2><ul class="legend">${shown.map(({ name, style }) => `<li>${lineSample(style)}${named(name)}</li>`).join('')}</ul>
<div class="charts">${charts.map(({ id, title, unit, curves: own }) => `<div><h3>${title}</h3>${curves(own, id, title, 'epoch', unit)}</div>`).join('\n')}</div></section>`;
}

function datasetSection({ dataset, images, quarantined }: ReportData): string {
  const shown = (quarantined ?? []).slice(0, 100).map(({ path, reason }) => `<tr><td class="text">${named(path)}</td><td class="text">${named(reason)}</td></tr>`);
  const more = quarantined && images && images.quarantined > shown.length ? `<p class="note">… and ${whole(images.quarantined - shown.length)} more in ${images.quarantined > quarantined.length ? 'the shards of the analysis' : 'report.json'}.</p>` : '';
  const left = dataset.ignored > 0 ? ` ${plural(dataset.ignored, 'other file')} in the dataset ${dataset.ignored === 1 ? 'was' : 'were'} left alone.` : '';
  return `<section><h2>Dataset</h2><p>${plural(dataset.images.train + dataset.images.val, 'image')} listed.${images ? ` Used: ${whole(images.train)} for training and ${whole(images.val)} for validation. Quarantined because they could not be read: ${images.quarantined === 0 ? 'none' : whole(images.quarantined)}.` : ''}${left}</p>
${shown.length > 0 ? `<div class="wide"><table id="quarantine"><thead><tr><th class="text">quarantined file</th><th class="text">reason</th></tr></thead><tbody>${shown.join('\n')}</tbody></table></div>${more}` : ''}
<details><summary>${plural(dataset.classes.length, 'class', 'classes')}</summary><p>${dataset.classes.map(named).join(', ')}</p></details></section>`;
}

function timesSection({ stages }: ReportData): string {
  if (!stages || stages.length === 0) return '';
  const total = Math.max(...stages.map(({ start, seconds }) => start + seconds), 1e-3);
  const share = (seconds: number): string => `${(100 * seconds / total).toFixed(2)}%`;
  return `<section><h2>Time</h2><div class="wide"><table class="times" id="times">${stages.map(({ name, start, seconds }) =>
    `<tr><td class="name">${named(name)}</td><td>${formatSeconds(seconds).replaceAll(' ', '&nbsp;')}</td><td class="bar"><div style="margin-left:${share(start)};width:${share(seconds)}"></div></td></tr>`).join('\n')}</table></div>
<p class="note">Wall time in the last execution of this run, ${formatSeconds(total)} in all, waiting for a free place included; a stage whose result was in the store already takes next to none.</p></section>`;
}

function settingsSection({ recipe, models }: ReportData): string {
  const { encoder } = recipe.foreground, { generator, scheduler, steps, guidance, viewsPerImage } = recipe.generation;
  const facts: readonly (readonly [string, string])[] = [
    ['dataset', named(recipe.dataset.url)],
    ['encoder', `${named(encoder.model)}, ${encoder.imageSize} px <span class="note">sha256 ${escape(models.encoder.slice(0, 16))}</span>`],
    ['generator', `${named(generator)}, ${escape(scheduler)}, ${steps} steps, guidance ${guidance}, ${plural(viewsPerImage, 'view')} an image <span class="note">sha256 ${escape(models.generator.slice(0, 16))}</span>`],
    ['seed', String(recipe.seed)],
  ];
  return `<section><h2>Settings</h2><dl>${facts.map(([term, text]) => `<dt>${term}</dt><dd>${text}</dd>`).join('\n')}</dl>
<details><summary>Recipe with every default filled in</summary><pre>${escape(JSON.stringify(recipe, null, 2))}</pre></details></section>`;
}
