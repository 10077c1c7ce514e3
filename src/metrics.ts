/** Namespace of every metric of ours in CloudWatch. */
export const metricsNamespace = 'GenView';

/** What a program measures while it works. */
export interface Measurements {
  /** Of this process, since its last line. */
  readonly imagesPerSecond?: number;
  readonly loss?: number;
  /** Seconds from the start of a program to its end, where it ended well. */
  readonly stageDuration?: number;
}

/** Whose measurements they are: the dimensions of a metric. */
export interface MetricDimensions {
  readonly stage: string;
  /** Name of the deployment, which keeps its curves apart from those of another one in the account. @default none, and no such dimension */
  readonly deployment?: string;
}

const definitions: Readonly<Record<keyof Measurements, { readonly Name: string; readonly Unit: string }>> = {
  imagesPerSecond: { Name: 'ImagesPerSecond', Unit: 'Count/Second' },
  loss: { Name: 'Loss', Unit: 'None' },
  stageDuration: { Name: 'StageDuration', Unit: 'Seconds' },
};

/**
 * The members that turn a JSON log line into a document of CloudWatch's embedded metric format, from which CloudWatch Logs
 * makes metrics with the dimensions `Deployment` and `Stage`; no members where nothing was measured. A number that JSON does not have is left out.
 */
export function embeddedMetrics(measured: Measurements, { stage, deployment }: MetricDimensions, time: Date): Record<string, unknown> {
  const values = (Object.keys(definitions) as (keyof Measurements)[]).flatMap((key) => {
    const value = measured[key];
    return value !== undefined && Number.isFinite(value) ? [{ definition: definitions[key], value }] : [];
  });
  if (values.length === 0) return {};
  const dimensions = { ...(deployment !== undefined && { Deployment: deployment }), Stage: stage };
  return {
    _aws: {
      Timestamp: time.getTime(),
      CloudWatchMetrics: [{ Namespace: metricsNamespace, Dimensions: [Object.keys(dimensions)], Metrics: values.map(({ definition }) => definition) }],
    },
    ...dimensions,
    ...Object.fromEntries(values.map(({ definition, value }) => [definition.Name, value])),
  };
}
