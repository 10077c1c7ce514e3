import { Command } from 'commander';
import { ExitCode } from '../errors.ts';
import { formatTable, jsonOption, printJson, prose, storeOption, withEngineOptions } from './options.ts';

export function doctorCommand(): Command {
  return withEngineOptions(new Command('doctor'))
    .summary('check this machine')
    .description(prose(`Checks Node, memory, the engine, the image decoder, the embedded networks and the store, and says what
to do about what is missing. Exit code 2 when something that genview needs is not there.`))
    .addOption(storeOption())
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview doctor
  genview doctor --store s3://bucket/genview`)
    .action(async (options: { store: string; json?: boolean }) => {
      const { examine } = await import('./examination.ts');
      const checks = await examine(options.store);
      if (options.json) printJson(checks);
      else process.stdout.write(`${formatTable(checks.map(({ ok, name, found }) => [ok ? 'ok' : 'PROBLEM', name, found]))}\n`);
      if (checks.some(({ ok }) => !ok)) process.exitCode = ExitCode.UserError;
    });
}
