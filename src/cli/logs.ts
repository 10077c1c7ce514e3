import { Command } from 'commander';
import { jsonOption, prose, storeOption } from './options.ts';

export function logsCommand(): Command {
  return new Command('logs')
    .summary('what happened in a run, or what a stage wrote')
    .description(prose(`Without a stage: the history of the run's last execution, an event a line.
With one: the log of its processes, all shards and variants.`))
    .argument('[run]', "name or URL of the run (default: the store's only one)")
    .argument('[stage]', 'for example generate-views, or pretrain-baseline for one variant')
    .addOption(storeOption())
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview logs
  genview logs demo pretrain
  genview logs demo generate-views-00001
  genview logs demo --json`)
    .action(async (run: string | undefined, stage: string | undefined, options: { store: string; json?: boolean }) => {
      const [{ findRun }, { openResolved }, { printHistory, printStageLogs }] = await Promise.all([
        import('./runs.ts'), import('../stages/artefacts.ts'), import('./runLogs.ts'),
      ]);
      const { store, runPrefix } = await openResolved(await findRun(run, options.store));
      if (stage === undefined) await printHistory(store, runPrefix, options.json === true);
      else await printStageLogs(store, runPrefix, stage, options.json === true);
    });
}
