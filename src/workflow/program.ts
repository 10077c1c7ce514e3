import { availableParallelism, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { ExitCode, GenViewError } from '../errors.ts';
import { createLog } from '../log.ts';
import { describeEngine } from '../runtime/device.ts';
import type { StageContext } from '../stages/contract.ts';
import { exitWithParent } from './batch/process.ts';
import { batchStages, isProgramName, type ProgramName } from './stages.ts';

/** Loads the function of one stage; nothing of the other stages is imported. Its input is RunInput, ShardInput or VariantInput. */
export type LoadStage = () => Promise<(input: never, context: StageContext) => Promise<unknown>>;

/** Milliseconds from SIGTERM to the end, for a stage that does not notice; below the 30 s that Batch leaves a container. */
const patience = 25_000;

/**
 * The whole of a container's `main.ts`: `<stage> --run <url> [--variant <name>]`, with the shard in
 * AWS_BATCH_JOB_ARRAY_INDEX, the threads in GENVIEW_THREADS, the device in GENVIEW_DEVICE and the executor in GENVIEW_EXECUTOR.
 * Ends the process: 0 when done; a GenViewError's own code, with one line; 75 when stopped by SIGTERM, SIGINT or the end of its parent; 1 with a stack for anything else.
 */
export async function runProgram(stages: Readonly<Partial<Record<ProgramName, LoadStage>>>, argv: readonly string[] = process.argv.slice(2), env: NodeJS.ProcessEnv = process.env): Promise<never> {
  const stop = new AbortController();
  const log = createLog({ ...(argv[0] !== undefined && { stage: argv[0] }), ...(env['AWS_BATCH_JOB_ARRAY_INDEX'] !== undefined && { shard: Number(env['AWS_BATCH_JOB_ARRAY_INDEX']) }) });
  const halt = (reason: string): void => {
    if (stop.signal.aborted) return;
    stop.abort(new GenViewError('Stopped', `stopped: ${reason}; run the same command again to continue`, { exitCode: ExitCode.TemporaryFailure }));
    setTimeout(() => process.exit(ExitCode.TemporaryFailure), patience).unref();
  };
  process.on('SIGTERM', () => halt('SIGTERM'));
  process.on('SIGINT', () => halt('interrupted'));
  // Set by the local runner: nobody is left to wait for the result, so there is no reason to go on.
  if (env['GENVIEW_PARENT'] === 'stdin') exitWithParent(() => process.exit(ExitCode.TemporaryFailure));

  try {
    const { name, load, input } = parse(stages, argv, env);
    const threads = Number(env['GENVIEW_THREADS'] ?? availableParallelism());
    const attempt = Number(env['AWS_BATCH_JOB_ATTEMPT'] ?? 1);
    log.info(`${name}: node ${process.version}, ${threads} threads, ${(totalmem() / 2 ** 30).toFixed(1)} GiB of memory, attempt ${attempt}; ${await describeEngine(env)}`, { quiet: true, ...input });
    const stage = await load();
    await stage(input as never, { signal: stop.signal, log, threads });
  } catch (error) {
    process.exit(report(error, stop.signal, log));
  }
  process.exit(ExitCode.Ok);
}

function parse(stages: Readonly<Partial<Record<ProgramName, LoadStage>>>, argv: readonly string[], env: NodeJS.ProcessEnv): { name: ProgramName; load: LoadStage; input: { run: string; variant?: string; shard?: number } } {
  const usage = `usage: <${Object.keys(stages).join(' | ')}> --run <url> [--variant <name>]`;
  const refuse = (reason: string): never => { throw new GenViewError('ArgumentsInvalid', `${reason}; ${usage}`); };
  let parsed: { values: { run?: string; variant?: string }; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...argv], allowPositionals: true, options: { run: { type: 'string' }, variant: { type: 'string' } } });
  } catch (error) {
    return refuse((error as Error).message);
  }
  const { values: { run, variant }, positionals: [name = '', ...more] } = parsed;
  const load = isProgramName(name) ? stages[name] : undefined;
  if (!isProgramName(name) || load === undefined) return refuse(name === '' ? 'no stage given' : `"${name}" is not a stage of this program`);
  if (more.length > 0) refuse(`unexpected argument "${more[0]}"`);
  if (run === undefined) return refuse('--run is missing');
  const { shape, perVariant } = batchStages[name];
  if (perVariant !== (variant !== undefined)) refuse(perVariant ? `${name} needs --variant` : `${name} takes no --variant`);
  const index = env['AWS_BATCH_JOB_ARRAY_INDEX'];
  if (shape === 'array' && !/^\d+$/.test(index ?? '')) refuse(`${name} works on one shard: AWS_BATCH_JOB_ARRAY_INDEX must be its number, not "${index ?? ''}"`);
  return { name, load, input: { run, ...(variant !== undefined && { variant }), ...(shape === 'array' && { shard: Number(index) }) } };
}

function report(error: unknown, signal: AbortSignal, log: ReturnType<typeof createLog>): number {
  // A stage that was stopped may fail by whatever it was doing at the time.
  const cause = signal.aborted ? signal.reason as unknown : error;
  if (cause instanceof GenViewError) {
    log.error(cause.message, { code: cause.code });
    return cause.exitCode;
  }
  const stack = cause instanceof Error ? cause.stack ?? cause.message : String(cause);
  if (process.env['GENVIEW_LOG'] === 'json') log.error(cause instanceof Error ? `${cause.name}: ${cause.message}` : stack, { code: 'InternalError', stack });
  else log.error(stack);
  return ExitCode.Failure;
}
