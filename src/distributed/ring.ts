import type { Socket } from 'node:net';
import { ExitCode } from '../errors.ts';
import type { Collective } from './collective.ts';
import { deferred, type Deferred } from './deferred.ts';
import { checkFailure, errorOfFailure, failureOf, failureOfStop, longestFailure, type Failure } from './failure.ts';
import type { Neighbours } from './rendezvous.ts';

export interface RingOptions extends Neighbours {
  readonly rank: number;
  readonly size: number;
  /** The machine that this is, for the others' messages. */
  readonly node: number;
  /** Seconds without a sign of life after which the predecessor counts as lost. */
  readonly peerTimeoutSeconds: number;
  readonly signal?: AbortSignal | undefined;
}

/** Frame: kind and payload bytes, two little-endian 32-bit numbers, then the payload. */
const Kind = { Heartbeat: 0, Data: 1, Goodbye: 2, Failure: 3 } as const;
const headerBytes = 8;
/** Largest payload of a frame, so that a heartbeat never waits long behind data. */
const frameBytes = 1 << 20;
/** Elements added at a time: received bytes are added while the next ones travel. */
const pieceElements = 1 << 16;

const Operation = { AllReduce: 1, AllGather: 2, Broadcast: 3, Barrier: 4 } as const;
const operationName: Record<number, string> = { 1: 'allReduceSum', 2: 'allGather', 3: 'broadcast', 4: 'barrier' };

/** Heartbeats in one time-out: losing some of them is no loss of a peer. */
const beatsPerTimeout = 6;
/** Milliseconds that a broken ring waits for its neighbours to read why. They close at once, unless they hang. */
const lastWords = 3000;
/** Milliseconds for which a lost connection is not yet a lost peer: why it went may still be on its way round the ring. */
const wordsTravel = 1000;

/**
 * A collective over a ring of TCP connections: every rank receives from its predecessor and sends to its successor, so
 * each connection carries 2 (size - 1) / size of the data per all-reduce, whatever the size (Baidu's ring all-reduce).
 * All ranks have the same byte order. A rank that fails tells both neighbours why before it closes, each of them tells the
 * next, and all end by that error. A neighbour that closes without a word is lost, and that is told in the same way; a
 * silent predecessor (stopped process, dead host) is noticed by its missing heartbeats.
 */
export function createRing(options: RingOptions): Collective {
  return new Ring(options);
}

class Ring implements Collective {
  readonly rank: number;
  readonly size: number;
  /** What the others are told of where a failure was. */
  readonly #place: { readonly rank: number; readonly node: number };
  readonly #predecessor: Socket;
  readonly #successor: Socket;
  readonly #peerTimeoutSeconds: number;
  readonly #signal: AbortSignal | undefined;
  /** Rejects with the reason when the ring is broken. */
  readonly #broken: Deferred<never> = deferred<never>();
  #error: unknown;
  /** Sends that wait for the operating system. A race with `#broken` would leave something in that promise each time. */
  readonly #flushing = new Set<Deferred<void>>();
  /** Resolves when the neighbours have been told of it. */
  #told: Promise<void> | undefined;
  readonly #finished = { predecessor: deferred(), successor: deferred() };
  #predecessorFinished = false;
  #closing: Promise<void> | undefined;
  /** Operations run one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #sequence = 0;

  /** Received payload that no operation has asked for yet. */
  readonly #received: Uint8Array[] = [];
  #wanted: { target: Uint8Array; filled: number; done: Deferred<void> } | undefined;

  #heard = true;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #onAbort = (): void => this.#break(this.#signal!.reason, failureOfStop(this.#signal!.reason, this.#place));
  /** A process that ends by an error nobody caught has just the time to say so. */
  readonly #onCrash = (error: unknown): void => this.#break(error);

  constructor(options: RingOptions) {
    this.rank = options.rank;
    this.size = options.size;
    this.#place = { rank: options.rank, node: options.node };
    this.#predecessor = options.predecessor;
    this.#successor = options.successor;
    this.#peerTimeoutSeconds = options.peerTimeoutSeconds;
    this.#signal = options.signal;

    const before = (this.rank - 1 + this.size) % this.size, after = (this.rank + 1) % this.size;
    this.#listen(this.#predecessor, `rank ${before}`, (bytes) => this.#accept(bytes), () => { this.#predecessorFinished = true; this.#finished.predecessor.resolve(); this.#starve(); });
    this.#listen(this.#successor, `rank ${after}`, () => this.#lose(`rank ${after} sent data against the direction of the ring`), () => this.#finished.successor.resolve());
    // Beats are counted, not milliseconds: a long computation that keeps this process from reading is no fault of the peer.
    let silent = 0;
    this.#heartbeat = setInterval(() => {
      if (!this.#successor.writableEnded) this.#successor.write(header(Kind.Heartbeat, 0));
      silent = this.#heard || this.#predecessorFinished ? 0 : silent + 1;
      this.#heard = false;
      if (silent >= beatsPerTimeout) this.#lose(`rank ${before} was silent for ${this.#peerTimeoutSeconds} s`);
    }, this.#peerTimeoutSeconds * 1000 / beatsPerTimeout);
    process.on('uncaughtExceptionMonitor', this.#onCrash);
    if (this.#signal?.aborted) this.#onAbort();
    else this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  allReduceSum(data: Float32Array): Promise<void> {
    return this.#operation(Operation.AllReduce, data.length, async () => {
      const { rank, size } = this;
      const chunk = (index: number): Float32Array => {
        const i = ((index % size) + size) % size;
        return data.subarray(Math.floor(data.length * i / size), Math.floor(data.length * (i + 1) / size));
      };
      const scratch = new Float32Array(Math.min(pieceElements, Math.ceil(data.length / size)));
      // Reduce-scatter: chunk c starts at rank c and collects one addend at each rank, in the order of the ring.
      for (let step = 0; step < size - 1; step++) {
        const sent = this.#send(bytesOf(chunk(rank - step)));
        sent.catch(() => {});
        const target = chunk(rank - step - 1);
        for (let start = 0; start < target.length; start += pieceElements) {
          const piece = scratch.subarray(0, Math.min(pieceElements, target.length - start));
          await this.#receive(bytesOf(piece));
          for (let i = 0; i < piece.length; i++) target[start + i] = piece[i]! + target[start + i]!;
        }
        await sent;
      }
      // All-gather: the finished chunks travel once round.
      for (let step = 0; step < size - 1; step++) {
        await Promise.all([this.#send(bytesOf(chunk(rank + 1 - step))), this.#receive(bytesOf(chunk(rank - step)))]);
      }
    });
  }

  allGather(data: Float32Array): Promise<Float32Array> {
    return this.#operation(Operation.AllGather, undefined, async () => {
      const parts: Float32Array[] = [];
      parts[this.rank] = data;
      for (let step = 0; step < this.size - 1; step++) {
        const mine = parts[(this.rank - step + this.size) % this.size]!;
        const sent = Promise.all([this.#send(bytesOf(Uint32Array.of(mine.length))), this.#send(bytesOf(mine))]);
        sent.catch(() => {});
        const length = new Uint32Array(1);
        await this.#receive(bytesOf(length));
        const theirs = new Float32Array(length[0]!);
        await this.#receive(bytesOf(theirs));
        parts[(this.rank - step - 1 + this.size) % this.size] = theirs;
        await sent;
      }
      const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
      let offset = 0;
      for (const part of parts) { all.set(part, offset); offset += part.length; }
      return all;
    });
  }

  broadcast(data: Float32Array, root = 0): Promise<void> {
    if (!Number.isInteger(root) || root < 0 || root >= this.size) return Promise.reject(new RangeError(`there is no rank ${root} in a group of ${this.size}`));
    return this.#operation(Operation.Broadcast, data.length, async () => {
      const isLast = (this.rank + 1) % this.size === root;
      for (let start = 0; start < data.length || start === 0; start += pieceElements) {
        const piece = bytesOf(data.subarray(start, start + pieceElements));
        if (this.rank !== root) await this.#receive(piece);
        if (!isLast) await this.#send(piece);
      }
    });
  }

  barrier(): Promise<void> {
    return this.#operation(Operation.Barrier, 0, async () => {
      // After size - 1 tokens from the predecessor, every rank has sent its first.
      const token = new Uint8Array(1);
      for (let step = 0; step < this.size - 1; step++) await Promise.all([this.#send(new Uint8Array(1)), this.#receive(token)]);
    });
  }

  close(error?: unknown): Promise<void> {
    if (error !== undefined) this.#break(error);
    this.#closing ??= (async () => {
      await this.#last.catch(() => {});
      if (!this.#error) {
        for (const socket of [this.#predecessor, this.#successor]) socket.write(header(Kind.Goodbye, 0));
        // Leaving before the neighbours have said goodbye could reset the connection and lose what they have not read.
        await Promise.race([this.#broken.promise, Promise.all([this.#finished.predecessor.promise, this.#finished.successor.promise])]).catch(() => {});
      }
      await this.#told;
      this.#error ??= new Error('the collective is closed');
      this.#release();
      for (const socket of [this.#predecessor, this.#successor]) socket.end(() => socket.destroy());
    })();
    return this.#closing;
  }

  /** Queues an operation; it begins by making sure that the neighbour is in the same one. */
  #operation<T>(operation: number, length: number | undefined, work: () => Promise<T>): Promise<T> {
    if (this.#closing) return Promise.reject(new Error('the collective is closed'));
    const result = this.#last.then(async () => {
      if (this.#error) throw this.#error;
      const mine = Uint32Array.of(operation, this.#sequence++, length === undefined ? 0 : length % 2 ** 32, length === undefined ? 0 : Math.floor(length / 2 ** 32));
      const theirs = new Uint32Array(4);
      await Promise.all([this.#send(bytesOf(mine)), this.#receive(bytesOf(theirs))]);
      if (mine.some((value, i) => value !== theirs[i])) {
        const describe = (fields: Uint32Array): string => `${operationName[fields[0]!] ?? 'something else'} of ${fields[2]! + fields[3]! * 2 ** 32} values (operation ${fields[1]})`;
        const error = new Error(`rank ${this.rank} is in ${describe(mine)}, rank ${(this.rank - 1 + this.size) % this.size} in ${describe(theirs)}`);
        this.#break(error);
        throw error;
      }
      return await work();
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /** Resolves when the bytes are with the operating system and may be changed. */
  async #send(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    if (this.#error) throw this.#error;
    const flushed = deferred();
    for (let start = 0; start < bytes.length; start += frameBytes) {
      const payload = bytes.subarray(start, start + frameBytes);
      this.#successor.cork();
      this.#successor.write(header(Kind.Data, payload.length));
      this.#successor.write(payload, start + frameBytes >= bytes.length ? () => flushed.resolve() : undefined);
      this.#successor.uncork();
    }
    this.#flushing.add(flushed);
    try { await flushed.promise; } finally { this.#flushing.delete(flushed); }
    if (this.#error) throw this.#error;
  }

  /** Fills `target` with the next bytes from the predecessor. */
  async #receive(target: Uint8Array): Promise<void> {
    if (this.#error) throw this.#error;
    let filled = 0;
    while (filled < target.length && this.#received.length > 0) {
      const first = this.#received[0]!;
      const taken = Math.min(first.length, target.length - filled);
      target.set(first.subarray(0, taken), filled);
      filled += taken;
      if (taken === first.length) this.#received.shift();
      else this.#received[0] = first.subarray(taken);
    }
    if (filled === target.length) return;
    const done = deferred();
    this.#wanted = { target, filled, done };
    this.#starve();
    await done.promise;
  }

  #accept(bytes: Uint8Array): void {
    if (this.#error) return;
    let rest = bytes;
    if (this.#wanted) {
      const { target, filled, done } = this.#wanted;
      const taken = Math.min(rest.length, target.length - filled);
      target.set(rest.subarray(0, taken), filled);
      this.#wanted.filled += taken;
      rest = rest.subarray(taken);
      if (this.#wanted.filled === target.length) { this.#wanted = undefined; done.resolve(); }
    }
    if (rest.length > 0) this.#received.push(rest);
  }

  /** An operation that waits for a predecessor who has said goodbye will never end. */
  #starve(): void {
    if (this.#wanted && this.#predecessorFinished) this.#lose(`rank ${(this.rank - 1 + this.size) % this.size} has left`);
  }

  #listen(socket: Socket, peer: string, accept: (bytes: Uint8Array) => void, goodbye: () => void): void {
    const head = Buffer.alloc(headerBytes);
    let headFilled = 0, payloadLeft = 0, finished = false;
    /** Of a failure; everything else is handed on as it comes. */
    let words: Buffer | undefined;
    const garbled = (): void => this.#lose(`${peer} sent what this version does not understand`);
    socket.on('data', (chunk: Buffer) => {
      if (socket === this.#predecessor) this.#heard = true;
      let offset = 0;
      while (offset < chunk.length) {
        if (payloadLeft > 0) {
          const taken = Math.min(payloadLeft, chunk.length - offset), part = chunk.subarray(offset, offset + taken);
          payloadLeft -= taken;
          offset += taken;
          if (words === undefined) { accept(part); continue; }
          words = Buffer.concat([words, part]);
          if (payloadLeft > 0) continue;
          const failure = parse(words);
          if (failure) this.#break(errorOfFailure(failure, this.size), failure, socket); else garbled();
          return;
        }
        const taken = Math.min(headerBytes - headFilled, chunk.length - offset);
        chunk.copy(head, headFilled, offset, offset + taken);
        headFilled += taken;
        offset += taken;
        if (headFilled < headerBytes) continue;
        headFilled = 0;
        const kind = head.readUInt32LE(0), length = head.readUInt32LE(4);
        if (kind === Kind.Data) payloadLeft = length;
        else if (kind === Kind.Goodbye) { finished = true; goodbye(); }
        else if (kind === Kind.Failure && length > 0 && length <= longestFailure) { payloadLeft = length; words = Buffer.alloc(0); }
        else if (kind !== Kind.Heartbeat) { garbled(); return; }
      }
    });
    // After its goodbye a neighbour stays until this rank has said goodbye too.
    const isOrderly = (): boolean => finished && this.#closing !== undefined;
    const lost = (what: string): void => { if (!isOrderly() && !this.#error) setTimeout(() => this.#lose(what), wordsTravel); };
    // To write to a neighbour that has gone loses what it said before, too.
    socket.on('error', (error) => lost(`the connection to ${peer} failed (${error.message})`));
    socket.on('close', () => lost(`the connection to ${peer} was closed`));
    socket.resume();
  }

  #lose(what: string): void {
    const failure: Failure = { ...this.#place, code: 'PeerLost', message: `${what}; start the job again, it continues from the last checkpoint`, exitCode: ExitCode.TemporaryFailure };
    this.#break(errorOfFailure(failure, this.size), failure);
  }

  /** Ends everything by `error`, and tells the neighbours, except the one that told us. */
  #break(error: unknown, failure = failureOf(error, this.#place), from?: Socket): void {
    if (this.#error) return;
    this.#error = error;
    this.#release();
    this.#broken.reject(error);
    this.#wanted?.done.reject(error);
    this.#wanted = undefined;
    for (const flushed of this.#flushing) flushed.reject(error);
    const words = Buffer.from(JSON.stringify(failure)), sockets = [this.#predecessor, this.#successor];
    for (const socket of sockets) {
      if (socket !== from && socket.writable) socket.write(Buffer.concat([header(Kind.Failure, words.length), words]));
      socket.end();
    }
    // To close with something unread would reset the connection, and what was written with it.
    const closed = Promise.all(sockets.filter((socket) => !socket.destroyed).map((socket) => new Promise<void>((resolve) => { socket.once('close', () => resolve()); })));
    const timer = setTimeout(() => { for (const socket of sockets) socket.destroy(); }, lastWords);
    this.#told = closed.then(() => clearTimeout(timer));
  }

  #release(): void {
    clearInterval(this.#heartbeat);
    process.off('uncaughtExceptionMonitor', this.#onCrash);
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

function parse(words: Buffer): Failure | undefined {
  try { return checkFailure(JSON.parse(words.toString())); } catch { return undefined; }
}

function header(kind: number, length: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt32LE(kind, 0);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

/** The same memory as bytes. */
function bytesOf(data: Float32Array | Uint32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
