import { availableParallelism } from 'node:os';
import { integer, nodeOf } from '../distributed/rendezvous.ts';
import { ExitCode, GenViewError } from '../errors.ts';
import { createLog } from '../log.ts';
import { exitWithParent, runProcess } from './batch/process.ts';

/** The processes of a multi-node job that run on this machine. */
export interface NodeProcesses {
  /** Rank of the first. */
  readonly first: number;
  /** How many run here; 1 where a machine has one process. */
  readonly count: number;
  /** Of the whole job. */
  readonly size: number;
}

/** More are a mistake. */
const mostProcesses = 999_999;

/**
 * Which processes this machine runs, from the variables of the job:
 *
 * | variable | meaning |
 * | --- | --- |
 * | GENVIEW_PROCESSES_PER_NODE | processes on a machine, one for each of its GPUs. @default 1 |
 * | GENVIEW_PROCESSES | processes of the whole job; the last machine may have fewer. @default machines times processes on each |
 * | AWS_BATCH_JOB_NODE_INDEX, AWS_BATCH_JOB_NUM_NODES, AWS_BATCH_JOB_MAIN_NODE_INDEX | which of how many machines this is |
 *
 * Throws `EnvironmentInvalid`.
 */
export function processesOfNode(env: NodeJS.ProcessEnv): NodeProcesses {
  const { rank, size: machines } = nodeOf(env), perNode = integer(env, 'GENVIEW_PROCESSES_PER_NODE', 1, 1);
  const size = integer(env, 'GENVIEW_PROCESSES', perNode * machines, 1), first = rank * perNode;
  if (perNode > mostProcesses || size > mostProcesses) throw new GenViewError('EnvironmentInvalid', `GENVIEW_PROCESSES_PER_NODE is ${perNode} and GENVIEW_PROCESSES ${size}: neither can be above ${mostProcesses}`);
  if (first >= size || size > perNode * machines) {
    throw new GenViewError('EnvironmentInvalid', `GENVIEW_PROCESSES is ${size}, but ${machines} machines with GENVIEW_PROCESSES_PER_NODE=${perNode} have ${perNode * (machines - 1) + 1} to ${perNode * machines}: start as many machines as the processes need`);
  }
  return { first, count: Math.min(perNode, size - first), size };
}

/** Variables of process `index` on this machine: a node of its own to the program, with a GPU of its own. */
export function variablesOf({ first, count, size }: NodeProcesses, index: number, env: NodeJS.ProcessEnv): Record<string, string> {
  const { GENVIEW_DEVICE: device = '', GENVIEW_THREADS: threads = '', GENVIEW_RENDEZVOUS_ADDRESS: address = '' } = env;
  return {
    AWS_BATCH_JOB_NODE_INDEX: String(first + index),
    AWS_BATCH_JOB_NUM_NODES: String(size),
    AWS_BATCH_JOB_MAIN_NODE_INDEX: '0',
    GENVIEW_PROCESSES_PER_NODE: '1',
    GENVIEW_PROCESSES: '',
    // Beside the process of rank 0, at the one address that it may have been told to listen on; elsewhere Batch says where that is.
    ...(first === 0 && index > 0 && { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: ['', '0.0.0.0', '::'].includes(address) ? '127.0.0.1' : address }),
    GENVIEW_DEVICE: device === '' || device === 'auto' || device === 'cuda' ? `cuda:${index}` : device,
    GENVIEW_THREADS: threads === '' ? String(Math.max(1, Math.floor(availableParallelism() / count))) : threads,
    // A process ends with this one.
    GENVIEW_PARENT: 'stdin',
  };
}

export interface RunOptions {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Stops all of them: SIGTERM, and SIGKILL after the grace time. */
  readonly signal: AbortSignal;
  /** Milliseconds. @default 28000, below the 30 s that Batch leaves a container */
  readonly grace?: number;
  readonly onLine: (line: string) => void;
}

/**
 * Runs this machine's processes until all have ended; when one fails, the others are stopped.
 * @returns 0 when all succeeded; else the code of a process that failed, of which one on another machine may have told it, before one of those that were stopped or lost a peer (75)
 */
export async function runNodeProcesses(processes: NodeProcesses, { file, args, env, signal, grace = 28_000, onLine }: RunOptions): Promise<number> {
  const failed = new AbortController(), stop = AbortSignal.any([signal, failed.signal]);
  let killed = Infinity;
  stop.addEventListener('abort', () => { killed = performance.now() + grace; }, { once: true });
  const ends = await Promise.all(Array.from({ length: processes.count }, async (_, index) => {
    const { exitCode } = await runProcess({ file, args, env: { ...env, ...variablesOf(processes, index, env) }, signal: stop, grace, onLine });
    if (exitCode !== 0) failed.abort(new Error(`process ${index} has failed`));
    // Whoever did not stop in time is killed by us, which says nothing of it. A timer may be a little early.
    return exitCode === 128 + 9 && performance.now() > killed - 20 ? ExitCode.TemporaryFailure : exitCode;
  }));
  const codes = ends.filter((code) => code !== 0);
  if (codes.length === 0) return 0;
  // Killed by a signal, as by the kernel for want of memory, counts as a failure of its own.
  return codes.find((code) => code !== ExitCode.TemporaryFailure && code < 128) ?? codes.find((code) => code > 128 && !signal.aborted && code !== 128 + 15) ?? ExitCode.TemporaryFailure;
}

/**
 * The whole of a container's `main.ts` whose program may run several times on one machine: as often as the variables of
 * {@link processesOfNode} say, each with the program's own arguments; `alone` where that is once. Ends the process, with what {@link runNodeProcesses} returns.
 */
export async function runOnNode(alone: () => Promise<never>, env: NodeJS.ProcessEnv = process.env): Promise<never> {
  const log = createLog();
  let processes: NodeProcesses;
  try { processes = processesOfNode(env); } catch (error) {
    if (!(error instanceof GenViewError)) throw error;
    log.error(error.message, { code: error.code });
    process.exit(error.exitCode);
  }
  if ((env['GENVIEW_PROCESSES_PER_NODE'] || '1') === '1') return alone();

  const { first, count, size } = processes, stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort(new Error(signal)));
  if (env['GENVIEW_PARENT'] === 'stdin') exitWithParent(() => stop.abort(new Error('the parent has ended')));
  log.info(`ranks ${first} to ${first + count - 1} of ${size} run on this machine`);
  process.exit(await runNodeProcesses(processes, {
    file: process.execPath, args: [...process.execArgv, ...process.argv.slice(1)], env, signal: stop.signal,
    onLine: (line) => process.stderr.write(`${line}\n`),
  }));
}
