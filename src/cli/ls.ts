import { Command } from 'commander';
import { type CloudOptions, openTarget, withTargetOptions } from './cloudOptions.ts';
import { formatTable, jsonOption, printJson, prose } from './options.ts';

export function lsCommand(): Command {
  const command = withTargetOptions(new Command('ls'))
    .summary('list the runs of a store and their states')
    .description(prose(`One line for each run: its state, when its last execution began, and how long it took. Runs in the cloud
come in the order of their executions, the newest first.`))
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview ls
  genview ls --cloud
  genview ls --store s3://bucket/ --json`)
    .action(async (options: CloudOptions & { json?: boolean }) => {
      const [{ listTarget }, { formatSeconds }] = await Promise.all([import('./cloudRuns.ts'), import('../log.ts')]);
      const target = await openTarget(options, command);
      const runs = await listTarget(target);
      if (options.json) { printJson(runs); return; }
      if (runs.length === 0) { process.stdout.write(`no runs in ${target.deployment === undefined && !options.cloud ? options.store : target.store}\n`); return; }
      const rows = runs.map(({ runId, state, startedAt, stoppedAt, executions }) => [
        runId, state, startedAt?.slice(0, 19).replace('T', ' ') ?? '-',
        startedAt === undefined ? '-' : formatSeconds(((stoppedAt === undefined ? Date.now() : Date.parse(stoppedAt)) - Date.parse(startedAt)) / 1000),
        String(executions),
      ]);
      process.stdout.write(`${formatTable([['run', 'state', 'started (UTC)', 'took', 'executions'], ...rows])}\n`);
    });
  return command;
}
