import { describe, expect, test } from 'vitest';
import type { GalleryPair, ReportData, VariantReport } from '../../src/report/data.ts';
import { withGains } from '../../src/report/data.ts';
import { renderPage } from '../../src/report/page.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { smallRecipe } from '../stages/smallRun.ts';

const probe = (top1: number, curve = false) => ({
  top1, top5: top1 + 20, validationImages: 400, trainImages: 1000,
  ...(curve && { curve: [{ epoch: 1, loss: 2, top1: top1 / 2 }, { epoch: 2, loss: 1, top1 }] }),
});
const variant = (name: string, changes: Partial<VariantReport> = {}): VariantReport => ({
  name, seed: 0, method: 'mocov2', viewProbability: name === 'baseline' ? 0 : 1, qualityLoss: false, epochs: 2,
  linear: probe(name === 'baseline' ? 50 : 52.5, true), nearestNeighbours: probe(45), semiSupervised: probe(40, true),
  curve: [{ epoch: 1, loss: 5, accuracy: 0.2 }, { epoch: 2, loss: 4, accuracy: 0.4 }], ...changes,
});

/** A recipe with these variants, no two with equal settings. */
function recipeOf(variants: readonly VariantReport[]): Recipe {
  const recipe = smallRecipe(), [first] = recipe.variants;
  return { ...recipe, variants: variants.map(({ name, seed, viewProbability }, i) => ({ name, seed, pretraining: { ...first!.pretraining, batch: i + 2, views: { probability: viewProbability, order: 'random' } } })) };
}

function reportData(changes: Partial<ReportData> = {}): ReportData {
  return {
    runId: 'small-01234567', recipe: smallRecipe(), models: { encoder: 'e'.repeat(64), generator: 'f'.repeat(64) },
    dataset: { classes: ['cat', 'dog'], images: { train: 1001, val: 401 }, shards: 2, ignored: 3 }, missing: [],
    images: { train: 1000, val: 400, quarantined: 2 }, quarantined: [{ path: 'train/cat/a.jpg', reason: 'the file is empty' }, { path: 'val/dog/b.png', reason: 'the file is corrupt' }],
    proportionHistogram: Array.from({ length: 20 }, (_, i) => i), levelHistogram: { 0: 400, 100: 300, 200: 200, 400: 100 },
    foreground: { explained: 0.25, threshold: 0.5, quantile: 0.6, sign: { centre: 0.1, border: -0.2, flipped: false }, grid: [8, 8], images: 900, skipped: 0, normalizeTokens: false },
    similarity: { mean: 0.8, standardDeviation: 0.05, pairs: 1000, byLevel: { 0: { mean: 0.9, pairs: 400 }, 100: { mean: 0.7, pairs: 600 } } },
    variants: withGains([variant('baseline'), variant('genview')]),
    stages: [{ name: 'FitForeground', start: 0, seconds: 5 }, { name: 'Pretrain (genview)', start: 5, seconds: 15 }],
    ...(changes.variants && { recipe: recipeOf(changes.variants) }),
    ...changes,
  };
}

const pair = (changes: Partial<GalleryPair> = {}): GalleryPair => ({
  path: 'train/cat/1.png', className: 'cat', foregroundProportion: 0.42, noiseLevel: 200, quality: 0.125,
  original: { png: Uint8Array.of(1, 2), side: 32 }, map: { png: Uint8Array.of(3), side: 8 }, view: { png: Uint8Array.of(4), side: 128 }, ...changes,
});

const headings = (html: string): string[] => [...html.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, text]) => text!);
/** Rows of the body of the table, each its cells' text. */
function table(html: string, id: string): string[][] {
  const [, body] = new RegExp(`<table[^>]*id="${id}".*?<tbody>(.*?)</tbody>`, 's').exec(html) ?? [];
  return [...(body ?? '').matchAll(/<tr[^>]*>(.*?)<\/tr>/gs)].map(([, row]) => [...row!.matchAll(/<td[^>]*>(.*?)<\/td>/gs)].map(([, cell]) => cell!.replaceAll(/<[^>]+>/g, '')));
}

test('has every section, in order', () => {
  expect(headings(renderPage(reportData(), [pair()]))).toEqual(['Variants', 'Pairs', 'Foreground and noise', 'Training', 'Dataset', 'Time', 'Settings']);
});

test('a table row for every variant, with its gain over the baseline', () => {
  const html = renderPage(reportData(), [pair()]);
  expect(table(html, 'variants')).toEqual([
    ['baseline', 'mocov2', '0', 'no', '50.0', '70.0', '45.0', '65.0', '40.0', '60.0', ''],
    ['genview', 'mocov2', '1', 'no', '52.5', '72.5', '45.0', '65.0', '40.0', '60.0', '+2.5'],
  ]);
  expect(html).toMatch(/<tr class="baseline"><td class="name"><bdi>baseline/);
  // 1.96 sqrt(50 * 50 / 400) = 4.9
  expect(html).toContain('a figure of 50.0 is known to ±4.9 (95 %)');
});

test('says which variant is best, and how far chance alone goes', () => {
  const html = renderPage(reportData({ variants: withGains([variant('baseline'), variant('worse', { linear: probe(45) }), variant('best')]) }), []);
  const [, result] = /<p class="result" id="result">(.*?)<\/p>/.exec(html)!;
  // 1.96 sqrt((50 * 50 + 52.5 * 47.5) / 400) = 6.92
  expect(result!.replaceAll(/<[^>]+>/g, '')).toBe('Linear probe, top-1: 52.5 % with best, 50.0 % with baseline: +2.5 points (±6.9 from the number of validation images alone).');
});

test('variants of several seeds get their means', () => {
  const recipe = smallRecipe(), [plain, genview] = recipe.variants;
  const seeds = [0, 1, 2];
  const html = renderPage(reportData({
    recipe: { ...recipe, variants: [...seeds.map((seed) => ({ ...plain!, name: `baseline-${seed}`, seed })), ...seeds.map((seed) => ({ ...genview!, name: `genview-${seed}`, seed }))] },
    variants: withGains([...seeds.map((seed) => variant(`baseline-${seed}`, { seed, viewProbability: 0, linear: probe(50 + seed) })), ...seeds.map((seed) => variant(`genview-${seed}`, { seed, linear: probe(52 + 2 * seed) }))]),
  }), [pair()]);
  expect(table(html, 'seeds')).toEqual([
    ['baseline-0, baseline-1, baseline-2', '3', '51.00 ± 1.00', '45.00 ± 0.00', '40.00 ± 0.00', ''],
    ['genview-0, genview-1, genview-2', '3', '54.00 ± 2.00', '45.00 ± 0.00', '40.00 ± 0.00', '+3.00 ± 1.00'],
  ]);
  expect(table(html, 'variants')[4]).toEqual(['genview-1', '1', 'mocov2', '1', 'no', '54.0', '74.0', '45.0', '65.0', '40.0', '60.0', '+3.0']);
});

test('a pair shows its pictures and figures; small pictures are enlarged by whole factors', () => {
  const html = renderPage(reportData(), [pair(), pair({ quality: -0.5, path: 'train/cat/2.png' })]);
  expect(html.match(/<figure>/g)).toHaveLength(2);
  expect(html).toContain('<img src="data:image/png;base64,AQI=" width="96" height="96" alt="original" class="pixels">');
  expect(html).toContain('<img src="data:image/png;base64,Aw==" width="96" height="96" alt="foreground map" class="pixels">');
  expect(html).toContain('<img src="data:image/png;base64,BA==" width="96" height="96" alt="generated view">');
  expect(html).toContain('<bdi>cat</bdi> · noise 200 · quality +0.13<br><span class="soft">foreground 42 % · <bdi>train/cat/1.png</bdi>');
  expect(html).toContain('quality −0.50');
});

test('charts of foreground, noise and training', () => {
  const html = renderPage(reportData(), [pair()]);
  expect([...html.matchAll(/<svg class="chart" role="img" aria-label="([^"]+)"/g)].map(([, label]) => label)).toEqual([
    'Histogram of the foreground proportion', 'Images at each noise level', 'Pretraining loss', 'Pretraining accuracy', 'Linear probe, validation top-1', 'Fine-tuning, validation top-1',
  ]);
  expect(table(html, 'similarity')).toEqual([['0', '400', '0.900'], ['100', '600', '0.700'], ['all', '1,000', '0.800 ± 0.050']]);
});

test('counts quarantined images and names them with their reason', () => {
  const html = renderPage(reportData(), []);
  expect(table(html, 'quarantine')).toEqual([['train/cat/a.jpg', 'the file is empty'], ['val/dog/b.png', 'the file is corrupt']]);
  expect(html).toContain('Quarantined because they could not be read: 2.');
  const many = Array.from({ length: 130 }, (_, i) => ({ path: `${i}.png`, reason: 'empty' }));
  const long = renderPage(reportData({ quarantined: many, images: { train: 1000, val: 400, quarantined: 130 } }), []);
  expect(table(long, 'quarantine')).toHaveLength(100);
  expect(long).toContain('… and 30 more in report.json.');
});

test('without quarantined images there is no table', () => {
  const html = renderPage(reportData({ quarantined: [], images: { train: 1001, val: 401, quarantined: 0 } }), []);
  expect(html).toContain('Quarantined because they could not be read: none.');
  expect(html).not.toContain('id="quarantine"');
});

test('a run without generated views says so, and shows no noise levels', () => {
  const html = renderPage(reportData({ recipe: smallRecipe({ probability: 0 }), variants: [variant('baseline')] }), []);
  expect(html).toContain('No variant of this recipe uses generated views.');
  expect(html).not.toContain('Images at each noise level');
  expect(html).toContain('Histogram of the foreground proportion');
});

test('a single variant is its own baseline: no gain, no conclusion', () => {
  const html = renderPage(reportData({ variants: withGains([variant('genview')]) }), [pair()]);
  expect(table(html, 'variants')).toHaveLength(1);
  expect(table(html, 'variants')[0]!.at(-1)).toBe('');
  expect(html).not.toContain('id="result"');
});

test('a random initialisation has neither method nor curve', () => {
  const html = renderPage(reportData({ variants: withGains([variant('baseline'), variant('start', { epochs: 0, curve: [], viewProbability: 0, linear: probe(20) })]) }), []);
  expect(table(html, 'variants')[1]).toEqual(['start', 'random initialisation', '20.0', '40.0', '45.0', '65.0', '40.0', '60.0', '−30.0']);
});

test('times are drawn to one scale', () => {
  const html = renderPage(reportData(), []);
  expect(html).toContain('<bdi>FitForeground</bdi></td><td>5.0&nbsp;s</td><td class="bar"><div style="margin-left:0.00%;width:25.00%">');
  expect(html).toContain('<bdi>Pretrain (genview)</bdi></td><td>15&nbsp;s</td><td class="bar"><div style="margin-left:25.00%;width:75.00%">');
  expect(headings(renderPage(reportData({ stages: [] }), []))).not.toContain('Time');
});

test('a run that has not ended shows what there is and names what is missing', () => {
  const { recipe, models, dataset, runId } = reportData();
  const start: VariantReport = { name: 'baseline', seed: 0, method: 'mocov2', viewProbability: 0, qualityLoss: false, epochs: 2, curve: [] };
  const html = renderPage({ recipe, models, dataset, runId, missing: [{ stage: 'fit-foreground', variants: [] }, { stage: 'pretrain', variants: ['baseline', 'genview'] }], variants: [start] }, []);
  expect(html).toContain('<p class="warning" id="missing">This run has not ended. Still without a result: fit-foreground, pretrain (baseline, genview).</p>');
  expect(headings(html)).toEqual(['Variants', 'Pairs', 'Dataset', 'Settings']);
  expect(table(html, 'variants')[0]!.slice(4)).toEqual(['–', '–', '–', '–', '–', '–', '']);
  expect(html).not.toMatch(/undefined|NaN/);
  expect(renderPage(reportData(), [])).not.toContain('id="missing"');
});

describe('nothing from outside gets into the page', () => {
  const hostile = `"><script>alert('x')</script><img src=x onerror=alert(1)>&amp;`;
  const shown = '&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;amp;';
  const variants = withGains([variant('baseline'), variant(hostile, { method: hostile })]), recipe = recipeOf(variants);
  const html = renderPage(reportData({
    runId: hostile, dataset: { classes: [hostile, 'dog'], images: { train: 1, val: 1 }, shards: 2, ignored: 0 },
    recipe: { ...recipe, dataset: { ...recipe.dataset, url: `file:///${hostile}` } },
    quarantined: [{ path: `train/${hostile}/1.png`, reason: `it begins with ${hostile}` }],
    missing: [{ stage: hostile, variants: [hostile] }], stages: [{ name: hostile, start: 0, seconds: 1 }],
    variants,
  }), [pair({ path: `train/${hostile}.png`, className: hostile })]);

  test('names of files, classes and reasons are text wherever they appear', () => {
    expect(html.split(shown).length - 1).toBeGreaterThanOrEqual(10);
    expect(html).not.toMatch(/<script|onerror=alert\(1\)>/i);
    // Every tag that is really there is one of the page's own.
    const tags = new Set([...html.matchAll(/<([a-z][a-z0-9]*)/gi)].map(([, tag]) => tag!.toLowerCase()));
    expect([...tags].filter((tag) => ['script', 'iframe', 'object', 'embed', 'form', 'a', 'base'].includes(tag))).toEqual([]);
  });

  test('no reference leaves the page, and its policy forbids any', () => {
    const references = [...html.matchAll(/\s(?:src|href|xlink:href|srcset|action|data)="([^"]*)"|url\(([^)]*)\)|@import/g)].map(([, a, b]) => a ?? b ?? '@import');
    expect(references.length).toBeGreaterThan(3);
    expect(references.filter((reference) => !/^(data:|#)/.test(reference))).toEqual([]);
    expect(html).toContain(`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">`);
  });
});

test('the same data gives the same bytes', () => {
  expect(renderPage(reportData(), [pair()])).toBe(renderPage(reportData(), [pair()]));
});
