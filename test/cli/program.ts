import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { vi } from 'vitest';
import { execute } from '../../src/cli/main.ts';

const program = fileURLToPath(new URL('../../bin/genview.mjs', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs the real command-line program in a child process.
 * @param options.interrupt asked all the time; once it is true, the process gets SIGINT
 */
export async function genview(args: readonly string[], options: { cwd?: string; interrupt?: () => boolean } = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [program, ...args], { cwd: options.cwd, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
  let stdout = '', stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text; });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text; });
  const poll = setInterval(() => { if (options.interrupt?.()) { clearInterval(poll); child.kill('SIGINT'); } }, 20);
  const [code] = await once(child, 'close') as [number | null];
  clearInterval(poll);
  return { code, stdout, stderr };
}

/** Runs a command line in this process, where a process of its own would only cost time. */
export async function genviewHere(args: readonly string[]): Promise<Outcome> {
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) => vi.spyOn(process[name], 'write').mockImplementation((chunk) => {
    written[name] += Buffer.from(chunk as string).toString();
    return true;
  }));
  try { return { code: await execute(['node', 'genview', ...args]), ...written }; } finally { for (const spy of spies) spy.mockRestore(); }
}
