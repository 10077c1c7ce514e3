import { Command } from 'commander';
import { interruptible } from './interruption.ts';
import { jsonOption, printJson, prose, readable, storeOption, withEngineOptions } from './options.ts';

export function runCommand(): Command {
  return withEngineOptions(new Command('run'))
    .summary('run a recipe on this machine')
    .description(prose(`Runs the whole workflow of a recipe on this machine: foreground analysis, generated views,
pretraining and evaluation of every variant, report.

What is already in the store is not made again: the same command continues an interrupted run, and
recipes with the same dataset and generation settings share their views.`))
    .argument('<recipe>', 'path or URL of a recipe file')
    .addOption(storeOption())
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview run recipe.yaml
  genview run recipe.yaml --store /data/genview
  genview run recipe.yaml --json > result.json`)
    .action(async (recipe: string, options: { store: string; json?: boolean }) => runRecipe(recipe, options));
}

/** Runs a recipe and prints its results: the table of variants, and where the report is. */
export async function runRecipe(recipe: string, options: { readonly store: string; readonly json?: boolean }): Promise<void> {
  const [{ toUrl }, { runLocal }, { formatResults, readResults }] = await Promise.all([
    import('../recipe/location.ts'), import('../workflow/local.ts'), import('./results.ts'),
  ]);
  const { run, report } = await interruptible(({ log, signal }) => runLocal({ recipe: toUrl(recipe), store: toUrl(options.store), log, signal }));
  const results = await readResults(run);
  if (options.json) printJson({ ...results, report });
  else process.stdout.write(`\n${formatResults(results)}\n\nrun     ${readable(run)}\nreport  ${readable(report)}\n`);
}
