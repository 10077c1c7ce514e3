import { appendFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Log } from '../log.ts';
import { splitUrl } from '../storage/index.ts';
import type { HistoryEvent } from './asl/history.ts';

/**
 * The history of one execution as JSON lines. `history.jsonl` of the run holds the last execution up to its last save:
 * before every function call (the report can read it) and at the end. In a folder store each event is also appended at
 * once to `history-<execution>.jsonl`, which stays only when the process was killed; executions at the same time do not share it.
 */
export class HistoryFile {
  readonly #execution: string;
  readonly #log: Log;
  #lines = '';
  #run: string | undefined;
  #file: string | undefined;
  #broken = false;

  constructor(execution: string, log: Log) {
    this.#execution = execution;
    this.#log = log;
  }

  /** From here on events have a place; those before are added. */
  open(run: string): void {
    this.#run = run;
    if (!run.startsWith('file:')) return;
    const folder = fileURLToPath(run);
    this.#file = join(folder, `history-${this.#execution}.jsonl`);
    this.#guard(() => { mkdirSync(folder, { recursive: true }); appendFileSync(this.#file!, this.#lines); });
  }

  add(event: HistoryEvent): void {
    const line = JSON.stringify(event) + '\n';
    this.#lines += line;
    if (this.#file !== undefined && !this.#broken) this.#guard(() => appendFileSync(this.#file!, line));
  }

  async save(): Promise<void> {
    if (this.#run === undefined) return;
    const { store, key } = splitUrl(`${this.#run}history.jsonl`);
    try { await store.put(key, this.#lines, { contentType: 'application/jsonl' }); } catch (error) { this.#complain(error); }
  }

  async close(): Promise<void> {
    await this.save();
    if (this.#file !== undefined && !this.#broken) this.#guard(() => rmSync(this.#file!, { force: true }));
  }

  #guard(write: () => void): void {
    try { write(); } catch (error) { this.#complain(error); }
  }

  /** The workflow goes on without its history; a full disk will end the stage that needs it, with a message of its own. */
  #complain(error: unknown): void {
    if (!this.#broken) this.#log.warn(`the history of this run cannot be written: ${(error as Error).message}`);
    this.#broken = true;
  }
}
