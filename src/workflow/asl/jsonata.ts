import { createHash, randomUUID } from 'node:crypto';
import jsonata from 'jsonata';
import { Random } from '../../random.ts';
import type { Json, Template } from './definition.ts';
import { runtimeError, StatesError } from './errors.ts';

/** What an expression can see: `$states` and the variables in scope. */
export interface Bindings {
  readonly states: Json;
  readonly [variable: string]: Json;
}

/** Functions that JSONata itself provides, and those that Step Functions adds. */
const functions = new Set(['abs', 'append', 'assert', 'average', 'base64decode', 'base64encode', 'boolean', 'ceil', 'contains', 'count', 'decodeUrl',
  'decodeUrlComponent', 'distinct', 'each', 'encodeUrl', 'encodeUrlComponent', 'error', 'exists', 'filter', 'floor', 'formatBase', 'formatInteger', 'formatNumber',
  'fromMillis', 'join', 'keys', 'length', 'lookup', 'lowercase', 'map', 'match', 'max', 'merge', 'millis', 'min', 'not', 'now', 'number', 'pad', 'parseInteger',
  'power', 'reduce', 'replace', 'reverse', 'round', 'shuffle', 'sift', 'single', 'sort', 'split', 'spread', 'sqrt', 'string', 'substring',
  'substringAfter', 'substringBefore', 'sum', 'toMillis', 'trim', 'type', 'uppercase', 'zip',
  'partition', 'range', 'hash', 'random', 'uuid', 'parse']);

/** A parsed expression. */
export interface Compiled {
  /** Names (without `$`) that the expression reads from outside: `states` and variables. */
  readonly references: readonly string[];
  evaluate(bindings: Bindings): Promise<unknown>;
}

const compiled = new Map<string, Compiled>();

/** The expression of a `{% … %}` string; undefined for plain text. Throws `States.Runtime` for a string that mixes the two. */
export function expressionOf(text: string): string | undefined {
  if (/^\{%[\s\S]*%\}$/.test(text)) return text.slice(2, -2).trim();
  if (text.includes('{%') || text.includes('%}')) throw runtimeError(`a JSONata expression must be the whole string: ${text}`);
  return undefined;
}

/** Throws `States.Runtime` for a syntax error, `$eval`, and functions that do not exist. */
export function compileExpression(source: string): Compiled {
  const known = compiled.get(source);
  if (known) return known;
  let expression: jsonata.Expression;
  try {
    expression = jsonata(source);
  } catch (error) {
    throw runtimeError(`JSONata expression ${JSON.stringify(source)}: ${(error as Error).message}`);
  }
  const names = freeVariables(expression.ast());
  if (names.has('eval')) throw runtimeError(`JSONata expression ${JSON.stringify(source)}: $eval is not available in Step Functions; use $parse`);
  addStepFunctionsExtras(expression);
  const references = [...names].filter((name) => !functions.has(name));
  const result: Compiled = { references, evaluate: (bindings) => expression.evaluate(undefined, { ...bindings }) };
  compiled.set(source, result);
  return result;
}

/** Every expression in a template, checked and compiled. */
export function expressionsIn(template: Template): Compiled[] {
  if (typeof template === 'string') {
    const source = expressionOf(template);
    return source === undefined ? [] : [compileExpression(source)];
  }
  if (template === null || typeof template !== 'object') return [];
  return Object.values(template).flatMap((value) => expressionsIn(value as Template));
}

/**
 * Evaluates a template. An expression that gives nothing, a function, or a number JSON cannot hold fails with
 * `States.QueryEvaluationError`, and so does one that reads a variable that was never assigned.
 */
export async function evaluateTemplate(template: Template, bindings: Bindings): Promise<Json> {
  if (typeof template === 'string') {
    const source = expressionOf(template);
    return source === undefined ? template : evaluate(source, bindings);
  }
  if (template === null || typeof template !== 'object') return template;
  if (Array.isArray(template)) return Promise.all(template.map((item: Template) => evaluateTemplate(item, bindings)));
  const entries = Object.entries(template).map(async ([key, value]) => [key, await evaluateTemplate(value, bindings)] as const);
  return Object.fromEntries(await Promise.all(entries)) as Json;
}

async function evaluate(source: string, bindings: Bindings): Promise<Json> {
  const fail = (reason: string): never => { throw new StatesError('States.QueryEvaluationError', `The JSONata expression '${source}' ${reason}`); };
  const expression = compileExpression(source);
  const missing = expression.references.find((name) => !(name in bindings));
  if (missing !== undefined) fail(`reads the variable $${missing}, which has no value here`);
  let value: unknown;
  try {
    value = await expression.evaluate(bindings);
  } catch (error) {
    fail(`failed: ${(error as Error).message}`);
  }
  if (value === undefined) fail('returned nothing (undefined)');
  return toJson(value, (reason) => fail(`returned ${reason}`));
}

/** A plain copy of a JSON value; `refuse` is called for anything else. */
export function toJson(value: unknown, refuse: (reason: string) => never): Json {
  switch (typeof value) {
    case 'string': case 'boolean': return value;
    case 'number': return Number.isFinite(value) ? value : refuse(`the number ${value}`);
    case 'object':
      if (value === null) return null;
      if (Array.isArray(value)) return value.map((item) => toJson(item, refuse));
      if ('_jsonata_lambda' in value || '_jsonata_function' in value) return refuse('a function');
      return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined).map(([key, item]) => [key, toJson(item, refuse)]));
    default: return refuse(typeof value === 'undefined' ? 'nothing (undefined)' : `a ${typeof value}`);
  }
}

/** https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html, "JSONata functions provided by Step Functions". */
function addStepFunctionsExtras(expression: jsonata.Expression): void {
  expression.registerFunction('partition', (items: unknown[], size: number) => {
    if (!Number.isInteger(size) || size < 1) throw new Error('$partition: the chunk size must be a positive integer');
    return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
  });
  expression.registerFunction('range', (first: number, last: number, delta: number) => {
    if (![first, last, delta].every(Number.isInteger) || delta === 0) throw new Error('$range: needs integers, and a step that is not 0');
    const length = Math.max(0, Math.floor((last - first) / delta) + 1);
    if (length > 1000) throw new Error('$range: at most 1000 values');
    return Array.from({ length }, (_, i) => first + i * delta);
  });
  expression.registerFunction('hash', (data: unknown, algorithm: string) => {
    const name = { 'MD5': 'md5', 'SHA-1': 'sha1', 'SHA-256': 'sha256', 'SHA-384': 'sha384', 'SHA-512': 'sha512' }[algorithm];
    if (name === undefined) throw new Error('$hash: the algorithm is one of MD5, SHA-1, SHA-256, SHA-384, SHA-512');
    return createHash(name).update(typeof data === 'string' ? data : JSON.stringify(data)).digest('hex');
  });
  expression.registerFunction('random', (seed?: number) => (seed === undefined ? Math.random() : new Random(seed).uniform()));
  expression.registerFunction('uuid', () => randomUUID());
  expression.registerFunction('parse', (text: string) => JSON.parse(text) as unknown);
}

/** Names of variables and functions an expression uses but does not bind itself. */
function freeVariables(ast: unknown): Set<string> {
  const used = new Set<string>(), bound = new Set<string>();
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) { for (const child of node) visit(child); return; }
    if (node === null || typeof node !== 'object') return;
    const { type, value, arguments: parameters, lhs } = node as { type?: string; value?: unknown; arguments?: { value: string }[]; lhs?: { value: string } };
    if (type === 'lambda') for (const parameter of parameters ?? []) bound.add(parameter.value);
    if (type === 'bind' && lhs) bound.add(lhs.value);
    for (const key of ['focus', 'index'] as const) {
      const name = (node as Record<string, unknown>)[key];
      if (typeof name === 'string') bound.add(name);
    }
    if (type === 'variable' && typeof value === 'string' && value !== '' && value !== '$') used.add(value);
    for (const child of Object.values(node)) visit(child);
  };
  visit(ast);
  return new Set([...used].filter((name) => !bound.has(name)));
}
