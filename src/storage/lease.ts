import { ExitCode, GenViewError } from '../errors.ts';
import { type Log, silentLog } from '../log.ts';
import { pause } from '../pause.ts';
import type { ObjectStore } from './objectStore.ts';
import { isAlive, type ProcessIdentity, thisProcess, uniqueToken } from './processIdentity.ts';

export interface OnceOptions {
  /** Ends the wait, and is handed on to the work. */
  readonly signal?: AbortSignal;
  readonly log?: Log;
  /** Milliseconds between renewals of the lease. @default 15000 */
  readonly renewEvery?: number;
  /** A lease of another machine that was not renewed for so many milliseconds is taken over. @default 60000 */
  readonly staleAfter?: number;
  /** Milliseconds between two looks at another's lease. @default rises from 100 to 2000 */
  readonly pollEvery?: number;
}

interface Lease extends ProcessIdentity {
  readonly token: string;
  readonly renewals: number;
}

/**
 * Runs `work` unless the object `markerKey` exists, and creates it at the end. A second process that calls this at the
 * same time, anywhere, waits for the first and does not work twice: the first holds the lease `<markerKey>.lease`
 * meanwhile and renews it. A lease whose holder died is taken over: at once when the holder's process is gone from this
 * machine, after `staleAfter` otherwise. So that a takeover in error (a holder frozen for minutes) does no harm, the
 * work must write the same bytes each time.
 *
 * Throws what `work` throws (the lease is released, and the next in line tries), the signal's reason, or `LeaseLost`
 * (exit status 75) when another process took the lease over.
 * @returns 'done' when this call did the work, 'already' when the marker was there or another process made it
 */
export async function once(store: ObjectStore, markerKey: string, work: (signal: AbortSignal) => Promise<unknown>, options: OnceOptions = {}): Promise<'done' | 'already'> {
  const leaseKey = `${markerKey}.lease`;
  const { signal, log = silentLog, staleAfter = 60_000 } = options;
  /** The other's lease as first seen in its present version: ages are measured on our own clock. */
  let seen: { etag: string; since: number } | undefined;
  let waited = false;
  const own: Lease = { ...thisProcess, token: uniqueToken(), renewals: 0 };
  for (let poll = options.pollEvery ?? 100; ; poll = options.pollEvery ?? Math.min(poll * 1.5, 2000)) {
    signal?.throwIfAborted();
    if (await store.head(markerKey)) {
      await removeLeftover(store, leaseKey);
      return 'already';
    }

    const other = await readLease(store, leaseKey);
    // A put whose answer was lost is repeated by the client, and then refused because of itself.
    if (other?.lease?.token === own.token) return hold();
    if (!other) {
      if (await store.put(leaseKey, JSON.stringify(own), { ifNoneMatch: '*', flush: false })) return hold();
      continue;
    }
    if (seen?.etag !== other.etag) seen = { etag: other.etag, since: performance.now() };
    const alive = other.lease && isAlive(other.lease);
    const age = performance.now() - seen.since;
    // A live process of this machine may be stopped, or busy in a long native call: be patient.
    if (alive === false || age > (alive ? 10 * staleAfter : staleAfter)) {
      if (await store.put(leaseKey, JSON.stringify(own), { ifMatch: other.etag, flush: false })) {
        log.warn(`taking over ${store.url(markerKey)}: the process that worked on it is gone`);
        return hold();
      }
      continue;
    }
    if (!waited) log.info(`waiting for another process that works on ${store.url(markerKey)}`);
    waited = true;
    await pause(poll, signal);
  }

  async function hold(): Promise<'done' | 'already'> {
    const lost = new AbortController();
    const renewal = renew(lost);
    try {
      // The marker may have been made between our look and our lease.
      if (await store.head(markerKey)) return 'already';
      await work(signal ? AbortSignal.any([signal, lost.signal]) : lost.signal);
      lost.signal.throwIfAborted();
      await store.put(markerKey, '{"done":true}\n', { ifNoneMatch: '*', contentType: 'application/json' });
      return 'done';
    } catch (error) {
      throw lost.signal.aborted ? lost.signal.reason : error;
    } finally {
      await renewal.stop();
      const held = await readLease(store, leaseKey).catch(() => undefined);
      if (held?.lease?.token === own.token) await store.delete(leaseKey).catch(() => {});
    }
  }

  function renew(lost: AbortController): { stop(): Promise<void> } {
    let renewals = 0;
    let running = Promise.resolve();
    const timer = setInterval(() => {
      running = running.then(async () => {
        const held = await readLease(store, leaseKey);
        const kept = held?.lease?.token === own.token
          && (await store.put(leaseKey, JSON.stringify({ ...own, renewals: ++renewals }), { ifMatch: held.etag, flush: false })
            || (await readLease(store, leaseKey))?.lease?.token === own.token);
        if (!kept && !stopped) {
          lost.abort(new GenViewError('LeaseLost', `another process took over ${store.url(markerKey)}; run the same command again`, { exitCode: ExitCode.TemporaryFailure }));
        }
        // An unreachable store is tried again at the next turn; the work itself will notice when it lasts.
      }).catch(() => {});
    }, options.renewEvery ?? 15_000);
    timer.unref();
    let stopped = false;
    return {
      async stop() {
        stopped = true;
        clearInterval(timer);
        await running;
      },
    };
  }
}

/** A holder that died between its marker and the end of its lease left the lease. */
async function removeLeftover(store: ObjectStore, leaseKey: string): Promise<void> {
  const left = await readLease(store, leaseKey);
  if (left?.lease && isAlive(left.lease) === false) await store.delete(leaseKey).catch(() => {});
}

async function readLease(store: ObjectStore, key: string): Promise<{ etag: string; lease: Lease | undefined } | undefined> {
  const info = await store.head(key);
  if (!info) return undefined;
  try {
    const lease = JSON.parse(new TextDecoder().decode(await store.get(key))) as Lease;
    // Read after its etag: when it changed in between, the conditional put that follows fails, and all is read again.
    return { etag: info.etag, lease };
  } catch (error) {
    if (error instanceof GenViewError && error.code === 'ObjectNotFound') return undefined;
    if (error instanceof SyntaxError) return { etag: info.etag, lease: undefined };
    throw error;
  }
}
