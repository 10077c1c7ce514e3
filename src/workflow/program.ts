import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { tellFailure } from '../distributed/rendezvous.ts';
import { ExitCode, GenViewError } from '../errors.ts';
import { createLog, formatSeconds, type Log } from '../log.ts';
import type { StageContext } from '../stages/contract.ts';
import { exitWithParent } from './batch/process.ts';
import { health } from './health.ts';
import { watchSpotNotice, type SpotNotice } from './spotNotice.ts';
import { batchStages, isProgramName, type ProgramName } from './stages.ts';

/** Loads the function of one stage; nothing of the other stages is imported. Its input is RunInput, ShardInput or VariantInput. */
export type LoadStage = () => Promise<(input: never, context: StageContext) => Promise<unknown>>;

/** Milliseconds from SIGTERM to the end, for a stage that does not notice; below the 30 s that Batch leaves a container. */
const patience = 25_000;
/** Milliseconds kept before the end of a spot instance for stopping in good order. */
const reserve = 30_000;

/**
 * The whole of a container's `main.ts`: `<stage> --run <url> [--variant <name>]`, with the shard in
 * AWS_BATCH_JOB_ARRAY_INDEX, the threads in GENVIEW_THREADS, the device in GENVIEW_DEVICE and the executor in GENVIEW_EXECUTOR.
 * With GENVIEW_METRICS=emf and GENVIEW_LOG=json measurements are metrics of CloudWatch, of the main node alone where there are several,
 * and of the deployment that GENVIEW_DEPLOYMENT names.
 * Ends the process: 0 when done; a GenViewError's own code, with one line; 75 when stopped by SIGTERM, SIGINT, the notice that the spot
 * instance ends, or the end of its parent; 1 with a stack for anything else. One of several nodes that fails before its stage has begun
 * tells the main node first; a stage does so itself.
 */
export async function runProgram(stages: Readonly<Partial<Record<ProgramName, LoadStage>>>, argv: readonly string[] = process.argv.slice(2), env: NodeJS.ProcessEnv = process.env): Promise<never> {
  const start = performance.now();
  const stop = new AbortController();
  const main = (env['AWS_BATCH_JOB_NODE_INDEX'] ?? '0') === (env['AWS_BATCH_JOB_MAIN_NODE_INDEX'] ?? '0');
  const fields = identity(argv, env);
  const { GENVIEW_METRICS: metrics, GENVIEW_DEPLOYMENT: deployment } = env;
  const log = createLog(fields, process.stderr, metrics === 'emf' && main ? { metricsOf: { stage: String(fields['stage']), ...(deployment && { deployment }) } } : {});
  const halt = (reason: string): void => {
    if (stop.signal.aborted) return;
    stop.abort(new GenViewError('Stopped', `stopped: ${reason}; run the same command again to continue`, { exitCode: ExitCode.TemporaryFailure }));
    setTimeout(() => process.exit(ExitCode.TemporaryFailure), patience).unref();
  };
  process.on('SIGTERM', () => halt('SIGTERM'));
  process.on('SIGINT', () => halt('interrupted'));
  // Set by the local runner: nobody is left to wait for the result, so there is no reason to go on.
  if (env['GENVIEW_PARENT'] === 'stdin') exitWithParent(() => process.exit(ExitCode.TemporaryFailure));

  let begun = false;
  try {
    const { name, load, input } = parse(stages, argv, env);
    const { text, ...facts } = await health(Number(env['GENVIEW_THREADS'] ?? availableParallelism()), env);
    log.info(`${name}, attempt ${fields['attempt']}: ${text}`, { quiet: true, ...facts });
    const interrupt = ({ action, time }: SpotNotice): void => {
      const reason = `EC2 will ${action} this spot instance at ${time.toISOString()}`;
      const left = time.getTime() - Date.now() - reserve;
      // A shard has no checkpoints: what is nearly done is better finished than begun again.
      if (batchStages[name].shape !== 'array' || !(left > 0)) { halt(reason); return; }
      log.warn(`${reason}: the shard has ${formatSeconds(left / 1000)} to be finished`);
      setTimeout(() => halt(reason), left).unref();
    };
    void watchSpotNotice({ signal: stop.signal, log, env }).then((notice) => notice && interrupt(notice));
    const stage = await load();
    begun = true;
    await stage(input as never, { signal: stop.signal, log, threads: facts.threads });
    const stageDuration = (performance.now() - start) / 1000;
    log.info(`${name}: done in ${formatSeconds(stageDuration)}`, { quiet: true }, { stageDuration });
  } catch (error) {
    // A stage that was stopped may fail by whatever it was doing at the time.
    const cause = stop.signal.aborted ? stop.signal.reason as unknown : error, status = report(cause, log);
    if (!begun) await tellFailure(cause, env);
    process.exit(status);
  }
  process.exit(ExitCode.Ok);
}

/** What every line of the log says: which part of which run this is. As far as the arguments tell, which may be wrong ones. */
function identity(argv: readonly string[], env: NodeJS.ProcessEnv): Record<string, string | number> {
  const { values, positionals } = parseArgs({ args: [...argv], allowPositionals: true, strict: false, options: { run: { type: 'string' }, variant: { type: 'string' } } });
  const run = typeof values['run'] === 'string' ? /([^/]+)\/*$/.exec(values['run'])?.[1] : undefined;
  const number = (name: string): number | undefined => /^\d+$/.test(env[name] ?? '') ? Number(env[name]) : undefined;
  return Object.fromEntries(Object.entries({
    run,
    stage: positionals[0],
    shard: number('AWS_BATCH_JOB_ARRAY_INDEX'),
    variant: typeof values['variant'] === 'string' ? values['variant'] : undefined,
    node: number('AWS_BATCH_JOB_NODE_INDEX'),
    attempt: number('AWS_BATCH_JOB_ATTEMPT') ?? 1,
  }).filter((entry): entry is [string, string | number] => entry[1] !== undefined));
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

function report(cause: unknown, log: Log): number {
  if (cause instanceof GenViewError) {
    log.error(cause.message, { code: cause.code });
    return cause.exitCode;
  }
  const stack = cause instanceof Error ? cause.stack ?? cause.message : String(cause);
  if (process.env['GENVIEW_LOG'] === 'json') log.error(cause instanceof Error ? `${cause.name}: ${cause.message}` : stack, { code: 'InternalError', stack });
  else log.error(stack);
  return ExitCode.Failure;
}
