import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { ExitCode, GenViewError } from '../errors.ts';
import { cancelCommand } from './cancel.ts';
import { datasetCommand } from './dataset.ts';
import { demoCommand } from './demo.ts';
import { doctorCommand } from './doctor.ts';
import { initCommand } from './init.ts';
import { Interrupted } from './interruption.ts';
import { logsCommand } from './logs.ts';
import { lsCommand } from './ls.ts';
import { modelsCommand } from './models.ts';
import { prose } from './options.ts';
import { reportCommand } from './report.ts';
import { runCommand } from './run.ts';
import { stageCommand } from './stage.ts';
import { statusCommand } from './status.ts';
import { submitCommand } from './submit.ts';
import { validateCommand } from './validate.ts';
import { workerCommand } from './worker.ts';

/** A command's file describes it and imports what it does only when it is called: `--help` answers at once. */
export function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
  const program = new Command('genview')
    .description(prose(`GenView: from a folder of images to an evaluated self-supervised encoder,
with generated views beside the ordinary ones.`))
    .version(version, '-V, --version', 'print the version')
    .addHelpText('after', `
Start here:
  genview demo                       the whole method on the embedded dataset, in minutes
  genview init                       write a recipe.yaml to fill in
  genview run recipe.yaml            run it; the same command continues an interrupted run
  genview submit recipe.yaml         run it in the cloud

Exit codes: 0 done, 1 defect or unexpected failure, 2 bad input, 75 interrupted or a
process was lost (run the same command again), 130 stopped by Ctrl-C.`);
  for (const command of [
    demoCommand(), initCommand(), validateCommand(), runCommand(), submitCommand(), lsCommand(), statusCommand(), logsCommand(), reportCommand(), cancelCommand(),
    datasetCommand(), modelsCommand(), stageCommand(), workerCommand(), doctorCommand(),
  ]) program.addCommand(command);
  for (const command of allCommands(program)) {
    command.exitOverride().helpCommand(false).helpOption('-h, --help', 'explain the command').showHelpAfterError(`(${pathOf(command)} --help explains it)`);
  }
  return program;
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

/** Runs a command line; never throws. @returns the exit status */
export async function execute(argv: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(argv);
    return Number(process.exitCode ?? ExitCode.Ok);
  } catch (error) {
    return explain(error);
  }
}

/** The whole program: runs the command line and ends the process. */
export async function main(argv: readonly string[]): Promise<never> {
  // `genview … | head` closes our standard output: nobody listens any more.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? ExitCode.Ok : ExitCode.Failure));
  const status = await execute(argv);
  // Pipes take their time; native engines keep threads, and stores keep sockets, that would delay the end.
  await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))));
  process.exit(status);
}

/** Says what went wrong on standard error. @returns the exit status */
export function explain(error: unknown): number {
  if (error instanceof CommanderError) {
    // Commander has printed its own message, or the help or version that was asked for.
    return error.exitCode === 0 ? ExitCode.Ok : ExitCode.UserError;
  }
  if (error instanceof Interrupted) {
    process.stderr.write(`${error.message}\n`);
    return error.exitCode;
  }
  if (error instanceof GenViewError) {
    const problems = error.message.split('\n').length;
    process.stderr.write(problems === 1 ? `genview: ${error.message}\n` : `genview: ${problems} problems\n${error.message}\n`);
    if (process.env['GENVIEW_DEBUG'] && error.stack) process.stderr.write(`${error.stack}\n`);
    return error.exitCode;
  }
  process.stderr.write(`genview: unexpected failure\n${error instanceof Error ? withCauses(error) : String(error)}\n`);
  return ExitCode.Failure;
}

function withCauses(error: Error): string {
  const stack = error.stack ?? String(error);
  return error.cause instanceof Error ? `${stack}\ncaused by ${withCauses(error.cause)}` : stack;
}
