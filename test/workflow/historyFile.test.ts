import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { HistoryFile } from '../../src/workflow/historyFile.ts';

let folder: string;
beforeEach(() => { folder = mkdtempSync(join(tmpdir(), 'history-')); });
afterEach(() => { chmodSync(folder, 0o700); rmSync(folder, { recursive: true }); });
const event = (id: number): HistoryEvent => ({ id, previousEventId: id - 1, timestamp: 't', type: 'TaskStarted' });
const ids = (file: string): number[] => readFileSync(file, 'utf8').trim().split('\n').map((line) => (JSON.parse(line) as HistoryEvent).id);

describe('the history of an execution', () => {
  it('is on disk event by event, and in the run at the end', async () => {
    const run = join(folder, 'runs', 'r');
    const history = new HistoryFile('e1', silentLog);
    history.add(event(1));
    history.open(pathToFileURL(`${run}/`).href);
    history.add(event(2));
    expect(ids(join(run, 'history-e1.jsonl'))).toEqual([1, 2]);
    await history.save();
    history.add(event(3));
    expect(ids(join(run, 'history.jsonl'))).toEqual([1, 2]);
    expect(ids(join(run, 'history-e1.jsonl'))).toEqual([1, 2, 3]);
    await history.close();
    expect(readdirSync(run)).toEqual(['history.jsonl']);
    expect(ids(join(run, 'history.jsonl'))).toEqual([1, 2, 3]);
  });

  it('is not shared by executions at the same time', () => {
    const histories = ['e1', 'e2'].map((name) => new HistoryFile(name, silentLog));
    for (const history of histories) { history.open(pathToFileURL(`${folder}/`).href); history.add(event(1)); }
    expect(readdirSync(folder).toSorted()).toEqual(['history-e1.jsonl', 'history-e2.jsonl']);
  });

  it('ends nothing when it cannot be written, and says so once', async () => {
    const warnings: string[] = [];
    // A file where the run's folder should be fails for every user, root included.
    mkdirSync(join(folder, 'runs'));
    writeFileSync(join(folder, 'runs', 'r'), '');
    const history = new HistoryFile('e1', { ...silentLog, warn: (message) => warnings.push(message) });
    history.open(pathToFileURL(`${folder}/runs/r/`).href);
    history.add(event(1));
    await history.save();
    await history.close();
    expect(warnings).toEqual([expect.stringMatching(/^the history of this run cannot be written: /)]);
  });
});
