import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runStage } from '../../src/cli/stages.ts';
import type { StageName } from '../../src/cli/stageNames.ts';
import { renderDemoDataset } from '../../src/demo/dataset.ts';
import { silentLog } from '../../src/log.ts';
import type { ReportData } from '../../src/report/data.ts';
import { report } from '../../src/stages/report.ts';
import { planViews } from '../../src/stages/planViews.ts';
import { resolveRecipe } from '../../src/stages/resolveRecipe.ts';
import { shardDataset } from '../../src/stages/shardDataset.ts';
import { execute } from '../../src/workflow/asl/interpreter.ts';
import { submittedJobs } from '../../src/workflow/batch/submittedJobs.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { HistoryFile } from '../../src/workflow/historyFile.ts';
import { localRefs } from '../../src/workflow/local.ts';

const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
const browserFound = existsSync(executablePath);
if (!browserFound) console.log(`skipped: the report in a browser: there is no Chromium at ${executablePath}; set CHROMIUM to one`);

/** Milliseconds that a busy machine may take to start a browser or to show a page. */
const patience = 180_000;
const context = { signal: new AbortController().signal, log: silentLog, threads: Math.min(2, os.availableParallelism()) };
/** What could break out of a page, as far as file systems allow. */
const hostileClass = `"><img src=x onerror=alert(1)>&amp;'`, hostileFile = '<script>alert(2)<.jpg', oddFile = 'ünï 100% #1 "quoted" עברית.png';

let folder: string, run: string, html: string;
beforeAll(async () => {
  if (!browserFound) return;
  folder = await mkdtemp(path.join(os.tmpdir(), 'genview-report-'));
  await renderDataset(path.join(folder, 'images'));
  const recipe = path.join(folder, 'recipe.yaml');
  // JSON is YAML.
  await writeFile(recipe, JSON.stringify({
    name: 'small', dataset: { url: 'images', shardSize: 64 }, foreground: { sampleImages: 40, normalizeTokens: true }, generation: { steps: 2 },
    pretraining: { backbone: { name: 'resnet-small', width: 8 }, head: { hidden: 32, output: 16 }, epochs: 2, batch: 16, queue: 64 },
    variants: [
      { name: 'baseline', pretraining: { views: { probability: 0 } } },
      { name: 'genview', pretraining: { qualityLoss: { enabled: true } } },
      { name: 'start', pretraining: { epochs: 0, views: { probability: 0 } } },
    ],
    evaluation: { linear: { epochs: 3, batch: 16 }, knn: { k: 5 }, semiSupervised: { fraction: 0.4, epochs: 2, batch: 8 } },
  }));
  run = await runWorkflow(pathToFileURL(recipe).href, pathToFileURL(path.join(folder, 'store')).href);
  html = fileURLToPath(`${run}report.html`);
});
afterAll(async () => { if (folder) await rm(folder, { recursive: true, force: true }); });

/** 24 classes of the embedded dataset and one with odd names: 76 images to train on, 51 to validate, one that is none; two shards. */
async function renderDataset(images: string): Promise<void> {
  await renderDemoDataset({ folder: images, trainPerClass: 3, valPerClass: 2 });
  for (const split of ['train', 'val']) {
    const source = path.join(images, split, 'pig'), target = path.join(images, split, hostileClass);
    await mkdir(target);
    for (const name of await readdir(source)) await copyFile(path.join(source, name), path.join(target, name));
    const [first] = await readdir(source);
    await copyFile(path.join(source, first!), path.join(target, oddFile));
  }
  await writeFile(path.join(images, 'train', hostileClass, hostileFile), `<img src=x onerror=alert(3)> is no picture`);
}

/** The whole workflow with its history, every stage in this process, one at a time. */
async function runWorkflow(recipe: string, store: string): Promise<string> {
  const history = new HistoryFile('test', silentLog);
  const functions: Record<string, (input: never) => Promise<unknown>> = {
    'resolve-recipe': async (input) => { const resolved = await resolveRecipe(input, context); history.open(resolved.run); return resolved; },
    'shard-dataset': (input) => shardDataset(input, context), 'plan-views': (input) => planViews(input, context), 'report': (input) => report(input, context),
  };
  let last: Promise<unknown> = Promise.resolve();
  const output = await execute(buildWorkflow(localRefs), { recipe, store }, {
    onEvent: (event) => history.add(event),
    handlers: {
      'states:::lambda:invoke': async (argument) => {
        const { FunctionName, Payload } = argument as { FunctionName: string; Payload: unknown };
        await history.save();
        return { Payload: await functions[FunctionName]!(Payload as never) };
      },
      // No variant has several nodes.
      ...submittedJobs(async () => { throw new Error('not used'); }).handlers,
      'states:::batch:submitJob.sync': async (argument) => {
        const { ContainerOverrides: { Command: [stage, , url, , variant] }, ArrayProperties } = argument as { ContainerOverrides: { Command: string[] }; ArrayProperties?: { Size: number } };
        last = last.then(async () => {
          for (let shard = 0; shard < (ArrayProperties?.Size ?? 1); shard++) {
            await runStage(stage as StageName, { run: url!, store, shard, ...(variant !== undefined && { variant }) }, context);
          }
        });
        await last;
        return {};
      },
    },
  });
  await history.close();
  return (output as { run: string }).run;
}

describe.skipIf(!browserFound)('report.html in Chromium', () => {
  let browser: Browser;
  let data: Required<ReportData>;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath, headless: true, timeout: patience,
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    data = JSON.parse(await readFile(fileURLToPath(`${run}report.json`), 'utf8')) as Required<ReportData>;
  });
  afterAll(async () => { await browser?.close(); });

  /** Opens the page; `troubles` gathers everything that a page without scripts and references must not cause. */
  async function open(width: number): Promise<{ page: Page; troubles: string[] }> {
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    page.setDefaultTimeout(patience);
    const troubles: string[] = [];
    page.on('console', (message) => troubles.push(`console ${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => troubles.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => { troubles.push(`dialog: ${dialog.message()}`); void dialog.dismiss(); });
    page.on('requestfailed', (request) => troubles.push(`failed: ${request.url().slice(0, 200)}`));
    page.on('request', (request) => { if (!request.url().startsWith('data:') && request.url() !== pathToFileURL(html).href) troubles.push(`request: ${request.url()}`); });
    await page.goto(pathToFileURL(html).href);
    return { page, troubles };
  }

  it.each([1200, 400])('at %i pixels: no errors, no requests, everything visible, nothing sticks out', async (width) => {
    const { page, troubles } = await open(width);

    const images = await page.$$eval('img', (all) => all.map((image) => ({ pixels: image.naturalWidth, width: image.getBoundingClientRect().width, height: image.getBoundingClientRect().height })));
    expect(images).toHaveLength(3 * 24);
    for (const image of images) {
      expect(image.pixels).toBeGreaterThan(0);
      // Square, and every pixel of the small pictures of the same size.
      expect(image.height).toBe(image.width);
      expect(image.width % image.pixels).toBe(0);
    }

    const charts = await page.$$eval('svg.chart', (all) => all.map((svg) => ({
      label: svg.getAttribute('aria-label'), width: svg.getBoundingClientRect().width, height: svg.getBoundingClientRect().height,
      // Filled shapes and coloured lines with an extent of their own, not axes and clips.
      drawn: [...svg.querySelectorAll('path')].filter((part) => !part.closest('clipPath') && /#0072b2|#d55e00|#009e73/.test(`${part.getAttribute('fill')} ${part.getAttribute('stroke')}`))
        .filter((part) => { const box = part.getBoundingClientRect(); return box.width > 0 && box.height > 0; }).length,
    })));
    expect(charts.map(({ label }) => label)).toEqual(['Histogram of the foreground proportion', 'Images at each noise level', 'Pretraining loss', 'Pretraining accuracy', 'Linear probe, validation top-1', 'Fine-tuning, validation top-1']);
    for (const chart of charts) {
      expect(chart.width).toBeGreaterThan(300);
      expect(chart.height / chart.width).toBeCloseTo(270 / 480, 2);
    }
    const [proportions, levels, loss, accuracy] = charts;
    expect(proportions!.drawn).toBe(data.proportionHistogram.filter((count) => count > 0).length);
    expect(levels!.drawn).toBe(Object.keys(data.levelHistogram).length);
    expect(loss!.drawn).toBe(2);
    expect(accuracy!.drawn).toBeGreaterThan(0);

    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
    expect(await page.evaluate('document.body.scrollWidth')).toBeLessThanOrEqual(width);
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('has a row for every variant with the figures of report.json', async () => {
    const { page } = await open(1200);
    const rows = await page.$$eval('#variants tbody tr', (all) => all.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent)));
    expect(rows.map(([name]) => name)).toEqual(['baseline', 'genview', 'start']);
    for (const [i, { linear, nearestNeighbours, semiSupervised, gain }] of data.variants.entries()) {
      const figures = [linear!, nearestNeighbours!, semiSupervised!].flatMap(({ top1, top5 }) => [top1.toFixed(1), top5.toFixed(1)]);
      expect(rows[i]!.slice(-7, -1)).toEqual(figures);
      expect(rows[i]!.at(-1)).toBe(gain === undefined ? '' : `${gain < 0 ? '' : '+'}${gain.toFixed(1).replace('-', '−')}`);
    }
    await page.close();
  });

  it('pairs are drawn from every noise level and from several classes', async () => {
    const { page } = await open(1200);
    const captions = await page.$$eval('#pairs figcaption', (all) => all.map((caption) => caption.textContent));
    expect(captions).toHaveLength(24);
    for (const caption of captions) expect(caption).toMatch(/^.+ · noise \d+ · quality [+−]\d\.\d\dforeground \d+ % · train\/.+/);
    const levels = captions.map((caption) => / noise (\d+) /.exec(caption)![1]!);
    for (const level of levels) expect(data.levelHistogram).toHaveProperty(level);
    expect(new Set(levels).size).toBeGreaterThan(Object.keys(data.levelHistogram).length / 2);
    expect(new Set(captions.map((caption) => caption.split(' · ')[0])).size).toBeGreaterThan(6);
    await page.close();
  });

  it('names of files and classes are shown as they are', async () => {
    const { page } = await open(1200);
    expect(await page.$$eval('#quarantine tbody tr', (all) => all.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))))
      .toEqual([[`train/${hostileClass}/${hostileFile}`, expect.stringContaining('it begins with')]]);
    expect(await page.$eval('details p', (classes) => classes.textContent)).toContain(hostileClass);
    expect(await page.$$eval('script, iframe, object, embed, img[onerror]', (all) => all.length)).toBe(0);
    await page.close();
  });

  it('shows the time of every stage of the workflow so far', async () => {
    const { page } = await open(1200);
    const names = await page.$$eval('#times td.name', (all) => all.map((cell) => cell.textContent));
    for (const name of ['ResolveRecipe', 'ShardDataset', 'FitForeground', 'AnalyzeForeground', 'PlanViews', 'GenerateViews', 'PairSimilarity', 'Pretrain (genview)', 'LinearProbe (start)']) expect(names).toContain(name);
    await page.close();
  });

  it('can be made again: the same run gives the same bytes', async () => {
    // Once the history is closed, it holds the report stage too.
    await report({ run }, context);
    const before = await readFile(html);
    await report({ run }, context);
    expect((await readFile(html)).equals(before)).toBe(true);
  });
});
