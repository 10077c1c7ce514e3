import { LineCounter, isMap, isScalar, parseDocument, type Document } from 'yaml';
import type { z } from 'zod';
import { GenViewError } from '../errors.ts';
import { completeRecipe } from './defaults.ts';
import type { Recipe } from './recipe.ts';
import { impossibleCombinations, type Problem } from './rules.ts';
import { allFields, knownFields, recipeSchema } from './schema.ts';

type Path = readonly (string | number)[];

/**
 * Reads a recipe and fills in its defaults.
 * @param text YAML 1.2
 * @param source name of the file, for messages
 * @throws GenViewError `RecipeInvalid` that lists every problem, each on a line `file:line: field message`
 */
export function parseRecipe(text: string, source: string): Recipe {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    refuse(document.errors.map((error) => `${source}:${lines.linePos(error.pos[0]).line}: not valid YAML: ${error.message.replace(/\s+/g, ' ')}`));
  }
  let value: unknown;
  try {
    value = withoutNulls(document.toJS());
  } catch (error) {
    refuse([`${source}:1: not valid YAML: ${(error as Error).message}`]);
  }
  if (value === undefined) refuse([`${source}:1: the file is empty; \`genview init\` writes a recipe to start from`]);
  if (typeof value !== 'object' || Array.isArray(value)) refuse([`${source}:1: a recipe is a list of \`field: value\` lines; this is ${describe(value)}`]);

  const report = (problems: readonly Problem[]): never => refuse(problems
    .map(({ path, message }) => ({ line: lineOf(document, lines, path), text: `${formatPath(path)}: ${message}` }))
    .toSorted((a, b) => a.line - b.line)
    .map(({ line, text: problem }) => `${source}:${line}: ${problem}`));

  const parsed = recipeSchema.safeParse(value);
  if (!parsed.success) return report(parsed.error.issues.flatMap((issue) => explain(issue, value)));
  const recipe = completeRecipe(parsed.data);
  const impossible = impossibleCombinations(parsed.data, recipe);
  return impossible.length > 0 ? report(impossible) : recipe;
}

function refuse(problems: readonly string[]): never {
  throw new GenViewError('RecipeInvalid', [...new Set(problems)].join('\n'));
}

/** A field without a value (`evaluation:` with all its lines commented out) counts as left out. */
function withoutNulls(value: unknown): unknown {
  if (value === null) return undefined;
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value as object).map(([key, part]) => [key, withoutNulls(part)] as const).filter(([, part]) => part !== undefined));
}

function explain(issue: z.core.$ZodIssue, root: unknown): Problem[] {
  const path = issue.path as Path;
  const value = at(root, path);
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({ path: [...path, key], message: `is not a field of a recipe${suggest(key, path)}` }));
    case 'invalid_union':
      return explainNoise(path, value);
    case 'invalid_type':
      if (value === undefined) return [{ path, message: 'is missing' }];
      return [{ path, message: `must be ${typeName(issue.expected)}, not ${describe(value)}` }];
    case 'invalid_value':
      return [{ path, message: value === undefined ? 'is missing' : `must be ${oneOf(issue.values.map(String))}, not ${describe(value)}${closest(value, issue.values.map(String))}` }];
    case 'too_small':
      if (issue.origin === 'array') return [{ path, message: `needs at least ${issue.minimum} ${Number(issue.minimum) === 1 ? 'entry' : 'entries'}, not ${(value as unknown[]).length}` }];
      if (issue.origin === 'string') return [{ path, message: issue.message }];
      return [{ path, message: `must be ${issue.inclusive ? 'at least' : 'greater than'} ${issue.minimum}, not ${describe(value)}` }];
    case 'too_big':
      if (issue.origin === 'array') return [{ path, message: `takes ${issue.maximum} entries, not ${(value as unknown[]).length}` }];
      return [{ path, message: `must be ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}, not ${describe(value)}` }];
    default:
      return [{ path, message: `${issue.message}; it is ${describe(value)}` }];
  }
}

/** `noise` is the one field with several forms. */
function explainNoise(path: Path, value: unknown): Problem[] {
  const forms = 'adaptive, random, or { constant: <level from 0 to 999> }';
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    const record = value as Record<string, unknown>;
    const known = knownFields(path);
    const unknown = Object.keys(record).filter((key) => !known.includes(key));
    if (unknown.length > 0) return unknown.map((key) => ({ path: [...path, key], message: `is not a field of a recipe${suggest(key, path)}` }));
    for (const key of ['constant', 'level']) {
      if (record[key] === undefined) continue;
      const level = record[key];
      if (!Number.isInteger(level) || (level as number) < 0 || (level as number) > 999) {
        return [{ path: [...path, key], message: `must be a whole number from 0 to 999, not ${describe(level)}` }];
      }
    }
  }
  return [{ path, message: `must be ${forms}, not ${describe(value)}${closest(value, ['adaptive', 'random'])}` }];
}

function at(root: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<string | number, unknown> | undefined)?.[key], root);
}

const typeName = (expected: string): string => ({
  int: 'a whole number', number: 'a number', string: 'text', boolean: 'true or false', array: 'a list', tuple: 'a list', object: 'a group of fields',
}[expected] ?? expected);

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return `the text "${value.length > 60 ? value.slice(0, 57) + '…' : value}"`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value !== null && typeof value === 'object') return 'a group of fields';
  return JSON.stringify(value);
}

const oneOf = (values: readonly string[]): string => values.length > 1 ? `${values.slice(0, -1).join(', ')} or ${values.at(-1)}` : String(values[0]);

const formatPath = (path: Path): string => path.map((step, i) => typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`).join('') || 'the recipe';

/** The field most like `key` in the same group, else one of that name elsewhere, else all that may stand here. */
function suggest(key: string, group: Path): string {
  const here = knownFields(group);
  const near = closest(key, here, group);
  if (near) return near;
  const everywhere = allFields();
  // A variant takes settings under `pretraining`, as the recipe does.
  const prefix = group[0] === 'variants' ? group.slice(0, 2) : [];
  const elsewhere = everywhere.filter((field) => field.split('.').at(-1)?.toLowerCase() === key.toLowerCase())
    .toSorted((a, b) => Number(!a.startsWith('pretraining')) - Number(!b.startsWith('pretraining')));
  if (elsewhere[0]) {
    const target = prefix.length > 0 && elsewhere[0].startsWith('pretraining') ? formatPath([...prefix, ...elsewhere[0].split('.')]) : elsewhere[0];
    return `; did you mean ${target}?`;
  }
  return here.length > 0 ? `; ${formatPath(group)} takes ${oneOf(here)}` : '';
}

function closest(word: unknown, candidates: readonly string[], group: Path = []): string {
  if (typeof word !== 'string') return '';
  const ranked = candidates.map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance);
  const best = ranked[0];
  if (!best) return '';
  const related = best.distance <= Math.max(2, Math.floor(best.candidate.length / 3))
    || (word.length >= 3 && best.candidate.toLowerCase().startsWith(word.toLowerCase()));
  return related ? `; did you mean ${formatPath([...group, best.candidate])}?` : '';
}

/** Levenshtein. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

/** Line of the key at `path`, or of its nearest ancestor that the file has. */
function lineOf(document: Document, lines: LineCounter, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const parent = document.getIn(path.slice(0, length - 1), true) ?? document.contents;
    const last = path[length - 1]!;
    const offset = isMap(parent)
      ? parent.items.map(({ key }) => key).find((key) => isScalar(key) && String(key.value) === String(last))
      : document.getIn(path.slice(0, length), true);
    const range = (offset as { range?: [number, number, number] | null } | undefined)?.range;
    if (range) return lines.linePos(range[0]).line;
  }
  return 1;
}
