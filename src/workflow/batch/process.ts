import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';

export interface ProcessOptions {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Ends the process: SIGTERM, and SIGKILL after the grace time. */
  readonly signal: AbortSignal;
  /** Milliseconds from SIGTERM to SIGKILL. */
  readonly grace: number;
  /** Milliseconds; ends the process in the same way. */
  readonly timeout?: number;
  /** Called with each line of standard output and standard error. */
  readonly onLine: (line: string) => void;
}

export interface ProcessEnd {
  /** 128 + signal number where a signal ended the process, as a shell or a container runtime counts. */
  readonly exitCode: number;
  readonly signal?: NodeJS.Signals;
  readonly timedOut: boolean;
}

const signalNumbers: Partial<Record<NodeJS.Signals, number>> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGILL: 4, SIGABRT: 6, SIGBUS: 7, SIGFPE: 8, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 };

/**
 * Runs a program in a process group of its own, so that ending it ends whatever it started, and a Ctrl-C on the
 * terminal reaches only us. Its standard input is a pipe that nothing is written to: it closes when this process
 * dies, however it dies, and the program can tell by that (see `exitWithParent`). Rejects only when the program cannot be started.
 */
export function runProcess(options: ProcessOptions): Promise<ProcessEnd> {
  return new Promise((resolve, reject) => {
    const child = spawn(options.file, options.args, { env: options.env, stdio: ['pipe', 'pipe', 'pipe'], detached: true, windowsHide: true });
    let timedOut = false;
    let killer: NodeJS.Timeout | undefined;
    const kill = (signal: NodeJS.Signals): void => {
      if (child.pid === undefined) return;
      try { process.kill(-child.pid, signal); } catch { /* the group is gone already */ }
    };
    const end = (): void => {
      kill('SIGTERM');
      killer ??= setTimeout(() => kill('SIGKILL'), options.grace);
    };
    const timer = options.timeout === undefined ? undefined : setTimeout(() => { timedOut = true; end(); }, options.timeout);
    const settle = (): void => {
      clearTimeout(timer);
      clearTimeout(killer);
      options.signal.removeEventListener('abort', end);
    };
    readLines(child.stdout, options.onLine);
    readLines(child.stderr, options.onLine);
    // Writing nothing, we only meet an error here when the child closed its end first.
    child.stdin.on('error', () => undefined);
    child.on('error', (error) => { if (child.pid === undefined) { settle(); reject(error); } });
    // A grandchild would keep the pipes, and with them 'close', open.
    child.on('exit', () => kill('SIGKILL'));
    child.on('close', (code, signal) => {
      settle();
      resolve({ exitCode: code ?? 128 + (signalNumbers[signal!] ?? 0), timedOut, ...(signal && { signal }) });
    });
    if (options.signal.aborted) end(); else options.signal.addEventListener('abort', end, { once: true });
  });
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) onLine(line.replace(/\r$/, ''));
  });
  stream.on('end', () => { if (rest !== '') onLine(rest); });
}

/**
 * For the program at the other end: calls `leave` when the parent died. Standard input does not keep the program alive.
 */
export function exitWithParent(leave: () => void): void {
  process.stdin.on('end', leave);
  process.stdin.on('close', leave);
  process.stdin.on('error', leave);
  process.stdin.resume();
  (process.stdin as unknown as { unref?: () => void }).unref?.();
}
