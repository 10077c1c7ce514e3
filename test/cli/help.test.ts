import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/main.ts';

function commands(command: Command, path: readonly string[] = []): { path: readonly string[]; command: Command }[] {
  return [{ path, command }, ...command.commands.flatMap((child) => commands(child, [...path, child.name()]))];
}

/** What `genview <path> --help` prints. */
async function help(path: readonly string[]): Promise<string> {
  const program = createProgram();
  let text = '';
  for (const { command } of commands(program)) command.configureOutput({ writeOut: (part) => { text += part; }, getOutHelpWidth: () => 80 });
  await expect(program.parseAsync(['node', 'genview', ...path, '--help'])).rejects.toMatchObject({ exitCode: 0 });
  return text;
}

const all = commands(createProgram());

it('the commands are those of the documentation', () => {
  expect(all.map(({ path }) => path.join(' '))).toEqual([
    '', 'demo', 'init', 'validate', 'run', 'submit', 'ls', 'status', 'logs', 'report', 'cancel',
    'dataset', 'dataset render-demo', 'dataset unpack-cifar10', 'dataset unpack-tiny-imagenet',
    'models', 'models list', 'models train-demo', 'stage', 'worker', 'doctor',
  ]);
});

describe.each(all.map(({ path, command }) => [`genview ${path.join(' ')} --help`.replace('  ', ' '), path, command] as const))('%s', (_name, path, command) => {
  it('says what the command does, its arguments and options, within 80 columns', async () => {
    const text = await help(path);
    expect(text).toContain(`Usage: ${['genview', ...path].join(' ')} `);
    expect(text.split('\n')[2]).toMatch(/^[A-Z].{20}/);
    for (const argument of command.registeredArguments) expect(argument.description).not.toBe('');
    for (const option of command.options) expect(option.description).not.toBe('');
    // Examples and lists of choices may be longer.
    for (const line of text.slice(0, text.search(/\n(Examples|Start here):/)).split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  // A group of commands has its examples in the commands.
  if (path.length > 0 && command.commands.length === 0) {
    it('shows examples', async () => {
      const text = await help(path);
      expect(text.slice(text.indexOf('Examples:'))).toMatch(/\n {2}(genview|npm run) /);
    });
  }
});
