import { Command } from 'commander';
import { type CloudOptions, openTarget, withTargetOptions } from './cloudOptions.ts';
import { interruptible } from './interruption.ts';
import { jsonOption, printJson, prose, wholeNumber } from './options.ts';

export function cancelCommand(): Command {
  const command = withTargetOptions(new Command('cancel'))
    .summary('stop a run in the cloud and all of its jobs')
    .description(prose(`Stops the run's executions, terminates its jobs and waits until none is left; workers (\`genview worker\`)
end their part by themselves, within seconds. What the run has made stays in the store: \`genview submit\` with --again continues there, --redrive at the very state.`))
    .argument('<run>', 'name or URL of the run')
    .option('--timeout <seconds>', 'how long to wait for the jobs to end', wholeNumber(1), 600)
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview cancel cifar10 --cloud
  genview cancel cifar10-0123abcd --store s3://bucket/`)
    .action(async (run: string, options: CloudOptions & { timeout: number; json?: boolean }) => {
      const [{ cancelRun }, { findRunOf }, { GenViewError }] = await Promise.all([import('../cloud/cancel.ts'), import('./cloudRuns.ts'), import('../errors.ts')]);
      const target = await openTarget(options, command, run);
      const { clients, deployment } = target;
      if (deployment === undefined) throw new GenViewError('DeploymentNotFound', `${target.store} belongs to no deployed GenView; name one by --cloud, --stack or --state-machine (a run of this machine ends by Ctrl-C)`);
      const runId = await findRunOf(target, run);
      const cancelled = await interruptible((context) => cancelRun(clients, deployment, runId, { ...context, patience: options.timeout * 1000 }),
        () => 'stopped; jobs may still run: the same command again goes on with it');
      if (options.json) { printJson({ runId, ...cancelled }); return; }
      const { executions, jobs, heartbeatSeconds } = cancelled;
      const stopped = `${runId} cancelled: ${executions} ${executions === 1 ? 'execution' : 'executions'} stopped`;
      process.stdout.write(executions === 0 && jobs === 0 ? `${runId} was not running; nothing to cancel\n`
        : heartbeatSeconds === undefined ? `${stopped}, ${jobs} ${jobs === 1 ? 'job' : 'jobs'} terminated, none is left\n`
          : `${stopped}; workers end what they do of it at their next heartbeat, within ${heartbeatSeconds} seconds\n`);
    });
  return command;
}
