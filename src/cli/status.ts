import { Command } from 'commander';
import { formatTable, jsonOption, printJson, storeOption } from './options.ts';

export function statusCommand(): Command {
  return new Command('status')
    .summary('what the runs of a store have done so far')
    .description(`Shows how far each run has come, from what lies in the store; it sees runs of other machines too.`)
    .argument('[run]', 'name or URL of one run (default: all)')
    .addOption(storeOption())
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview status
  genview status demo --store /data/genview
  genview status --json`)
    .action(async (run: string | undefined, options: { store: string; json?: boolean }) => {
      const [{ toUrl }, { openStore }, { findRun, listRuns }, { readStatus }] = await Promise.all([
        import('../recipe/location.ts'), import('../storage/index.ts'), import('./runs.ts'), import('./runStatus.ts'),
      ]);
      const store = openStore(toUrl(options.store));
      const urls = run === undefined ? (await listRuns(store)).map((name) => store.url(`runs/${name}/`)) : [await findRun(run, options.store)];
      const statuses = await Promise.all(urls.map(readStatus));
      if (options.json) { printJson(statuses); return; }
      if (statuses.length === 0) process.stdout.write(`no runs in ${options.store}\n`);
      for (const { runId, state, stages, failure } of statuses) {
        process.stdout.write(`${runId}: ${state}\n`);
        if (failure) process.stdout.write(`  failed: ${failure.error}: ${failure.message.split('\n')[0]}\n`);
        process.stdout.write(`${formatTable(stages.map(({ stage, variant, done, of }) => [`  ${stage}${variant ? ` ${variant}` : ''}`, done === of ? 'done' : `${done}/${of}`]))}\n`);
      }
    });
}
