import { Command } from 'commander';
import { interruptible } from './interruption.ts';
import { jsonOption, printJson, prose, readable, storeOption } from './options.ts';

export function reportCommand(): Command {
  return new Command('report')
    .summary('write the report of a run again')
    .description(prose(`Writes report.html and report.json of a run from what its stages left, and prints the table of its
variants. A run that has not ended gives a report of what there is.`))
    .argument('[run]', "name or URL of the run (default: the store's only one)")
    .addOption(storeOption())
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview report
  genview report demo
  genview report s3://bucket/genview/runs/demo-0123abcd/`)
    .action(async (run: string | undefined, options: { store: string; json?: boolean }) => {
      const [{ findRun }, { report }, { formatResults, readResults }] = await Promise.all([import('./runs.ts'), import('../stages/report.ts'), import('./results.ts')]);
      const url = await findRun(run, options.store);
      const written = await interruptible((context) => report({ run: url }, context));
      const results = await readResults(url);
      if (options.json) printJson({ ...results, report: written.report });
      else process.stdout.write(`${formatResults(results)}\n\nreport  ${readable(written.report)}\n`);
    });
}
