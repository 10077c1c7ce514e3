import { createInterface } from 'node:readline';
import { GenViewError } from '../errors.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { messageOf } from '../stages/recordFailure.ts';
import { readLines } from '../storage/index.ts';
import type { HistoryEvent } from '../workflow/asl/history.ts';

/** Events of the run's last execution: those that say something, a line each; all as they are with `json`. */
export async function printHistory(store: ObjectStore, runPrefix: string, json: boolean): Promise<void> {
  const key = `${runPrefix}history.jsonl`;
  if (!await store.head(key)) throw new GenViewError('HistoryNotFound', `${store.url(key)} is missing: the run has no history yet`);
  for await (const event of readLines<HistoryEvent>(store, key)) printEvent(event, json);
}

/** One event, as a line for people if it says something, or as JSON. */
export function printEvent(event: HistoryEvent, json: boolean): void {
  if (json) { process.stdout.write(`${JSON.stringify(event)}\n`); return; }
  const line = describe(event);
  if (line !== undefined) process.stdout.write(`${event.timestamp}  ${line}\n`);
}

/** Undefined for events that only repeat what their neighbours say. */
function describe(event: HistoryEvent): string | undefined {
  const details = Object.entries(event).find(([key]) => key.endsWith('EventDetails'))?.[1] as Record<string, unknown> | undefined;
  const text = (field: string): string => typeof details?.[field] === 'string' ? details[field] : '';
  const cause = text('cause') === '' ? '' : `: ${messageOf(text('cause'))}`;
  if (event.type.endsWith('StateEntered')) return `${text('name')} started`;
  if (event.type.endsWith('StateExited')) return `${text('name')} ended`;
  if (event.type.startsWith('Execution')) return `execution ${event.type.slice('Execution'.length).toLowerCase()}${text('error') && ` with ${text('error')}`}${cause}`;
  if (event.type.endsWith('Failed') || event.type.endsWith('TimedOut') || event.type.endsWith('Aborted')) return `${event.type} ${text('error')}${cause}`;
  return undefined;
}

/**
 * Logs whose name begins with the stage's, each under its name; with `json` the lines as they are. Throws `LogNotFound`.
 * @param hint for its message
 */
export async function printStageLogs(store: ObjectStore, runPrefix: string, stage: string, json: boolean, hint = ''): Promise<void> {
  const folder = `${runPrefix}logs/`;
  const available: string[] = [];
  let printed = 0;
  for await (const { key } of store.list(folder)) {
    const name = key.slice(folder.length).replace(/\.log$/, '');
    available.push(name);
    if (name !== stage && !name.startsWith(`${stage}-`)) continue;
    if (!json) process.stdout.write(`==> ${name}\n`);
    for await (const line of createInterface({ input: await store.getStream(key) })) process.stdout.write(`${json ? line : readableLine(line)}\n`);
    printed += 1;
  }
  if (printed === 0) {
    throw new GenViewError('LogNotFound', `${available.length === 0 ? `there are no logs in ${store.url(folder)}` : `there is no log of ${stage}; there are ${available.join(', ')}`}${hint}`);
  }
}

/** Programs of ours write JSON lines; what anything else wrote stays as it is. */
export function readableLine(line: string): string {
  try {
    const { time, level, message, stack } = JSON.parse(line) as { time?: string; level?: string; message?: string; stack?: string };
    if (time === undefined || message === undefined) return line;
    return `${time}  ${level === 'info' ? '' : `${level}: `}${stack ?? message}`;
  } catch { return line; }
}
