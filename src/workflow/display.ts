import { formatSeconds, type Log, type Progress } from '../log.ts';
import type { LogLine } from './batch/jobLog.ts';

/** What a running job shows. */
export interface JobView {
  /** The first of its processes is about to run; until then the job waits for cores and shows nothing. */
  started(): void;
  /** A line that one of its processes wrote; `child` is the index in an array job. */
  line(line: LogLine, child: number | undefined): void;
  childDone(child: number): void;
  retry(attempt: number, reason: string): void;
  done(): void;
  /** The reason itself is said by whoever ends the workflow. */
  failed(stack: string | undefined): void;
  /** Ends the display whatever happened; says nothing. */
  close(): void;
  /** The same job, for processes that repeat what another one says (the nodes beside the main one): only their warnings. */
  withoutProgress(): JobView;
}

/**
 * The whole workflow's display: on a terminal one line for each running job, rewritten in place below the messages;
 * elsewhere plain lines through the log. It is a Log itself, for the stages that run in this process.
 */
export class Display implements Log {
  readonly #log: Log;
  readonly #terminal: NodeJS.WriteStream | undefined;
  #rows: { text: () => string }[] = [];
  #drawn = 0;
  #last = 0;
  #later: NodeJS.Timeout | undefined;

  /** `terminal`: where to draw; the stream that `log` writes to. @default standard error when it is a terminal and GENVIEW_LOG is not json */
  constructor(log: Log, terminal: NodeJS.WriteStream | undefined = process.stderr.isTTY === true && process.env['GENVIEW_LOG'] !== 'json' ? process.stderr : undefined) {
    this.#log = log;
    this.#terminal = terminal;
  }

  info(message: string, fields?: Record<string, unknown>): void { this.#say(() => this.#log.info(message, fields)); }
  warn(message: string, fields?: Record<string, unknown>): void { this.#say(() => this.#log.warn(message, fields)); }
  error(message: string, fields?: Record<string, unknown>): void { this.#say(() => this.#log.error(message, fields)); }

  progress(label: string, total: number, unit: string): Progress {
    if (!this.#terminal) return this.#log.progress(label, total, unit);
    const start = Date.now();
    let count = 0, note = '';
    const text = (): string => `${label} ${count}/${total} ${unit}${note && `, ${note}`} (${elapsed(start)})`;
    const row = this.#add(text);
    return {
      advance: (units = 1, more = note) => { count += units; note = more; this.#draw(); },
      done: () => { this.#remove(row); this.info(text()); },
    };
  }

  /** `children`: size of an array job. */
  job(label: string, children: number | undefined): JobView {
    let start = Date.now(), running = false;
    const shards = children === undefined ? '' : ` ${children} shards`;
    let finished = 0, latest = '';
    const state = (): string => (children === undefined ? '' : ` ${finished}/${children} shards`);
    const text = (): string => `${label}${state()}${latest === '' ? '' : `: ${latest}`}${children === undefined && latest.endsWith(')') ? '' : ` (${elapsed(start)})`}`;
    let row: { text: () => string } | undefined;

    const say = (line: LogLine, child: number | undefined, progress: boolean): void => {
      if (line.quiet === true || line.level === 'error') return;
      const fields = { stage: label, ...(child !== undefined && { shard: child }) };
      const prefix = child === undefined ? label : `${label} shard ${child}`;
      if (line.level === 'warning') { this.warn(`${prefix}: ${line.message}`, fields); return; }
      if (!line.structured) { if (line.message.trim() !== '') this.info(`${prefix}: ${line.message}`, fields); return; }
      if (!progress) return;
      if (this.#terminal) { latest = line.message; this.#draw(); return; }
      this.info(`${prefix}: ${line.message}`, { ...fields, ...(line.total !== undefined && { progress: line.progress, total: line.total }) });
    };
    const view: JobView = {
      started: () => {
        if (running) return;
        running = true;
        start = Date.now();
        if (this.#terminal) row = this.#add(text); else this.info(`${label}${shards} started`, { stage: label });
      },
      line: (line, child) => say(line, child, true),
      childDone: () => { finished++; if (this.#terminal) this.#draw(); else this.info(`${label}${state()}`, { stage: label, progress: finished, total: children }); },
      retry: (attempt, reason) => this.warn(`${label}: ${reason}; attempt ${attempt}`, { stage: label }),
      done: () => { this.#remove(row); this.info(`${label}${shards} done in ${elapsed(start)}`, { stage: label, seconds: (Date.now() - start) / 1000 }); },
      failed: (stack) => {
        this.#remove(row);
        this.info(`${label} failed after ${elapsed(start)}`, { stage: label, seconds: (Date.now() - start) / 1000 });
        if (stack !== undefined) this.error(stack, { stage: label });
      },
      close: () => this.#remove(row),
      withoutProgress: () => ({ ...view, line: (line, child) => say(line, child, false) }),
    };
    return view;
  }

  /** Takes the display off the terminal. */
  close(): void {
    this.#rows = [];
    this.#erase();
    clearTimeout(this.#later);
  }

  #add(text: () => string): { text: () => string } {
    const row = { text };
    this.#rows.push(row);
    this.#draw();
    return row;
  }

  #remove(row: { text: () => string } | undefined): void {
    if (row === undefined || !this.#rows.includes(row)) return;
    this.#erase();
    this.#rows = this.#rows.filter((other) => other !== row);
    this.#draw();
  }

  #say(message: () => void): void {
    this.#erase();
    message();
    this.#draw(true);
  }

  #erase(): void {
    if (this.#terminal && this.#drawn > 0) this.#terminal.write(`\x1b[${this.#drawn}A\r\x1b[J`);
    this.#drawn = 0;
  }

  /** At most ten times a second, and the last state always. */
  #draw(now = false): void {
    if (!this.#terminal) return;
    const wait = this.#last + 100 - Date.now();
    clearTimeout(this.#later);
    this.#later = undefined;
    if (!now && wait > 0) {
      this.#later = setTimeout(() => this.#draw(true), wait);
      this.#later.unref();
      return;
    }
    this.#last = Date.now();
    this.#erase();
    if (this.#rows.length === 0) return;
    // 0 where the terminal does not know its size.
    const width = (this.#terminal.columns || 100) - 1;
    this.#terminal.write(this.#rows.map((row) => row.text().slice(0, width) + '\n').join(''));
    this.#drawn = this.#rows.length;
  }
}

const elapsed = (start: number): string => formatSeconds((Date.now() - start) / 1000);
