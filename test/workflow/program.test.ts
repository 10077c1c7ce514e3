import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const program = fileURLToPath(new URL('fixtures/program.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'program-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Standard error (without progress lines) and the exit status. */
function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<[number | null, string]> {
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], { env: { ...process.env, FIXTURE_FOLDER: folder, ...env }, stdio: ['ignore', 'inherit', 'pipe'] });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (part: string) => { text += part; });
  return new Promise((resolve) => { child.on('close', (code) => resolve([code, text])); });
}

describe('a program', () => {
  it.concurrent.each<[string, string[], NodeJS.ProcessEnv, string]>([
    ['no stage', [], {}, 'no stage given; usage: <fit-foreground | analyze-foreground | pretrain> --run <url> [--variant <name>]'],
    ['a stage of another image', ['linear-probe', '--run', 'r', '--variant', 'v'], {}, '"linear-probe" is not a stage of this program'],
    ['no run', ['fit-foreground'], {}, '--run is missing'],
    ['no variant', ['pretrain', '--run', 'r'], {}, 'pretrain needs --variant'],
    ['no shard', ['analyze-foreground', '--run', 'r'], {}, 'AWS_BATCH_JOB_ARRAY_INDEX must be its number, not ""'],
    ['an unknown executor', ['fit-foreground', '--run', 'r'], { GENVIEW_EXECUTOR: 'cuda' }, 'GENVIEW_EXECUTOR is "cuda"; give onnxruntime or tensorflow'],
    ['a device that is not there', ['fit-foreground', '--run', 'r'], { GENVIEW_DEVICE: 'cuda:99' }, 'device cuda:99 cannot be had: '],
    ['an unknown option', ['fit-foreground', '--run', 'r', '--shard', '1'], {}, "Unknown option '--shard'"],
  ])('refuses %s in one line, with exit status 2', async (_name, args, env, message) => {
    const [code, text] = await run(args, env);
    expect(code).toBe(2);
    expect(text).toContain(message);
    expect(text.trim().split('\n')).toHaveLength(1);
  });

  it.concurrent('ends with the exit status and one line of a GenViewError', async () => {
    const [code, text] = await run(['fit-foreground', '--run', 'r'], { FIXTURE_BEHAVIOUR: 'always-75' });
    expect([code, text.trim().split('\n').at(-1)]).toEqual([75, 'error: rank 1 is gone']);
  });

  it.concurrent('ends with 1 and the stack of anything else', async () => {
    const [code, text] = await run(['fit-foreground', '--run', 'r'], { FIXTURE_BEHAVIOUR: 'defect' });
    expect(code).toBe(1);
    expect(text).toMatch(/error: TypeError: cannot read undefined\n +at /);
  });

  it.concurrent('ends with 0 when done, though its parent gives it no standard input', async () => {
    expect((await run(['fit-foreground', '--run', 'r']))[0]).toBe(0);
  });
});
