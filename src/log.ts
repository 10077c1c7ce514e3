import { embeddedMetrics, type Measurements, type MetricDimensions } from './metrics.ts';

/**
 * What a program says while it works. On a terminal: one line, rewritten. Elsewhere, or with GENVIEW_LOG=json: log
 * lines, at most one progress line in five seconds. Everything goes to standard error; standard output is for results.
 */
export interface Log {
  /** @param measured goes into the JSON line, and to CloudWatch where that reads it */
  info(message: string, fields?: Record<string, unknown>, measured?: Measurements): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
  /**
   * Starts a progress display of `total` units; call `advance` as work is done and `done` at the end.
   * @param from units that an earlier process did, which say nothing about the speed of this one. @default 0
   */
  progress(label: string, total: number, unit: string, from?: number): Progress;
}

export interface Progress {
  /** @param measured the newest; images per second are counted here where the unit is `images` */
  advance(units?: number, note?: string, measured?: Measurements): void;
  done(): void;
}

const silentProgress: Progress = { advance() {}, done() {} };

/** Says nothing: for tests and library use. */
export const silentLog: Log = { info() {}, warn() {}, error() {}, progress: () => silentProgress };

/**
 * @param fields added to every JSON line (run, stage, shard)
 * @param options `metricsOf`: the stage, and its deployment, whose measurements make a JSON line a document of CloudWatch's embedded metric format. @default no metrics
 */
export function createLog(fields: Record<string, unknown> = {}, stream: NodeJS.WriteStream = process.stderr, options: { readonly metricsOf?: MetricDimensions } = {}): Log {
  const json = process.env['GENVIEW_LOG'] === 'json';
  const terminal = !json && stream.isTTY === true;
  const write = (level: string, message: string, more?: Record<string, unknown>, measured: Measurements = {}): void => {
    if (json) {
      const time = new Date();
      const metrics = options.metricsOf === undefined ? {} : embeddedMetrics(measured, options.metricsOf, time);
      stream.write(JSON.stringify({ time: time.toISOString(), level, message, ...fields, ...more, ...measured, ...metrics }) + '\n');
      return;
    }
    if (terminal) stream.write('\r\x1b[2K');
    const mark = level === 'info' ? '' : `${level}: `;
    stream.write(`${mark}${message}\n`);
  };
  return {
    info: (message, more, measured) => write('info', message, more, measured),
    warn: (message, more) => write('warning', message, more),
    error: (message, more) => write('error', message, more),
    progress(label, total, unit, from = 0) {
      const start = Date.now();
      let count = from, last = terminal ? 0 : start, note = '', measured: Measurements = {};
      let counted = from, since = start;
      const line = (): string => {
        const seconds = (Date.now() - start) / 1000;
        const left = count > from && count < total ? ` ${formatSeconds(seconds / (count - from) * (total - count))} left` : '';
        return `${label} ${count}/${total} ${unit}${note && `, ${note}`} (${formatSeconds(seconds)}${left ? ',' + left : ''})`;
      };
      const say = (): void => {
        const now = Date.now();
        // Of a moment no speed can be told; the first one may be all there is.
        const speed = unit === 'images' && count > counted && now - since >= (counted === from ? 100 : 1000) ? { imagesPerSecond: (count - counted) / (now - since) * 1000 } : {};
        write('info', line(), { progress: count, total }, { ...speed, ...measured });
        counted = count; since = now; measured = {};
      };
      return {
        advance(units = 1, text = note, newest) {
          count += units; note = text; measured = newest ?? measured;
          const now = Date.now();
          if (now - last < (terminal ? 100 : 5000)) return;
          last = now;
          if (terminal) stream.write(`\r\x1b[2K${line()}`.slice(0, (stream.columns ?? 100) + 5));
          else say();
        },
        done() {
          if (terminal) stream.write('\r\x1b[2K');
          say();
        },
      };
    },
  };
}

/** 75 -> "1 min 15 s", 4.2 -> "4.2 s". */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
