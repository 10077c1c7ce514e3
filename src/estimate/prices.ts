import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { GenViewError } from '../errors.ts';
import { instanceTypeName } from './instanceTypes.ts';

/** The table of this package, as messages call it. */
export const pricesFile = 'src/estimate/prices.json';

/** More is a slip of the pen, and sums of it have no meaning. */
const amount = z.number().min(0).max(1e6);

/**
 * What AWS asks for, in US dollars: `prices.json`, or a copy of it that `--prices` names.
 *
 * Checked in November 2026 against what others have published of AWS's price list for us-east-1, with the dates below; the list itself was
 * not at hand. No figure was found to be wrong.
 */
const schema = z.strictObject({
  note: z.string().optional(),
  /** When they were read. */
  date: z.iso.date(),
  region: z.string().min(1),
  /**
   * Of an instance with all its GPUs. Of those that a deployment has without options: g5, g6, g6e by an answer of the Pricing API of 2026-08-17, g4dn by
   * several tables without a date. p4d, p4de, p5, p5en and g6e.48xlarge: a table made from the price list of 2026-07-28. The other sizes: two tables without a date, which agree.
   */
  onDemandPerHour: z.record(z.string().regex(instanceTypeName, 'is no instance type such as g5.2xlarge'), z.number().positive().max(1e6)),
  /**
   * Price of a spot instance, as a share of the one on demand. It moves all the time: in one state of SkyPilot's public catalogue the zones of us-east-1 were at
   * 0.42 to 0.45 for g5.xlarge, 0.43 to 0.50 for g6.xlarge and 0.45 to 0.59 for g6.2xlarge; the other types were not looked up.
   */
  spotShare: z.number().gt(0).max(1),
  /** Linux on x86: pages of March and April 2026. */
  fargateVcpuHour: amount,
  fargateGBHour: amount,
  /** gp3: tables of August 2026. */
  volumeGBMonth: amount,
  /** Pages of 2026; a GB that passes through it costs as much again, which the estimate leaves out: S3 has an endpoint of its own. */
  natPerHour: amount,
  /** S3 Standard, first 50 TB: tables of June 2026 and later. */
  storageGBMonth: amount,
  /** PUT and LIST, then GET: several tables, some without a date. */
  putsPerThousand: amount,
  getsPerThousand: amount,
  /** ARM, first tier: a page without a date, and 0.8 of the price on x86 in a page of 2026. */
  lambdaGBSecond: amount,
  /** Taken in by CloudWatch Logs: a table of June 2026. */
  logsPerGB: amount,
});

export type Prices = z.infer<typeof schema> & {
  /** Where they were read. @default the table of this package */
  readonly file?: string;
};

/** Throws `PricesInvalid`, which names every field that is wrong. @param file @default the table of this package */
export async function readPrices(file?: string): Promise<Prices> {
  const invalid = (what: string, cause?: unknown): GenViewError => new GenViewError('PricesInvalid', `--prices ${file ?? pricesFile}: ${what}; start from ${pricesFile}`, { cause });
  let value: unknown;
  try {
    value = parse(await readFile(file ?? new URL('prices.json', import.meta.url), 'utf8'));
  } catch (cause) {
    throw invalid((cause as Error).message, cause);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalid(parsed.error.issues.flatMap((issue) => explain(issue, value)).join('; '));
  return { ...parsed.data, ...(file !== undefined && { file }) };
}

function parse(text: string): unknown {
  try { return JSON.parse(text); } catch (error) {
    // What other programs write as JSON and is none: as text, so that the field is named.
    const mended = text.replace(/(?<=:\s*)-?(?:NaN|Infinity)(?=\s*[,}])/g, '"$&"');
    if (mended === text) throw error;
    return JSON.parse(mended);
  }
}

/** `onDemandPerHour["g5.xlarge"]` */
export const instanceTypeField = (type: string): string => `onDemandPerHour["${type}"]`;

function explain(issue: z.core.$ZodIssue, root: unknown): string[] {
  const field = issue.path.map((step, i) => i === 0 ? String(step) : `["${String(step)}"]`).join('') || 'the file';
  const value = issue.path.reduce<unknown>((at, step) => (at as Record<PropertyKey, unknown> | undefined)?.[step], root);
  const found = typeof value === 'number' ? String(value) : JSON.stringify(value);
  switch (issue.code) {
    case 'unrecognized_keys': return issue.keys.map((key) => `${key} is not a field of a price table, which has ${Object.keys(schema.shape).join(', ')}`);
    case 'invalid_key': return [`${field} ${issue.issues[0]!.message}`];
    case 'invalid_type': return [value === undefined ? `${field} is missing` : `${field} must be ${issue.expected === 'number' ? 'a number of dollars' : issue.expected === 'string' ? 'text' : 'a group of fields'}, not ${found}`];
    case 'too_small': return [`${field} must be ${issue.inclusive ? 'at least' : 'above'} ${issue.minimum}, not ${found}`];
    case 'too_big': return [`${field} must be at most ${issue.maximum}, not ${found}`];
    default: return [`${field}: ${issue.message}`];
  }
}
