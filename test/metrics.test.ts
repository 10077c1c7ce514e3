import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLog, type Log } from '../src/log.ts';
import { embeddedMetrics } from '../src/metrics.ts';
import { metricsOf } from './emf.ts';

describe('embedded metrics', () => {
  const time = new Date();
  it('are a document by the rules of CloudWatch', () => {
    const line = JSON.stringify({ message: 'x', ...embeddedMetrics({ imagesPerSecond: 12.5, loss: 0, stageDuration: 3 }, { stage: 'pretrain', deployment: 'team' }, time) });
    const common = { namespace: 'GenView', dimensions: { Deployment: 'team', Stage: 'pretrain' } };
    expect(metricsOf(line)).toEqual([
      { ...common, name: 'ImagesPerSecond', unit: 'Count/Second', value: 12.5 },
      { ...common, name: 'Loss', unit: 'None', value: 0 },
      { ...common, name: 'StageDuration', unit: 'Seconds', value: 3 },
    ]);
  });

  it('have no dimension for a deployment that has no name', () => {
    expect(metricsOf(JSON.stringify(embeddedMetrics({ loss: 1 }, { stage: 'pretrain' }, time))).map(({ dimensions }) => dimensions)).toEqual([{ Stage: 'pretrain' }]);
  });

  it('leave out what no metric can hold, and are nothing without a number', () => {
    expect(metricsOf(JSON.stringify(embeddedMetrics({ loss: Number.NaN, imagesPerSecond: 1 }, { stage: 's' }, time))).map(({ name }) => name)).toEqual(['ImagesPerSecond']);
    expect(embeddedMetrics({ loss: Number.POSITIVE_INFINITY }, { stage: 's' }, time)).toEqual({});
  });

  it.each<[string, (line: Record<string, unknown>) => void]>([
    ['a dimension that is no member', (line) => { delete line['Stage']; }],
    ['a dimension that is no text', (line) => { line['Stage'] = 3; }],
    ['a metric that is no member', (line) => { delete line['Loss']; }],
    ['a metric that is no number', (line) => { line['Loss'] = '0.5'; }],
    ['a unit that CloudWatch does not know', (line) => { (line as { _aws: { CloudWatchMetrics: { Metrics: { Unit: string }[] }[] } })._aws.CloudWatchMetrics[0]!.Metrics[0]!.Unit = 'images/s'; }],
    ['a time in seconds', (line) => { (line as { _aws: { Timestamp: number } })._aws.Timestamp = Math.round(Date.now() / 1000); }],
  ])('would not pass with %s', (_name, spoil) => {
    const line = JSON.parse(JSON.stringify(embeddedMetrics({ loss: 0.5 }, { stage: 'pretrain', deployment: 'team' }, time))) as Record<string, unknown>;
    expect(metricsOf(JSON.stringify(line))).toHaveLength(1);
    spoil(line);
    expect(() => metricsOf(JSON.stringify(line))).toThrow();
  });
});

describe('a log', () => {
  let written: string;
  beforeEach(() => { written = ''; vi.useFakeTimers({ toFake: ['Date'] }); });
  afterEach(() => { vi.useRealTimers(); vi.unstubAllEnvs(); });
  const log = (format: string, options?: Parameters<typeof createLog>[2]): Log => {
    vi.stubEnv('GENVIEW_LOG', format);
    const stream = new PassThrough().setEncoding('utf8');
    stream.on('data', (text: string) => { written += text; });
    return createLog({ run: 'demo-1', stage: 'generate-views', shard: 3, attempt: 2 }, stream as unknown as NodeJS.WriteStream, options);
  };
  const lines = (): string[] => written.trim().split('\n');
  const work = (target: Log): void => {
    const progress = target.progress('views', 40, 'images');
    for (let i = 0; i < 40; i++) { vi.advanceTimersByTime(250); progress.advance(); }
    progress.done();
  };

  it('says run, stage, shard and attempt on every line, and the speed since the last one', () => {
    work(log('json', { metricsOf: { stage: 'generate-views' } }));
    expect(lines().map((line) => JSON.parse(line) as object)).toMatchObject([20, 40, 40].map((progress) => ({ run: 'demo-1', stage: 'generate-views', shard: 3, attempt: 2, level: 'info', progress, total: 40 })));
    expect(lines().map((line) => metricsOf(line).map(({ name, value, dimensions }) => [name, value, dimensions['Stage']]))).toEqual([
      [['ImagesPerSecond', 4, 'generate-views']], [['ImagesPerSecond', 4, 'generate-views']], [],
    ]);
  });

  it('tells the speed of what took less than a line', () => {
    const target = log('json', { metricsOf: { stage: 'analyze-foreground' } }), progress = target.progress('x', 8, 'images');
    vi.advanceTimersByTime(400);
    progress.advance(8);
    progress.done();
    expect(metricsOf(lines()[0]!).map(({ value }) => value)).toEqual([20]);
  });

  it('carries the measurements of a program, each once', () => {
    const target = log('json', { metricsOf: { stage: 'pretrain' } }), progress = target.progress('pretraining', 3, 'steps');
    progress.advance(1, 'loss 3.000', { loss: 3, imagesPerSecond: 100 });
    vi.advanceTimersByTime(6000);
    progress.advance(1, 'loss 2.000', { loss: 2, imagesPerSecond: 110 });
    progress.done();
    target.info('done', undefined, { stageDuration: 6 });
    expect(lines().map((line) => metricsOf(line).map(({ name, value }) => `${name} ${value}`))).toEqual([['ImagesPerSecond 110', 'Loss 2'], [], ['StageDuration 6']]);
    expect(JSON.parse(lines()[0]!)).toMatchObject({ loss: 2, imagesPerSecond: 110, message: expect.stringContaining('loss 2.000') as string });
  });

  it('makes no metrics where nobody asked, and none for people', () => {
    work(log('json'));
    expect(lines().flatMap(metricsOf)).toEqual([]);
    expect(JSON.parse(lines()[0]!)).toMatchObject({ imagesPerSecond: 4 });
    written = '';
    work(log('', { metricsOf: { stage: 'generate-views' } }));
    expect(lines()[0]).toBe('views 20/40 images (5.0 s, 5.0 s left)');
    expect(written).not.toContain('_aws');
  });
});
