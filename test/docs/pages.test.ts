import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/main.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const pages = ['README.md', ...readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)].toSorted();
const textOf = (page: string): string => readFileSync(path.join(root, page), 'utf8');
const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };

const withoutBlocks = (text: string): string => text.replaceAll(/^ *```[\s\S]*?^ *```/gm, '');

/** Code of a page: lines of its blocks, and what stands between backticks. */
function codeOf(text: string): string[] {
  const blocks = [...text.matchAll(/^ *```\w*\n([\s\S]*?)^ *```/gm)].flatMap(([, block]) => block!.replaceAll('\\\n', ' ').split('\n'));
  return [...blocks, ...[...withoutBlocks(text).matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!)];
}

/** GitHub's anchors of the headings. */
function anchorsOf(text: string): Set<string> {
  return new Set([...text.matchAll(/^#+ (.+)$/gm)].map(([, title]) => title!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-')));
}

/** Rows of tables with more or fewer cells than their head: what is too much is not shown. */
function unevenRows(text: string): string[] {
  const cells = (row: string): number => row.replaceAll('\\|', '').split('|').length - 2;
  const tables = [...withoutBlocks(text).matchAll(/(?:^ *\|.*\| *(?:\n|$))+/gm)].map(([table]) => table.trimEnd().split('\n'));
  return tables.flatMap(([head, ...rows]) => rows.filter((row) => cells(row) !== cells(head!)));
}

/** What a command line of ours has that the program does not. */
function unknownIn(line: string): string[] {
  const [, given] = /(?:^|\s)genview ((?:[^\s]+ ?)*)/.exec(line.replace(/\s+#.*$/, '')) ?? [];
  const words = (given ?? '').split(' ').filter((word) => word !== '');
  if (words.length === 0) return [];
  const alternatives = words.filter((word, i) => i === 0 || words[i - 1] === '|');
  // `genview status | logs | cancel`: each of them, with all that stands behind.
  return (words[1] === '|' ? alternatives : [words[0]!]).flatMap((name) => {
    let command: Command | undefined = createProgram().commands.find((known) => known.name() === name);
    if (command === undefined) return /^[a-z]/.test(name) ? [name] : [];
    const nested = command.commands.find((known) => known.name() === words[1]);
    if (nested) command = nested;
    else if (command.commands.length > 0) return [`${name} ${words[1] ?? ''}`];
    const known = new Set(['--help', ...command.options.map(({ long }) => long)]);
    return words.map((word) => /^\[?(--[a-z-]+)/.exec(word)?.[1]).filter((option) => option !== undefined && !known.has(option)).map((option) => `${name} ${option}`);
  });
}

describe.each(pages)('%s', (page) => {
  const text = textOf(page), code = codeOf(text), folder = path.dirname(path.join(root, page));

  it('links to what there is', () => {
    const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!).filter((link) => !/^[a-z]+:/.test(link)).filter((link) => {
      const [file, anchor] = link.split('#') as [string, string | undefined];
      const target = file === '' ? path.join(root, page) : path.join(folder, file);
      return !existsSync(target) || (anchor !== undefined && !anchorsOf(readFileSync(target, 'utf8')).has(anchor));
    });
    expect(broken).toEqual([]);
  });

  it('names scripts, benchmarks and files that exist', () => {
    const runs = code.flatMap((line) => [...line.matchAll(/npm run ([\w:-]+)(?: -- (\w[\w-]*))?/g)]);
    expect(runs.filter(([, script]) => scripts[script!] === undefined).map(([run]) => run)).toEqual([]);
    const benches = code.flatMap((line) => [...line.matchAll(/(?<![\w-])bench -- ([\w-]+)([^`]*)/g)]);
    expect(benches.filter(([, name]) => !existsSync(path.join(root, 'bench', `${name}.ts`))).map(([bench]) => bench)).toEqual([]);
    // Their options stand in `parseArgs({ options: { threads: …, 'neighbours-only': … } })`.
    expect(benches.flatMap(([, name, rest]) => [...rest!.matchAll(/(?<=\s)--([a-z-]+)/g)].filter(([, option]) => !new RegExp(`'?\\b${option}'?: \\{ type:`).test(textOf(`bench/${name}.ts`))).map(([option]) => `${name} ${option}`))).toEqual([]);
    const files = code.flatMap((line) => [...line.matchAll(/(?<![\w/.:<-])(?:src|test|bench|infra|containers|lambdas|models|recipes|docs)\/[\w./-]*\w/g)].map(([file]) => file));
    // What users make, and the name of a function in a file.
    const others = /^(recipes\/data|lambdas\/report\/handler\.handler$)/;
    expect(files.filter((file) => !others.test(file) && !existsSync(path.join(root, file)))).toEqual([]);
  });

  it('has tables whose rows are as wide as their heads', () => {
    expect(unevenRows(text)).toEqual([]);
    // Of every line that begins as a row: one without its last bar would not be looked at.
    expect(withoutBlocks(text).split('\n').filter((line) => /^ *\|/.test(line) && !/\| *$/.test(line))).toEqual([]);
  });

  it('names commands and options that the program has', () => {
    expect(code.flatMap(unknownIn)).toEqual([]);
  });
});

it('would tell what is wrong', () => {
  expect(unknownIn('npx genview submit recipe.yaml --uplaod   # copies --nothing')).toEqual(['submit --uplaod']);
  expect(unknownIn('genview status | logs | abort <run> --cloud')).toEqual(['abort']);
  expect(unknownIn('genview dataset unpack-cifar100 x y')).toEqual(['dataset unpack-cifar100']);
  expect(unevenRows('| a | b |\n| --- | --- |\n| 1 | 2 | 3 |\n| `x \\| y` | 2 |\n\n| c |\n| - |\n| 1 |\n')).toEqual(['| 1 | 2 | 3 |']);
  expect(anchorsOf('## What is not tested\n# A `b` & c')).toEqual(new Set(['what-is-not-tested', 'a-b--c']));
});
