import { Command } from 'commander';
import { withTargetOptions, type CloudOptions, openTarget } from './cloudOptions.ts';
import { jsonOption, printJson, prose, wholeNumber } from './options.ts';

export function statusCommand(): Command {
  const command = withTargetOptions(new Command('status'))
    .summary('what the runs of a store have done so far')
    .description(prose(`Shows how far each run has come, from what lies in the store; it sees runs of other machines too. Of a run
in the cloud it also shows the execution and its jobs: how many shards run, wait or have failed.`))
    .argument('[run]', 'name or URL of one run (default: all)')
    .option('--watch', 'show it again and again until the run has ended')
    .option('--interval <seconds>', 'between two looks of --watch', wholeNumber(1), 10)
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview status
  genview status demo --store /data/genview
  genview status --cloud
  genview status cifar10 --cloud --watch
  genview status --json`)
    .action(async (run: string | undefined, options: CloudOptions & { watch?: boolean; interval: number; json?: boolean }) => {
      const [{ findRunOf, runsOfTarget, statusesOf }, { formatStatus, watchRun }] = await Promise.all([import('./cloudRuns.ts'), import('./showStatus.ts')]);
      const target = await openTarget(options, command, run);
      if (options.watch) {
        const state = await watchRun(target, await findRunOf(target, run), options);
        if (state !== 'done') process.exitCode = 1;
        return;
      }
      const statuses = await statusesOf(target, run === undefined ? await runsOfTarget(target) : [await findRunOf(target, run)]);
      if (options.json) { printJson(statuses); return; }
      if (statuses.length === 0) process.stdout.write(`no runs in ${target.deployment === undefined && !options.cloud ? options.store : target.store}\n`);
      for (const status of statuses) process.stdout.write(`${formatStatus(status)}\n`);
    });
  return command;
}
