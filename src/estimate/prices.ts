import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { GenViewError } from '../errors.ts';

const amount = z.number().min(0);

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
  region: z.string(),
  /** Instance types of `constants.ts`. g5, g6, g6e: an answer of the Pricing API of 2026-08-17; g4dn: several tables without a date. */
  onDemandPerHour: z.record(z.string(), z.number().positive()),
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

export type Prices = z.infer<typeof schema>;

/** Throws `PricesInvalid`. @param file @default the table of this package */
export async function readPrices(file?: string): Promise<Prices> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file ?? new URL('prices.json', import.meta.url), 'utf8'));
  } catch (cause) {
    throw new GenViewError('PricesInvalid', `--prices ${file}: ${(cause as Error).message}; start from src/estimate/prices.json`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new GenViewError('PricesInvalid', `${file ?? 'prices.json'}: ${parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}; start from src/estimate/prices.json`);
  }
  return parsed.data;
}
