import { type ChildProcess, spawn } from 'node:child_process';
import { once as event } from 'node:events';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { once, type ObjectStore, openStore } from '../../src/storage/index.ts';
import { codeOf, keysOf, text } from './objectStoreContract.ts';

const base = mkdtempSync(path.join(os.tmpdir(), 'genview-lease-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const newFolder = (): string => path.join(base, String(count++));

/** A process that does the work once, appends its name to a file, and prints the outcome; `ready` when it is about to begin. */
function worker(folder: string, name: string, milliseconds: number): ChildProcess & { outcome: Promise<string>; ready: Promise<unknown> } {
  const journal = path.join(base, 'journal-' + path.basename(folder));
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', `
    import { appendFileSync } from 'node:fs';
    import { once, openStore } from ${JSON.stringify(path.resolve('src/storage/index.ts'))};
    process.stdout.write('ready ');
    const outcome = await once(openStore(${JSON.stringify(folder)}), 'stage/x.done', async () => {
      appendFileSync(${JSON.stringify(journal)}, '${name} starts\\n');
      await new Promise((resolve) => setTimeout(resolve, ${milliseconds}));
      appendFileSync(${JSON.stringify(journal)}, '${name} ends\\n');
    });
    process.stdout.write(outcome);`], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ready = event(child.stdout, 'data');
  const outcome = (async () => {
    let output = '';
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) output += chunk.toString();
    return output.replace('ready ', '');
  })();
  return Object.assign(child, { outcome, ready });
}

const journalOf = (folder: string): string[] => {
  const file = path.join(base, 'journal-' + path.basename(folder));
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
};

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

/** The same store, but for some of its methods. */
function replaced(store: ObjectStore, methods: Partial<ObjectStore>): ObjectStore {
  return new Proxy(store, { get: (target, name) => methods[name as 'put'] ?? ((...given: unknown[]) => (target[name as 'head'] as (...values: unknown[]) => unknown).apply(target, given)) });
}

/** The same store; `look` comes before each look at an object. */
function watched(store: ObjectStore, look: (key: string) => Promise<void>): ObjectStore {
  return replaced(store, { head: async (key) => { await look(key); return store.head(key); } });
}

describe('once', () => {
  it('does the work, leaves a marker without clock or host, and then does nothing', async () => {
    const store = openStore(newFolder());
    let runs = 0;
    expect(await once(store, 'a/.done', async () => { runs++; })).toBe('done');
    expect(await once(store, 'a/.done', async () => { runs++; })).toBe('already');
    expect(runs).toBe(1);
    expect(await keysOf(store)).toEqual(['a/.done']);
    expect(text(await store.get('a/.done'))).toBe('{"done":true}\n');
  });

  it('works once when two processes start at once', async () => {
    const folder = newFolder();
    const [first, second] = [worker(folder, 'first', 400), worker(folder, 'second', 400)];
    expect([await first.outcome, await second.outcome].toSorted()).toEqual(['already', 'done']);
    expect(journalOf(folder)).toHaveLength(2);
  });

  it('continues at once after the holder was killed', async () => {
    const folder = newFolder();
    const first = worker(folder, 'first', 60_000);
    await until(() => journalOf(folder).length === 1);
    const second = worker(folder, 'second', 10);
    await second.ready;
    await sleep(500);
    expect(journalOf(folder)).toEqual(['first starts']);
    first.kill('SIGKILL');
    await event(first, 'exit');
    const killed = performance.now();
    expect(await second.outcome).toBe('done');
    // Without waiting for the minute after which a lease goes stale.
    expect(performance.now() - killed).toBeLessThan(30_000);
    expect(journalOf(folder)).toEqual(['first starts', 'second starts', 'second ends']);
    expect(await keysOf(openStore(folder))).toEqual(['stage/x.done']);
  });

  it('takes over a lease of another machine only when it is no longer renewed', async () => {
    const folder = newFolder();
    const store = openStore(folder);
    const other = { machine: 'another', pid: 1, started: '', token: 't', renewals: 0 };
    await store.put('x.done.lease', JSON.stringify(other));
    // Renewed before each of the first looks, however long a busy machine takes from one to the next: for three times as long as it may go without.
    let renewals = 0, renewed = 0;
    const looks = watched(store, async (key) => {
      if (key !== 'x.done.lease' || renewals === 30) return;
      await store.put(key, JSON.stringify({ ...other, renewals: ++renewals }));
      renewed = performance.now();
    });
    expect(await once(looks, 'x.done', async () => {}, { staleAfter: 500, pollEvery: 50 })).toBe('done');
    expect(renewals).toBe(30);
    expect(performance.now() - renewed).toBeGreaterThanOrEqual(500);
  });

  it('keeps its lease renewed while it works', async () => {
    const store = openStore(newFolder());
    const seen = new Set<string>();
    await once(store, 'x.done', async () => {
      while (seen.size < 4) { seen.add((await store.head('x.done.lease'))!.etag); await sleep(30); }
    }, { renewEvery: 50 });
    expect(await keysOf(store)).toEqual(['x.done']);
  });

  it('stops the work when the lease is lost', async () => {
    const store = openStore(newFolder());
    const pending = once(store, 'x.done', async (signal) => {
      const stolen = JSON.stringify({ machine: 'another', pid: 1, started: '', token: 'stolen', renewals: 0 });
      // As a thief would: a renewal may come between.
      while (!await store.put('x.done.lease', stolen, { ifMatch: (await store.head('x.done.lease'))!.etag }));
      await sleep(60_000, undefined, { signal });
    }, { renewEvery: 50 });
    expect(await codeOf(pending)).toBe('LeaseLost');
    expect(await store.head('x.done')).toBeUndefined();
    expect(await store.head('x.done.lease')).toBeDefined();
  });

  it('knows its own lease when the answer to a conditional put was lost and the repeated put was refused', async () => {
    const store = openStore(newFolder());
    // As S3 behind a client that repeats a request whose answer never came.
    const forgetful = replaced(store, { put: async (...given) => (await store.put(...given)) && !given[0].endsWith('.lease') });
    expect(await once(forgetful, 'x.done', () => sleep(300), { renewEvery: 50 })).toBe('done');
    expect(await keysOf(store)).toEqual(['x.done']);
  });

  it('releases the lease when the work fails, and lets the next one try', async () => {
    const store = openStore(newFolder());
    await expect(once(store, 'x.done', async () => { throw new Error('no luck'); })).rejects.toThrow('no luck');
    expect(await keysOf(store)).toEqual([]);
    expect(await once(store, 'x.done', async () => {})).toBe('done');
  });

  it('ends a wait when it is aborted', async () => {
    const store = openStore(newFolder());
    await store.put('x.done.lease', JSON.stringify({ machine: 'another', pid: 1, started: '', token: 't', renewals: 0 }));
    const stop = new AbortController();
    const pending = once(store, 'x.done', async () => {}, { signal: stop.signal });
    setTimeout(() => stop.abort(new Error('stopped')), 50);
    await expect(pending).rejects.toThrow('stopped');
  });

  it('removes the lease of a holder that died right behind its marker, and no other', async () => {
    const folder = newFolder(), store = openStore(folder);
    const killed = worker(folder, 'killed', 60_000);
    await until(() => existsSync(path.join(folder, 'stage/x.done.lease')));
    await store.put('stage/x.done', '{"done":true}\n');
    expect(await once(store, 'stage/x.done', async () => {})).toBe('already');
    expect(await keysOf(store)).toEqual(['stage/x.done', 'stage/x.done.lease']);
    killed.kill('SIGKILL');
    await event(killed, 'exit');
    expect(await once(store, 'stage/x.done', async () => {})).toBe('already');
    expect(await keysOf(store)).toEqual(['stage/x.done']);
  });

  it('is not fooled by a process that has the number of a dead one', async () => {
    const folder = newFolder();
    const first = worker(folder, 'first', 60_000);
    await until(() => journalOf(folder).length === 1);
    const store = openStore(folder);
    const lease = JSON.parse(text(await store.get('stage/x.done.lease'))) as { pid: number; started: string };
    first.kill('SIGKILL');
    await event(first, 'exit');
    if (lease.started === '') return; // This system does not tell when a process started.
    writeFileSync(path.join(folder, 'stage/x.done.lease'), JSON.stringify({ ...lease, pid: process.pid }));
    appendFileSync(path.join(base, 'journal-' + path.basename(folder)), 'lease now names a live process\n');
    expect(await once(store, 'stage/x.done', async () => {})).toBe('done');
  });
});
