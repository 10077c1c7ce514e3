import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { GenViewError } from '../errors.ts';

const amount = z.number().min(0);

/** What AWS asks for, in US dollars: `prices.json`, or a copy of it that `--prices` names. */
const schema = z.strictObject({
  note: z.string().optional(),
  /** When they were read. */
  date: z.iso.date(),
  region: z.string(),
  /** Instance types of `constants.ts`. */
  onDemandPerHour: z.record(z.string(), z.number().positive()),
  /** Price of a spot instance, as a share of the one on demand. */
  spotShare: z.number().gt(0).max(1),
  fargateVcpuHour: amount,
  fargateGBHour: amount,
  /** gp3 */
  volumeGBMonth: amount,
  natPerHour: amount,
  /** S3 Standard. */
  storageGBMonth: amount,
  putsPerThousand: amount,
  getsPerThousand: amount,
  /** ARM. */
  lambdaGBSecond: amount,
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
