import { Command } from 'commander';
import { type CloudOptions, openTarget, withTargetOptions } from './cloudOptions.ts';
import { jsonOption, prose } from './options.ts';

export function logsCommand(): Command {
  const command = withTargetOptions(new Command('logs'))
    .summary('what happened in a run, or what a stage wrote')
    .description(prose(`Without a stage: the history of the run's last execution, an event a line.
With one: the log of its processes, all shards and variants. Of a run in the cloud the history comes
from Step Functions and the logs from CloudWatch, or from the store where workers do the work.`))
    .argument('[run]', "name or URL of the run (default: the store's only one)")
    .argument('[stage]', 'for example generate-views, or pretrain-baseline for one variant')
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview logs
  genview logs demo pretrain
  genview logs demo generate-views-00001
  genview logs cifar10 pretrain-genview --cloud
  genview logs demo --json`)
    .action(async (run: string | undefined, stage: string | undefined, options: CloudOptions & { json?: boolean }) => {
      const json = options.json === true;
      const target = await openTarget(options, command, run);
      if (target.deployment !== undefined) {
        const [{ findRunOf }, { printCloudHistory, printCloudLogs }] = await Promise.all([import('./cloudRuns.ts'), import('./cloudLogs.ts')]);
        const runId = await findRunOf(target, run);
        if (stage === undefined) await printCloudHistory(target.clients, target.deployment, runId, json);
        else await printCloudLogs(target.clients, target.deployment, runId, stage, json);
        return;
      }
      const [{ findRun }, { openResolved }, { printHistory, printStageLogs }] = await Promise.all([
        import('./runs.ts'), import('../stages/artefacts.ts'), import('./runLogs.ts'),
      ]);
      const { store, runPrefix } = await openResolved(await findRun(run, options.store));
      if (stage === undefined) await printHistory(store, runPrefix, json);
      else await printStageLogs(store, runPrefix, stage, json);
    });
  return command;
}
