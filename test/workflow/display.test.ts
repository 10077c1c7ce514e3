import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/log.ts';
import type { LogLine } from '../../src/workflow/batch/jobLog.ts';
import { Display } from '../../src/workflow/display.ts';

/** A terminal of 60 columns that understands what the display sends; the log writes to it too. */
class Terminal {
  lines: string[] = [''];
  readonly columns = 60;
  write(text: string): boolean {
    for (let rest = text; rest !== '';) {
      const up = /^\W\[(\d+)A\r\W\[J/.exec(rest);
      if (up) { this.lines.splice(this.lines.length - 1 - Number(up[1])); this.lines.push(''); rest = rest.slice(up[0].length); continue; }
      if (rest[0] === '\n') this.lines.push(''); else this.lines[this.lines.length - 1] += rest[0]!;
      rest = rest.slice(1);
    }
    return true;
  }
  get shown(): string[] { return this.lines.filter((line) => line !== ''); }
}
const line = (message: string, more: Partial<LogLine> = {}): LogLine => ({ level: 'info', message, structured: true, ...more });
const settle = (): Promise<void> => new Promise((resolve) => { setTimeout(resolve, 130); });

describe('on a terminal', () => {
  const start = (): { terminal: Terminal; display: Display } => {
    const terminal = new Terminal();
    const log: Log = { info: (message) => terminal.write(`${message}\n`), warn: (message) => terminal.write(`warning: ${message}\n`), error: (message) => terminal.write(`error: ${message}\n`), progress: () => { throw new Error('not used'); } };
    return { terminal, display: new Display(log, terminal as unknown as NodeJS.WriteStream) };
  };

  it('shows one line for each running job, below the messages', async () => {
    const { terminal, display } = start();
    const views = display.job('generate-views', 8), fit = display.job('pretrain base', undefined);
    display.job('waits for cores', undefined);
    views.started();
    views.started();
    fit.started();
    views.line(line('views 3/16 images (1 s)', { progress: 3, total: 16 }), 2);
    views.childDone(0);
    fit.line(line('training 10/100 steps (4 s, 36 s left)'), undefined);
    fit.line(line('bad picture', { level: 'warning' }), undefined);
    fit.line(line('secret', { quiet: true }), undefined);
    await settle();
    expect(terminal.shown).toEqual(['warning: pretrain base: bad picture', expect.stringMatching(/^generate-views 1\/8 shards: views 3\/16 images \(1 s\) /), 'pretrain base: training 10/100 steps (4 s, 36 s left)']);
    views.done();
    await settle();
    expect(terminal.shown).toEqual(['warning: pretrain base: bad picture', expect.stringMatching(/^generate-views 8 shards done in/), 'pretrain base: training 10/100 steps (4 s, 36 s left)']);
    fit.failed(undefined);
    display.close();
    expect(terminal.shown.at(-1)).toMatch(/^pretrain base failed after/);
  });

  it('never wraps a line, and leaves nothing at the end', async () => {
    const { terminal, display } = start();
    const job = display.job('fit', undefined);
    job.started();
    job.line(line('x'.repeat(200)), undefined);
    await settle();
    expect(terminal.shown[0]).toHaveLength(59);
    job.close();
    display.close();
    expect(terminal.shown).toEqual([]);
  });

  it('shows the progress of a function in this process in the same way', async () => {
    const { terminal, display } = start();
    const progress = display.progress('listing', 10, 'images');
    progress.advance(4, 'train');
    await settle();
    expect(terminal.shown).toEqual([expect.stringMatching(/^listing 4\/10 images, train \(/)]);
    progress.done();
    expect(terminal.shown).toEqual([expect.stringMatching(/^listing 4\/10 images, train \(/)]);
  });
});

it('elsewhere every line names its stage and shard', () => {
  const said: unknown[] = [];
  const log: Log = { info: (message, fields) => said.push([message, fields]), warn: (message, fields) => said.push([message, fields]), error: () => {}, progress: () => { throw new Error('not used'); } };
  const job = new Display(log, undefined).job('generate-views', 2);
  job.started();
  job.line(line('views 3/16 images', { progress: 3, total: 16 }), 1);
  job.line(line('raw text of a library', { structured: false }), 1);
  job.line(line('its message is the status reason', { level: 'error' }), 1);
  job.withoutProgress().line(line('views 9/16 images'), 1);
  job.childDone(1);
  job.retry(2, 'PeerLost: gone');
  expect(said).toEqual([
    ['generate-views 2 shards started', { stage: 'generate-views' }],
    ['generate-views shard 1: views 3/16 images', { stage: 'generate-views', shard: 1, progress: 3, total: 16 }],
    ['generate-views shard 1: raw text of a library', { stage: 'generate-views', shard: 1 }],
    ['generate-views 1/2 shards', { stage: 'generate-views', progress: 1, total: 2 }],
    ['generate-views: PeerLost: gone; attempt 2', { stage: 'generate-views' }],
  ]);
});
