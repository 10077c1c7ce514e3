import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parse, stringify } from 'yaml';
import { readResults } from '../src/cli/results.ts';
import type { Log } from '../src/log.ts';
import { runLocal } from '../src/workflow/local.ts';

const demoRecipe = fileURLToPath(new URL('../recipes/demo.yaml', import.meta.url));

/** Rows of the table: a noise strategy and what the variant changes in the demo's pretraining. */
const rows = [
  { row: 'random initialisation', noise: 'adaptive', pretraining: { epochs: 0, schedule: { warmupEpochs: 0 }, views: { probability: 0 } } },
  { row: 'baseline', noise: 'adaptive', pretraining: { views: { probability: 0 } } },
  { row: 'GenView constant 200', noise: { strategy: 'constant', level: 200 }, pretraining: {} },
  { row: 'GenView random', noise: 'random', pretraining: {} },
  { row: 'GenView adaptive', noise: 'adaptive', pretraining: {} },
  { row: 'GenView adaptive + quality', noise: 'adaptive', pretraining: { qualityLoss: { enabled: true } } },
] as const;

/**
 * `npm run bench -- variants [--store DIR] [--seeds N]`: the demo's table over several seeds. The views of each noise
 * strategy are generated once; pretraining and probes are repeated with every seed. Continues where it was stopped.
 */
export async function run(args: string[], log: Log): Promise<void> {
  const option = (name: string, fallback: string): string => args.includes(`--${name}`) ? args[args.indexOf(`--${name}`) + 1] ?? fallback : fallback;
  const store = resolve(option('store', '.genview/bench-variants')), seeds = Number(option('seeds', '3'));
  await mkdir(store, { recursive: true });
  const demo = parse(await readFile(demoRecipe, 'utf8')) as Record<string, unknown> & { generation: object; pretraining: object };

  const results = new Map<string, { linear: number; knn: number; semi: number }[]>();
  const similarity = new Map<string, string>();
  for (const strategy of ['adaptive', 'constant', 'random'] as const) {
    const members = rows.map((row, i) => ({ ...row, i })).filter(({ noise }) => (typeof noise === 'string' ? noise : noise.strategy) === strategy);
    const recipe = {
      ...demo, name: `bench-${strategy}`, generation: { ...demo.generation, noise: members[0]!.noise },
      variants: members.flatMap(({ i, pretraining }) => Array.from({ length: seeds }, (_, seed) => ({ name: `row${i}-seed${seed}`, seed, pretraining }))),
    };
    const file = join(store, `${recipe.name}.yaml`);
    await writeFile(file, stringify(recipe));
    const { run: finished } = await runLocal({ recipe: pathToFileURL(file).href, store: pathToFileURL(`${store}/`).href, log, signal: new AbortController().signal });
    const report = await readResults(finished);
    similarity.set(strategy, report.similarity ? `${report.similarity.mean.toFixed(3)} ± ${report.similarity.standardDeviation.toFixed(3)} (${report.similarity.pairs} pairs)` : '-');
    for (const { i, row } of members) {
      results.set(row, report.variants.filter(({ name }) => name.startsWith(`row${i}-`))
        .map((v) => ({ linear: v.linear!.top1, knn: v.knn!.top1, semi: v.semiSupervised!.top1 })));
    }
  }

  const cell = (values: readonly number[]): string => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(values.length - 1, 1));
    return `${mean.toFixed(2)} ± ${spread.toFixed(2)}`;
  };
  console.log(`Demo dataset, top-1 in percent, mean and standard deviation over ${seeds} seeds\n`);
  console.log('| variant | linear probe | kNN | 10 % fine-tuned |\n| --- | --- | --- | --- |');
  for (const { row } of rows) {
    const values = results.get(row)!;
    console.log(`| ${row} | ${cell(values.map((v) => v.linear))} | ${cell(values.map((v) => v.knn))} | ${cell(values.map((v) => v.semi))} |`);
  }
  console.log(`\nCosine similarity of pairs: ${[...similarity].map(([strategy, text]) => `${strategy} ${text}`).join('; ')}`);
}
