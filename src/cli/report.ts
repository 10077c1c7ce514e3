import { Command } from 'commander';
import { type CloudOptions, openTarget, withTargetOptions } from './cloudOptions.ts';
import { interruptible } from './interruption.ts';
import { jsonOption, printJson, prose, readable } from './options.ts';

export function reportCommand(): Command {
  const command = withTargetOptions(new Command('report'))
    .summary('write the report of a run again, or fetch it')
    .description(prose(`Writes report.html and report.json of a run from what its stages left, and prints the table of its
variants. A run that has not ended gives a report of what there is. With --fetch copies the report that
the run itself wrote, and writes nothing into the store.`))
    .argument('[run]', "name or URL of the run (default: the store's only one)")
    .option('--fetch <folder>', 'copy report.html and report.json there')
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview report
  genview report demo
  genview report s3://bucket/genview/runs/demo-0123abcd/
  genview report cifar10 --cloud --fetch .`)
    .action(async (run: string | undefined, options: CloudOptions & { fetch?: string; json?: boolean }) => {
      const [{ findRun }, { formatResults, readResults }] = await Promise.all([import('./runs.ts'), import('./results.ts')]);
      const target = await openTarget(options, command, run);
      const url = await findRun(run, target.deployment === undefined && !options.cloud ? options.store : target.store);
      const written = options.fetch === undefined ? await writeReport(url) : await fetchReport(url, options.fetch);
      const results = await readResults(url);
      if (options.json) printJson({ ...results, report: written });
      else process.stdout.write(`${formatResults(results)}\n\nreport  ${readable(written)}\n`);
    });
  return command;
}

async function writeReport(run: string): Promise<string> {
  const { report } = await import('../stages/report.ts');
  return (await interruptible((context) => report({ run }, context))).report;
}

/** Throws `ReportNotFound`. @returns URL of the copied report.html */
async function fetchReport(run: string, folder: string): Promise<string> {
  const [{ openStore }, { openResolved }, { GenViewError }] = await Promise.all([import('../storage/index.ts'), import('../stages/artefacts.ts'), import('../errors.ts')]);
  const { store, runPrefix } = await openResolved(run);
  const to = openStore(folder);
  for (const name of ['report.json', 'report.html']) {
    if (!await store.head(`${runPrefix}${name}`)) throw new GenViewError('ReportNotFound', `${store.url(runPrefix + name)} is missing: the run has not come to its report; without --fetch the command writes one of what there is`);
    await to.put(name, await store.get(`${runPrefix}${name}`));
  }
  return to.url('report.html');
}
