import { createHash } from 'node:crypto';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ExitCode, GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { deferred } from './deferred.ts';
import { checkFailure, errorOfFailure, failureOf, failureOfStop, type Failure } from './failure.ts';

/** Where a process stands in its group, and how it finds the others. */
export interface Place {
  readonly rank: number;
  readonly size: number;
  /** The machine, as AWS Batch counts: several ranks may run on one. */
  readonly node: number;
  /** Where rank 0 is; absent on rank 0. */
  readonly mainAddress?: string;
  readonly port: number;
  readonly bindAddress: string;
  /** Hash of what the processes of one attempt of one job have in common. */
  readonly token: string;
  readonly timeoutSeconds: number;
  readonly peerTimeoutSeconds: number;
}

/** Two connections, greeted and paused: bytes come from the predecessor and go to the successor. */
export interface Neighbours {
  readonly predecessor: Socket;
  readonly successor: Socket;
}

const protocol = 'genview-ring-2';
/** A connection that has not said who it is by then is closed. */
const greetingMilliseconds = 10_000;
const maximumLine = 65_536;
/** How long a process that ends tries to say why, in milliseconds: to others that are there; to a main node that may just be starting; the same when it is asked to stop. */
const lastWords = 3000, patience = 20_000, patienceOfStopped = 10_000;

type Greeting =
  | { readonly protocol: string; readonly kind: 'join'; readonly token: string; readonly rank: number; readonly size: number; readonly port: number }
  | { readonly protocol: string; readonly kind: 'ring'; readonly token: string; readonly rank: number }
  | { readonly protocol: string; readonly kind: 'failed'; readonly token: string; readonly failure: Failure };

type Answer = { readonly refused: string } | { readonly failed: Failure } | { readonly ports: readonly { readonly host: string; readonly port: number }[] } | { readonly ok: true };

/** Reads the variables that {@link joinCollective} documents. A process outside a multi-node job is alone. */
export function placeOf(env: NodeJS.ProcessEnv): Place {
  const { rank, size, node, main } = nodeOf(env);
  const mainAddress = env['AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS'];
  if (rank !== 0 && !mainAddress) {
    throw new GenViewError('EnvironmentInvalid', `AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS is not set on node ${node}: set it to the address of node ${main}`);
  }
  // The nodes of a multi-node job have ids `<job>#<node>`.
  const [, id = '', machine = node] = /^(.*?)(?:#(\d+))?$/s.exec(env['AWS_BATCH_JOB_ID'] ?? '') ?? [];
  const job = env['GENVIEW_RENDEZVOUS_TOKEN'] ?? `${id}/${env['AWS_BATCH_JOB_ATTEMPT'] ?? ''}`;
  return {
    rank,
    size,
    node: Number(machine),
    ...(rank === 0 ? {} : { mainAddress: mainAddress! }),
    port: integer(env, 'GENVIEW_RENDEZVOUS_PORT', 29500, 1, 65535),
    bindAddress: env['GENVIEW_RENDEZVOUS_ADDRESS'] ?? '0.0.0.0',
    token: createHash('sha256').update(`${protocol}\n${job}`).digest('hex'),
    timeoutSeconds: seconds(env, 'GENVIEW_RENDEZVOUS_TIMEOUT', 600),
    peerTimeoutSeconds: seconds(env, 'GENVIEW_PEER_TIMEOUT', 60),
  };
}

/** Which node of how many the variables of AWS Batch say that this is; the rank counts from the main node. Throws `EnvironmentInvalid`. */
export function nodeOf(env: NodeJS.ProcessEnv): { readonly rank: number; readonly size: number; readonly node: number; readonly main: number } {
  const size = integer(env, 'AWS_BATCH_JOB_NUM_NODES', 1, 1);
  const node = size === 1 ? 0 : integer(env, 'AWS_BATCH_JOB_NODE_INDEX', undefined, 0, size - 1);
  const main = integer(env, 'AWS_BATCH_JOB_MAIN_NODE_INDEX', 0, 0, size - 1);
  return { rank: (node - main + size) % size, size, node, main };
}

/** A variable's whole number. Throws `EnvironmentInvalid` for anything else, and for none where there is no fallback. */
export function integer(env: NodeJS.ProcessEnv, name: string, fallback: number | undefined, low: number, high = Number.MAX_SAFE_INTEGER): number {
  const text = env[name];
  if (text === undefined || text === '') {
    if (fallback !== undefined) return fallback;
    throw new GenViewError('EnvironmentInvalid', `${name} is not set, but AWS_BATCH_JOB_NUM_NODES is: set both, or neither`);
  }
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < low || value > high) {
    throw new GenViewError('EnvironmentInvalid', `${name} is "${text}": it must be a whole number ${high === Number.MAX_SAFE_INTEGER ? `from ${low}` : `between ${low} and ${high}`}`);
  }
  return value;
}

function seconds(env: NodeJS.ProcessEnv, name: string, fallback: number): number {
  const text = env[name];
  if (text === undefined || text === '') return fallback;
  const value = Number(text);
  if (!(value > 0 && value <= 86_400)) throw new GenViewError('EnvironmentInvalid', `${name} is "${text}": it must be a number of seconds, more than 0 and at most 86400`);
  return value;
}

/**
 * Rank 0 listens; every other rank says its rank and the port of its own listener; when all have come, rank 0 tells
 * everyone all addresses, and every rank connects to the next one. Ranks may start in any order. Connections of other
 * protocols, other jobs and earlier attempts are refused and do no harm. A rank that fails here tells rank 0, which tells
 * those that wait, and all end by that error.
 */
export async function rendezvous(place: Place, options: { signal?: AbortSignal; log?: Log } = {}): Promise<Neighbours> {
  const meeting = new Meeting(place, options);
  try {
    return await meeting.run();
  } catch (error) {
    await meeting.tell(error);
    meeting.destroy();
    throw error;
  } finally {
    meeting.release();
  }
}

/**
 * For a process that fails before it has met the others: tells rank 0 why, which ends all that wait for this one by the same error.
 * Rank 0 itself tells nobody: what it ends with is what the job ends with. Takes up to 20 s, since rank 0 may not
 * be there yet, or 10 s for what may be tried again; never rejects.
 */
export async function tellFailure(error: unknown, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  let place: Place;
  // Whoever does not know where it stands cannot say it either.
  try { place = placeOf(env); } catch { return; }
  if (place.rank > 0) await keepTelling(place, failureOf(error, place));
}

async function keepTelling(place: Place, failure: Failure): Promise<void> {
  // Whoever has lost a peer may have lost rank 0.
  const deadline = Date.now() + (failure.code === 'PeerLost' ? lastWords : failure.exitCode === ExitCode.TemporaryFailure ? patienceOfStopped : patience);
  for (let wait = 100; !await tellMain(place, failure); wait = Math.min(wait * 1.5, 1000)) {
    if (Date.now() + wait > deadline) return;
    await sleep(wait);
  }
}

/** Whether rank 0 was there and has understood. */
async function tellMain({ mainAddress, port, token }: Place, failure: Failure): Promise<boolean> {
  const socket = connect({ host: mainAddress!, port, noDelay: true });
  socket.on('error', () => {});
  const timer = setTimeout(() => socket.destroy(), lastWords);
  try {
    writeLine(socket, { protocol, kind: 'failed', token, failure });
    return 'ok' in (await readLine(socket) as Answer);
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

class Meeting {
  readonly #place: Place;
  readonly #log: Log | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: number;
  /** Everything opened here; closed when the rendezvous fails. */
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  readonly #joined = new Map<number, { socket: Socket; host: string; port: number }>();
  #complete = false;
  readonly #arrived = deferred();
  readonly #predecessor = deferred<Socket>();
  readonly #failure = deferred<never>();
  /** What another rank has failed by. */
  #told: Failure | undefined;
  #refusal: string | undefined;
  readonly #successorLeft = (): void => this.#failure.reject(this.#lost(`rank ${(this.#place.rank + 1) % this.#place.size} left during the rendezvous`));
  readonly #abort = (): void => this.#failure.reject(this.#signal!.reason);

  constructor(place: Place, options: { signal?: AbortSignal; log?: Log }) {
    this.#place = place;
    this.#log = options.log;
    this.#signal = options.signal;
    this.#deadline = Date.now() + place.timeoutSeconds * 1000;
    if (options.signal?.aborted) this.#abort();
    else options.signal?.addEventListener('abort', this.#abort, { once: true });
  }

  async run(): Promise<Neighbours> {
    const { rank, size } = this.#place;
    const { addresses, control } = await (rank === 0 ? this.#gather() : this.#join());
    const next = addresses[(rank + 1) % size]!;
    const successor = await this.#before(this.#connectNext(next.host, next.port), () => this.#lost(`rank ${(rank + 1) % size} did not answer at ${next.host}:${next.port}`), 30);
    const predecessor = await this.#before(this.#predecessor.promise, () => this.#lost(`rank ${(rank - 1 + size) % size} did not connect`), 30);
    for (const socket of control) {
      socket.removeAllListeners('close');
      if (rank > 0 && socket.writable) writeLine(socket, { ok: true });
      socket.end(() => socket.destroy());
    }
    successor.pause().off('close', this.#successorLeft);
    this.#sockets.delete(successor);
    this.#sockets.delete(predecessor);
    return { predecessor, successor };
  }

  /** Tells those that are here why this meeting fails. Never rejects. */
  async tell(error: unknown): Promise<void> {
    const { rank } = this.#place;
    if (rank > 0) {
      // Rank 0 also waits no longer than so, and knows who is missing.
      if (this.#told || (error as GenViewError).code === 'RendezvousTimeout') return;
      await keepTelling(this.#place, this.#failureOf(error));
      return;
    }
    const failure = this.#told ??= this.#failureOf(error), timer = setTimeout(() => this.destroy(), lastWords);
    await Promise.all([...this.#joined.values()].filter(({ socket }) => !socket.destroyed).map(({ socket }) => new Promise<void>((resolve) => {
      socket.once('close', () => resolve());
      writeLine(socket, { failed: failure });
      socket.end();
    })));
    clearTimeout(timer);
  }

  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  release(): void {
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#server?.close();
  }

  /** Rank 0: waits for all, and tells them. */
  async #gather(): Promise<{ addresses: readonly { host: string; port: number }[]; control: Socket[] }> {
    const { size, port, bindAddress } = this.#place;
    await this.#listen(bindAddress, port);
    await this.#before(this.#arrived.promise, () => {
      const missing = Array.from({ length: size }, (_, rank) => rank).filter((rank) => rank !== 0 && !this.#joined.has(rank));
      return timedOut(`rank 0 waited ${this.#place.timeoutSeconds} s on ${bindAddress}:${port} for rank ${missing.join(', ')} of ${size}: look at the log of ${missing.length === 1 ? 'that node' : 'those nodes'}, and check that nodes may connect to each other`);
    });
    const control = [...this.#joined.values()].map(({ socket }) => socket);
    // Where rank 0 is, each rank knows better: the address that it reached.
    const addresses = [{ host: '', port }, ...Array.from({ length: size - 1 }, (_, i) => { const { host, port } = this.#joined.get(i + 1)!; return { host, port }; })];
    for (const socket of control) writeLine(socket, { ports: addresses });
    return { addresses, control };
  }

  /** Every other rank: calls rank 0 until all have come. */
  async #join(): Promise<{ addresses: readonly { host: string; port: number }[]; control: Socket[] }> {
    const { rank, size, token, port, timeoutSeconds } = this.#place;
    const host = this.#place.mainAddress!;
    const late = (): GenViewError => timedOut(`rank ${rank} of ${size} did not meet rank 0 at ${host}:${port} within ${timeoutSeconds} s${this.#refusal ? ` (${this.#refusal})` : ''}: look at the log of the main node, and check that nodes may connect to each other`);
    for (let wait = 50; ; wait = Math.min(wait * 1.5, 1000)) {
      let control: Socket | undefined;
      try {
        control = await this.#before(this.#connect(host, port), late);
        if (!this.#server) await this.#listen(control.localAddress!, 0);
        writeLine(control, { protocol, kind: 'join', token, rank, size, port: (this.#server!.address() as AddressInfo).port } satisfies Greeting);
        const answer = await this.#before(readLine(control), late) as Answer;
        if ('ports' in answer && answer.ports.length === size) {
          return { addresses: answer.ports.map((address, i) => i === 0 ? { host, port } : address), control: [control] };
        }
        const failure = 'failed' in answer ? checkFailure(answer.failed) : undefined;
        if (failure) throw this.#failed(failure);
        this.#note('refused' in answer ? `${host}:${port} refused: ${answer.refused}` : `${host}:${port} gave an answer that this version does not understand`);
      } catch (error) {
        if (error instanceof GenViewError || this.#signal?.aborted) throw error;
        // Not listening yet, or another job's process has just left: call again.
        this.#refusal ??= (error as Error).message;
      }
      control?.destroy();
      await this.#before(sleep(wait), late);
    }
  }

  async #connectNext(host: string, port: number): Promise<Socket> {
    const socket = await this.#connect(host, port);
    socket.once('close', this.#successorLeft);
    writeLine(socket, { protocol, kind: 'ring', token: this.#place.token, rank: this.#place.rank } satisfies Greeting);
    await readLine(socket);
    // Nothing comes from a successor yet, but only a flowing socket notices that its other end is gone.
    return socket.resume();
  }

  #connect(host: string, port: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true });
      this.#keep(socket);
      const tooSlow = setTimeout(() => socket.destroy(new Error(`no answer from ${host}:${port}`)), greetingMilliseconds);
      socket.once('connect', () => { clearTimeout(tooSlow); socket.off('error', reject); resolve(socket); });
      socket.once('error', (error) => { clearTimeout(tooSlow); reject(error); });
    });
  }

  async #listen(address: string, port: number): Promise<void> {
    const late = (): GenViewError => timedOut(`port ${port} of ${address} is still in use after ${this.#place.timeoutSeconds} s: stop the process that holds it, or set GENVIEW_RENDEZVOUS_PORT to a free port on every node`);
    for (;;) {
      const server = createServer({ noDelay: true }, (socket) => { this.#keep(socket); void this.#greet(socket); });
      const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
        server.once('error', resolve);
        server.listen({ host: address, port }, () => resolve(undefined));
      });
      if (!error) { this.#server = server; return; }
      if (error.code !== 'EADDRINUSE') {
        throw new GenViewError('RendezvousFailed', `cannot listen on ${address}:${port} (${error.message}): set GENVIEW_RENDEZVOUS_ADDRESS and GENVIEW_RENDEZVOUS_PORT to an address and port of this node`, { cause: error });
      }
      this.#note(`port ${port} is in use; waiting for it`);
      await this.#before(sleep(250), late);
    }
  }

  async #greet(socket: Socket): Promise<void> {
    const silent = setTimeout(() => socket.destroy(), greetingMilliseconds);
    try {
      const greeting = await readLine(socket) as Partial<Greeting>;
      const { rank, size, token } = this.#place;
      if (greeting === null || typeof greeting !== 'object' || greeting.protocol !== protocol) return this.#refuse(socket, `this is ${protocol}, not a place for another protocol`);
      if (greeting.token !== token) return this.#refuse(socket, 'another job, or another attempt of the same job, holds this port');
      if (greeting.kind === 'ring') {
        if (greeting.rank !== (rank - 1 + size) % size) return this.#refuse(socket, `rank ${greeting.rank} is not the predecessor of rank ${rank}`);
        writeLine(socket, { ok: true });
        this.#predecessor.resolve(socket);
        return;
      }
      if (greeting.kind === 'failed') {
        const failure = checkFailure(greeting.failure);
        if (!failure || rank !== 0) return this.#refuse(socket, `rank ${rank} does not understand this failure`);
        writeLine(socket, { ok: true });
        this.#failure.reject(this.#failed(failure));
        return;
      }
      if (greeting.kind !== 'join' || rank !== 0 || !Number.isInteger(greeting.rank) || !Number.isInteger(greeting.port)) return this.#refuse(socket, `rank ${rank} does not understand this greeting`);
      const theirs = greeting.rank!;
      if (greeting.size !== size) return this.#refuse(socket, `rank ${theirs} expects ${greeting.size} ranks, rank 0 expects ${size}`);
      if (theirs < 1 || theirs >= size) return this.#refuse(socket, `there is no rank ${theirs} in a group of ${size}`);
      if (this.#told) {
        writeLine(socket, { failed: this.#told });
        socket.end();
        return;
      }
      if (this.#joined.has(theirs)) return this.#refuse(socket, `rank ${theirs} is already here`);
      this.#joined.set(theirs, { socket, host: plainAddress(socket.remoteAddress!), port: greeting.port! });
      // Whoever has found its neighbours says so before it leaves; rank 0 may still be waiting for its own.
      let found = false;
      socket.on('data', () => { found = true; });
      socket.once('close', () => {
        if (found) return;
        if (this.#complete) this.#failure.reject(this.#lost(`rank ${theirs} left during the rendezvous`));
        else this.#joined.delete(theirs);
      });
      socket.resume();
      if (this.#joined.size === size - 1) { this.#complete = true; this.#arrived.resolve(); }
    } catch {
      socket.destroy();
    } finally {
      clearTimeout(silent);
    }
  }

  #refuse(socket: Socket, reason: string): void {
    this.#note(`refused a connection from ${plainAddress(socket.remoteAddress ?? 'nowhere')}: ${reason}`);
    socket.end(JSON.stringify({ refused: reason }) + '\n', () => socket.destroy());
  }

  #note(message: string): void {
    if (this.#refusal !== message) this.#log?.warn(message);
    this.#refusal = message;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #failureOf(error: unknown): Failure {
    return this.#signal?.aborted && error === this.#signal.reason ? failureOfStop(error, this.#place) : failureOf(error, this.#place);
  }

  #failed(failure: Failure): GenViewError {
    this.#told ??= failure;
    return errorOfFailure(failure, this.#place.size);
  }

  #lost(what: string): GenViewError {
    return new GenViewError('PeerLost', `${what}; start the job again, it continues from the last checkpoint`, { exitCode: ExitCode.TemporaryFailure });
  }

  /** `work`, unless the meeting fails or the time is over before. */
  async #before<T>(work: Promise<T>, late: () => GenViewError, atMostSeconds = Infinity): Promise<T> {
    const milliseconds = Math.min(this.#deadline - Date.now(), atMostSeconds * 1000);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => { timer = setTimeout(() => reject(late()), Math.max(0, milliseconds)); });
    work.catch(() => {});
    try {
      return await Promise.race([this.#failure.promise, work, timeout]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function timedOut(message: string): GenViewError {
  return new GenViewError('RendezvousTimeout', message, { exitCode: ExitCode.TemporaryFailure });
}

function plainAddress(address: string): string {
  return address.replace(/^::ffff:/, '');
}

function writeLine(socket: Socket, value: Greeting | Answer): void {
  socket.write(JSON.stringify(value) + '\n');
}

/** The first line, as JSON; what follows it stays in the socket, which is paused afterwards. */
function readLine(socket: Socket): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let text = Buffer.alloc(0);
    const stop = (): void => { socket.pause(); socket.off('data', read).off('close', closed); };
    const closed = (): void => { stop(); reject(new Error('the connection was closed')); };
    const read = (chunk: Buffer): void => {
      text = Buffer.concat([text, chunk]);
      const end = text.indexOf(10);
      if (end < 0) {
        if (text.length > maximumLine) { stop(); reject(new Error('the greeting is too long')); }
        return;
      }
      stop();
      const rest = text.subarray(end + 1);
      if (rest.length > 0) socket.unshift(rest);
      try { resolve(JSON.parse(text.toString('utf8', 0, end))); } catch (error) { reject(error as Error); }
    };
    socket.on('data', read).on('close', closed);
    socket.resume();
  });
}
