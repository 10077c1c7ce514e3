import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../../../bin/genview.mjs', import.meta.url));

export interface Outcome {
  /** null: a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
}

/** Starts `genview run <recipe> --store <store>`, the real program. */
export function startRun(recipe: string, store: string, env: NodeJS.ProcessEnv = {}): Running {
  const since = performance.now();
  const child = spawn(process.execPath, [program, 'run', recipe, '--store', store], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1', ...env } });
  let stdout = '', stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text; });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text; });
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr, seconds: (performance.now() - since) / 1000 }));
  });
  return { child, ended };
}

export function run(recipe: string, store: string, env?: NodeJS.ProcessEnv): Promise<Outcome> {
  return startRun(recipe, store, env).ended;
}

/** Kills a run, and nothing but its own process, as soon as `moment` is true. Throws when the run ends before. */
export async function killWhen(running: Running, moment: () => boolean): Promise<void> {
  while (!moment()) {
    if (running.child.exitCode !== null) throw new Error(`the run ended before the moment to kill it:\n${(await running.ended).stderr}`);
    await sleep(5);
  }
  running.child.kill('SIGKILL');
  await running.ended;
}

/** Command lines of the processes that mention a folder. */
export function processesOf(folder: string): string[] {
  const lines = existsSync('/proc/self/cmdline')
    ? readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).map((pid) => {
      try { return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`; } catch { return ''; }
    })
    : execFileSync('ps', ['-A', '-ww', '-o', 'pid=,args='], { encoding: 'utf8' }).split('\n');
  return lines.filter((line) => line.includes(folder));
}

/** Waits until no process mentions the folder, at most a minute; gives those that still do. */
export async function processesLeft(folder: string): Promise<string[]> {
  for (let i = 0; i < 600 && processesOf(folder).length > 0; i++) await sleep(100);
  return processesOf(folder);
}

/** The line that ends a failed run, after checking that nothing looks like a stack trace. */
export function complaint({ stderr }: Outcome): string {
  const lines = stderr.trimEnd().split('\n');
  const trace = lines.find((line) => /^\s+at |unexpected failure|Error:/.test(line));
  return trace === undefined ? lines.at(-1)! : `not one line for a person:\n${stderr}`;
}
