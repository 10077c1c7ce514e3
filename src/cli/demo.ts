import { Command } from 'commander';
import { fileURLToPath } from 'node:url';
import { jsonOption, prose, storeOption, withEngineOptions } from './options.ts';
import { runRecipe } from './run.ts';

export function demoCommand(): Command {
  return withEngineOptions(new Command('demo'))
    .summary('run the whole method on the embedded dataset')
    .description(prose(`Runs recipes/demo.yaml: renders the embedded dataset, finds the foreground of its images,
generates their views, pretrains one encoder without and one with them, and compares the two.
Needs nothing but this package. Takes minutes on two cores; the same command continues an
interrupted demo and shows a finished one again.`))
    .addOption(storeOption())
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview demo
  genview demo --store /data/genview-demo`)
    .action(async (options: { store: string; json?: boolean }) => {
      await runRecipe(fileURLToPath(new URL('../../recipes/demo.yaml', import.meta.url)), options);
    });
}
