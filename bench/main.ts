import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { createLog, type Log } from '../src/log.ts';
import { ExitCode, GenViewError } from '../src/errors.ts';

/** `npm run bench -- <name> [options]` runs `bench/<name>.ts`. */
const [name, ...args] = process.argv.slice(2);
try {
  const file = new URL(`${name}.ts`, import.meta.url);
  if (!name || name === 'main' || !/^[\w-]+$/.test(name) || !existsSync(file)) {
    const names = (await readdir(new URL('.', import.meta.url))).filter((n) => n.endsWith('.ts') && n !== 'main.ts').map((n) => n.slice(0, -3));
    throw new GenViewError('BenchUnknown', `npm run bench -- <name>, where name is one of: ${names.toSorted().join(', ')}`);
  }
  const bench = await import(file.href) as { run(args: string[], log: Log): Promise<void> };
  await bench.run(args, createLog());
} catch (error) {
  if (error instanceof GenViewError) console.error(`${error.code}: ${error.message}`); else console.error(error);
  process.exitCode = error instanceof GenViewError ? error.exitCode : ExitCode.Failure;
}
