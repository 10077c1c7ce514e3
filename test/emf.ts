import { z } from 'zod';

/**
 * The rules that CloudWatch publishes for its embedded metric format ("Specification: Embedded metric format" in the CloudWatch
 * user guide): the metadata object, and that everything it names is a member of the line's root.
 */
const sizes = ['Bytes', 'Kilobytes', 'Megabytes', 'Gigabytes', 'Terabytes', 'Bits', 'Kilobits', 'Megabits', 'Gigabits', 'Terabits', 'Count'];
const units = ['Seconds', 'Microseconds', 'Milliseconds', 'Percent', 'None', ...sizes, ...sizes.map((size) => `${size}/Second`)];
const metadata = z.strictObject({
  Timestamp: z.int().positive(),
  CloudWatchMetrics: z.array(z.strictObject({
    Namespace: z.string().min(1).max(1024),
    Dimensions: z.array(z.array(z.string().min(1).max(250)).max(30)).min(1),
    Metrics: z.array(z.strictObject({ Name: z.string().min(1).max(1024), Unit: z.enum(units).optional(), StorageResolution: z.literal([1, 60]).optional() })).min(1).max(100),
  })).min(1),
});

export interface EmbeddedMetric {
  readonly namespace: string;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly name: string;
  readonly unit: string | undefined;
  readonly value: number;
}

/** The metrics that CloudWatch makes of a log line, none of a line without `_aws`. Throws where the line breaks a rule. */
export function metricsOf(line: string): EmbeddedMetric[] {
  const root = JSON.parse(line) as Record<string, unknown>;
  if (root['_aws'] === undefined) return [];
  if (Buffer.byteLength(line) > 256 * 1024) throw new Error('longer than a log event may be');
  const { Timestamp, CloudWatchMetrics } = metadata.parse(root['_aws']);
  // Older than two weeks or more than two hours ahead is refused.
  if (Timestamp < Date.now() - 14 * 86_400_000 || Timestamp > Date.now() + 2 * 3_600_000) throw new Error(`time stamp ${Timestamp}`);
  return CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) => Dimensions.flatMap((names) => {
    const dimensions = Object.fromEntries(names.map((name) => [name, z.string().min(1).max(1024).parse(root[name])]));
    return Metrics.map(({ Name, Unit }) => ({ namespace: Namespace, dimensions, name: Name, unit: Unit, value: z.number().parse(root[Name]) }));
  }));
}
