import { appendFileSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** A log line of a program (GENVIEW_LOG=json), or any other text it wrote. */
export interface LogLine {
  readonly level: 'info' | 'warning' | 'error';
  readonly message: string;
  /** Units done and in all, on lines of a progress display. */
  readonly progress?: number;
  readonly total?: number;
  /** A GenViewError's code, on error lines. */
  readonly code?: string;
  readonly stack?: string;
  /** Only for the log file. */
  readonly quiet?: boolean;
  /** False for text that is not a log line of ours. */
  readonly structured: boolean;
}

export function parseLine(text: string): LogLine {
  if (text.startsWith('{')) {
    try {
      const value = JSON.parse(text) as Partial<LogLine>;
      if (typeof value.message === 'string' && (value.level === 'info' || value.level === 'warning' || value.level === 'error')) return { ...value, level: value.level, message: value.message, structured: true };
    } catch { /* not ours */ }
  }
  return { level: 'info', message: text, structured: false };
}

/** Keeps what a process says: all of it in a file, and its last error for the job's status. */
export class JobLog {
  readonly file: string | undefined;
  #lastError: LogLine | undefined;
  #lastText = '';
  #writable: boolean;

  constructor(file: string | undefined) {
    this.file = file;
    this.#writable = file !== undefined;
    if (file !== undefined) this.#guard(() => { mkdirSync(dirname(file), { recursive: true }); });
  }

  add(text: string): LogLine {
    if (this.#writable) this.#guard(() => appendFileSync(this.file!, text + '\n'));
    const line = parseLine(text);
    if (line.level === 'error') this.#lastError = line;
    if (!line.structured && text.trim() !== '') this.#lastText = text.trim();
    return line;
  }

  get lastError(): LogLine | undefined {
    return this.#lastError;
  }

  /** `Code: message` of the last error line, else the last other text, else ''. */
  get reason(): string {
    if (this.#lastError === undefined) return this.#lastText;
    return this.#lastError.code === undefined ? this.#lastError.message : `${this.#lastError.code}: ${this.#lastError.message}`;
  }

  /** A log that cannot be written (full disk) must not end the job: the job itself will say so. */
  #guard(write: () => void): void {
    try { write(); } catch { this.#writable = false; }
  }
}
