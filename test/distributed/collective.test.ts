import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { connect, createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { joinCollective, type Collective } from '../../src/distributed/collective.ts';
import { placeOf, rendezvous, tellFailure } from '../../src/distributed/rendezvous.ts';
import { createRing } from '../../src/distributed/ring.ts';
import { GenViewError } from '../../src/errors.ts';
import { Random } from '../../src/random.ts';

const program = fileURLToPath(new URL('rank.ts', import.meta.url));
const started: ChildProcess[] = [];
afterEach(() => { for (const child of started.splice(0)) child.kill('SIGKILL'); });

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** What AWS Batch sets on a node. */
function nodeEnvironment(node: number, size: number, port: number, more: Record<string, string> = {}): NodeJS.ProcessEnv {
  return {
    AWS_BATCH_JOB_NODE_INDEX: `${node}`, AWS_BATCH_JOB_NUM_NODES: `${size}`, AWS_BATCH_JOB_MAIN_NODE_INDEX: '0',
    AWS_BATCH_JOB_ID: `7d7c4a6e#${node}`, AWS_BATCH_JOB_ATTEMPT: '1', GENVIEW_RENDEZVOUS_PORT: `${port}`, GENVIEW_RENDEZVOUS_TIMEOUT: '50',
    ...(node === 0 ? { GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1' } : { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' }),
    ...more,
  };
}

interface Rank { child: ChildProcess; lines: Record<string, unknown>[]; said(n: number): Promise<void>; ended: Promise<number | null> }

function start(task: string, env: NodeJS.ProcessEnv): Rank {
  const child = spawn(process.execPath, ['--import', 'tsx', program, task], { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', 'pipe', task === 'crash' ? 'ignore' : 'inherit'] });
  started.push(child);
  const lines: Record<string, unknown>[] = [];
  let text = '', wake = (): void => {};
  child.stdout!.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) { lines.push(JSON.parse(text.slice(0, end)) as Record<string, unknown>); text = text.slice(end + 1); wake(); }
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => { resolve(code); wake(); }));
  return { child, lines, ended, said: async (n) => { while (lines.length < n) await new Promise<void>((resolve) => { wake = resolve; }); } };
}

describe('collective over a TCP ring', () => {
  it.each([2, 3])('sums, gathers and broadcasts among %i processes, started in any order', async (size) => {
    const port = await freePort();
    const ranks: Rank[] = [];
    // The main node starts last.
    for (let rank = size - 1; rank >= 0; rank--) { ranks[rank] = start('operations', nodeEnvironment(rank, size, port)); if (rank === 1) await sleep(300); }
    expect(await Promise.all(ranks.map((rank) => rank.ended))).toEqual(Array.from({ length: size }, () => 0));
    for (const [rank, { lines: [result] }] of ranks.entries()) {
      expect(result).toMatchObject({ rank, size, order: ['barrier', 'sum'], together: size * (size - 1) / 2 });
      expect(result!['gathered']).toEqual(size === 2 ? [10, 11, 12] : [10, 11, 12, 20, 21, 22, 23, 24, 25]);
      expect(result!['broadcast']).toEqual([(size - 1) * 1e6, (size - 1) * 1e6 + 99_999].map(Math.fround));
      expect(result!['sums']).toEqual(ranks[0]!.lines[0]!['sums']);
    }
    // The order of additions is the ring's: chunk c begins at rank c.
    const sums = ranks[0]!.lines[0]!['sums'] as Record<string, { hash: string }>;
    for (const length of [0, 1, 2, 5, 1000, 200_003]) {
      const values = Array.from({ length: size }, (_, rank) => new Random('values', rank, length).normals(length));
      const expected = new Float32Array(length);
      for (let c = 0; c < size; c++) {
        for (let i = Math.floor(length * c / size); i < Math.floor(length * (c + 1) / size); i++) {
          let sum = values[c]![i]!;
          for (let step = 1; step < size; step++) sum = Math.fround(sum + values[(c + step) % size]![i]!);
          expected[i] = sum;
        }
      }
      expect(sums[length]!.hash).toBe(createHash('sha256').update(new Uint8Array(expected.buffer)).digest('hex'));
    }
  });

  it('needs no more memory the longer it runs', async () => {
    const port = await freePort();
    const rings = await Promise.all([0, 1].map((rank) => joinCollective({ env: nodeEnvironment(rank, 2, port) })));
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const used = async (barriers: number): Promise<number> => {
      for (let i = 0; i < barriers; i++) await Promise.all(rings.map((ring) => ring.barrier()));
      collect();
      return process.memoryUsage().heapUsed;
    };
    const before = await used(1000), growth = await used(4000) - before;
    // A promise left behind by each of the 16,000 sends would be some 3 MB.
    expect(growth).toBeLessThan(0.7e6);
    await Promise.all(rings.map((ring) => ring.close()));
  });

  it('ends every rank with exit code 75 when one is killed', async () => {
    const port = await freePort();
    const ranks = [0, 1, 2].map((rank) => start('forever', nodeEnvironment(rank, 3, port)));
    await Promise.all(ranks.map((rank) => rank.said(1)));
    const killed = Date.now();
    ranks[1]!.child.kill('SIGKILL');
    expect(await Promise.all([ranks[0]!.ended, ranks[2]!.ended])).toEqual([75, 75]);
    // By the closed connection, not by the minute of silence after which a peer is lost.
    expect(Date.now() - killed).toBeLessThan(30_000);
    expect(ranks[0]!.lines[1]).toMatchObject({ code: 'PeerLost' });
    // Who notices it first is chance; the others say what that one says.
    expect(ranks[0]!.lines[1]).toMatchObject({ message: expect.stringMatching(/^rank [02] of 3 \(node [02]\): the connection to rank 1 (was closed|failed)/) });
    expect(ranks[2]!.lines[1]).toMatchObject({ code: 'PeerLost', message: expect.stringContaining('the connection to rank 1 ') });
  });

  it('ends every rank with exit code 75 when one stops answering', async () => {
    const port = await freePort();
    const ranks = [0, 1].map((rank) => start('forever', nodeEnvironment(rank, 2, port, { GENVIEW_PEER_TIMEOUT: '5' })));
    await Promise.all(ranks.map((rank) => rank.said(1)));
    ranks[0]!.child.kill('SIGSTOP');
    expect(await ranks[1]!.ended).toBe(75);
    expect(ranks[1]!.lines[1]).toMatchObject({ code: 'PeerLost', message: expect.stringContaining('rank 0 was silent for 5 s') });
    ranks[0]!.child.kill('SIGCONT');
    expect(await ranks[0]!.ended).toBe(75);
  });

  it('ends every rank when one leaves early or does something else', async () => {
    const [first, second] = [await freePort(), await freePort()];
    const early = [0, 1].map((rank) => start('leave', nodeEnvironment(rank, 2, first)));
    const different = [0, 1].map((rank) => start('mismatch', nodeEnvironment(rank, 2, second)));
    expect(await Promise.all(early.map((rank) => rank.ended))).toEqual([0, 75]);
    expect(early[1]!.lines[0]).toMatchObject({ message: expect.stringContaining('rank 0 has left') });
    const codes = await Promise.all(different.map((rank) => rank.ended));
    expect(codes.every((code) => code !== 0)).toBe(true);
    expect(different.flatMap((rank) => rank.lines).map((line) => line['message']).join('\n')).toContain('allReduceSum of 4 values');
  });

  it('refuses strangers and other jobs, and still meets its own', async () => {
    const port = await freePort();
    const main = joinCollective({ env: nodeEnvironment(0, 2, port) });
    await sleep(50);
    const stranger = connect(port, '127.0.0.1');
    stranger.on('error', () => {}).end('GET / HTTP/1.1\r\nHost: example.org\r\n\r\n');
    const stale = joinCollective({ env: nodeEnvironment(1, 2, port, { AWS_BATCH_JOB_ATTEMPT: '0', GENVIEW_RENDEZVOUS_TIMEOUT: '2' }) });
    await expect(stale).rejects.toMatchObject({ code: 'RendezvousTimeout', exitCode: 75, message: expect.stringContaining('another attempt of the same job') });
    const other = await joinCollective({ env: nodeEnvironment(1, 2, port) });
    const mine = await main;
    const [a, b] = [Float32Array.of(1, 2, 3), Float32Array.of(10, 20, 30)];
    await Promise.all([mine.allReduceSum(a), other.allReduceSum(b)]);
    expect([[...a], [...b]]).toEqual([[11, 22, 33], [11, 22, 33]]);
    await Promise.all([mine.close(), other.close()]);
  });

  it('has time for a slow rank: those that have found their neighbours may leave before', async () => {
    const port = await freePort(), [first, second, slow] = [0, 1, 2].map((rank) => placeOf(nodeEnvironment(rank, 3, port)));
    const quick = Promise.all([rendezvous(first!), rendezvous(second!)]);
    const protocol = 'genview-ring-2', { token } = slow!;
    // Rank 2, by hand: answers rank 1 at once, and goes to rank 0 later.
    const own = createServer((socket) => { socket.once('data', () => socket.write('{"ok":true}\n')); }).listen(0, '127.0.0.1');
    await once(own, 'listening');
    await sleep(50);
    const control = connect(port, '127.0.0.1');
    control.write(`${JSON.stringify({ protocol, kind: 'join', token, rank: 2, size: 3, port: (own.address() as AddressInfo).port })}\n`);
    await once(control, 'data');
    await sleep(500);
    const toFirst = connect(port, '127.0.0.1');
    toFirst.write(`${JSON.stringify({ protocol, kind: 'ring', token, rank: 2 })}\n`);
    const neighbours = await quick;
    expect(neighbours.map(({ successor }) => successor.remotePort)).toEqual([neighbours[1].predecessor.localPort, (own.address() as AddressInfo).port]);
    for (const { predecessor, successor } of neighbours) { predecessor.destroy(); successor.destroy(); }
    for (const socket of [control, toFirst]) socket.destroy();
    own.close();
  });

  it('says who is missing when the time is over', async () => {
    const port = await freePort();
    await expect(joinCollective({ env: nodeEnvironment(0, 3, port, { GENVIEW_RENDEZVOUS_TIMEOUT: '0.3' }) }))
      .rejects.toMatchObject({ code: 'RendezvousTimeout', exitCode: 75, message: expect.stringContaining('for rank 1, 2 of 3') });
    await expect(joinCollective({ env: nodeEnvironment(2, 3, port, { GENVIEW_RENDEZVOUS_TIMEOUT: '2' }) }))
      .rejects.toMatchObject({ code: 'RendezvousTimeout', message: expect.stringContaining('ECONNREFUSED') });
  });

  it('leaves when asked to, waiting or computing', async () => {
    const port = await freePort();
    const waiting = new AbortController();
    const alone = joinCollective({ env: nodeEnvironment(0, 2, port), signal: waiting.signal });
    setTimeout(() => waiting.abort(new Error('stopped')), 50);
    await expect(alone).rejects.toThrow('stopped');
    const computing = new AbortController();
    const [a, b] = await Promise.all([joinCollective({ env: nodeEnvironment(0, 2, port), signal: computing.signal }), joinCollective({ env: nodeEnvironment(1, 2, port) })]);
    const sum = a.allReduceSum(new Float32Array(3));
    computing.abort(new Error('stopped too'));
    await expect(sum).rejects.toThrow('stopped too');
    await expect(b.barrier()).rejects.toMatchObject({ code: 'Stopped', exitCode: 75, message: expect.stringContaining('rank 0 of 2 (node 0): ') });
    await Promise.all([a.close(), b.close()]);
  });

  it('is a group of one outside a multi-node job', async () => {
    const group = await joinCollective({ env: {} });
    const data = Float32Array.of(1, 2);
    await group.allReduceSum(data);
    expect([group.rank, group.size, ...data, ...await group.allGather(data)]).toEqual([0, 1, 1, 2, 1, 2]);
  });

  it('counts ranks from the main node and names a variable that makes no sense', () => {
    const env = { AWS_BATCH_JOB_NUM_NODES: '3', AWS_BATCH_JOB_NODE_INDEX: '0', AWS_BATCH_JOB_MAIN_NODE_INDEX: '1', AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '10.0.0.7' };
    expect(placeOf(env)).toMatchObject({ rank: 2, size: 3, mainAddress: '10.0.0.7', port: 29500, peerTimeoutSeconds: 60 });
    expect(() => placeOf({ ...env, AWS_BATCH_JOB_NODE_INDEX: '3' })).toThrow('AWS_BATCH_JOB_NODE_INDEX is "3": it must be a whole number between 0 and 2');
    expect(() => placeOf({ ...env, AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: undefined })).toThrow('AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS is not set on node 0');
    expect(() => placeOf({ ...env, GENVIEW_PEER_TIMEOUT: 'soon' })).toThrow('GENVIEW_PEER_TIMEOUT');
  });

  it('knows the machine of a rank where several run on one', () => {
    expect(placeOf({ ...nodeEnvironment(5, 8, 1), AWS_BATCH_JOB_ID: '7d7c4a6e#1' })).toMatchObject({ rank: 5, node: 1, token: placeOf(nodeEnvironment(0, 8, 1)).token });
    expect(placeOf({ ...nodeEnvironment(5, 8, 1), AWS_BATCH_JOB_ID: 'by-hand' })).toMatchObject({ rank: 5, node: 5 });
  });
});

describe('the error of one rank', () => {
  /** All ranks of a group, in this process. */
  async function group(size: number, more: Record<string, string> = {}): Promise<Collective[]> {
    const port = await freePort();
    return Promise.all(Array.from({ length: size }, (_, rank) => joinCollective({ env: nodeEnvironment(rank, size, port, more) })));
  }

  it('is that of all, whose exit status is its own', async () => {
    const port = await freePort(), ranks = [0, 1, 2, 3].map((rank) => start('fail', nodeEnvironment(rank, 4, port)));
    expect(await Promise.all(ranks.map((rank) => rank.ended))).toEqual([2, 2, 2, 2]);
    expect(ranks[1]!.lines).toEqual([{ code: 'ShardUnreadable', message: 'shard-00001.tar: sample 7 has no .json' }]);
    for (const rank of [0, 2, 3]) expect(ranks[rank]!.lines).toEqual([{ code: 'ShardUnreadable', message: 'rank 1 of 4 (node 1): shard-00001.tar: sample 7 has no .json' }]);
  });

  it('is told also when nobody catches it', async () => {
    const port = await freePort(), ranks = [0, 1, 2].map((rank) => start('crash', nodeEnvironment(rank, 3, port)));
    expect(await Promise.all(ranks.map((rank) => rank.ended))).toEqual([1, 1, 1]);
    for (const rank of [0, 2]) expect(ranks[rank]!.lines).toEqual([{ code: 'InternalError', message: 'rank 1 of 3 (node 1): TypeError: nobody catches it' }]);
  });

  it.each([
    ['may be tried again', new GenViewError('LeaseLost', 'another process took over', { exitCode: 75 }), { code: 'LeaseLost', exitCode: 75, message: 'rank 2 of 3 (node 2): another process took over' }],
    ['is a defect', new RangeError('Array buffer allocation failed'), { code: 'InternalError', exitCode: 1, message: 'rank 2 of 3 (node 2): RangeError: Array buffer allocation failed' }],
    ['is long', new GenViewError('RecipeInvalid', '\0é'.repeat(50_000)), { code: 'RecipeInvalid', exitCode: 2, message: `rank 2 of 3 (node 2): ${'\0é'.repeat(1999)}\0…` }],
  ])('that %s reaches those that compute, that wait, and that have said goodbye', async (_, error, expected) => {
    const [computing, leaving, failing] = await group(3) as [Collective, Collective, Collective];
    const sum = computing.allReduceSum(new Float32Array(1_000_000)), left = leaving.close();
    await failing.close(error);
    await expect(sum).rejects.toMatchObject(expected);
    await expect(computing.barrier()).rejects.toMatchObject(expected);
    await Promise.all([left, computing.close()]);
  });

  it('of a rank that hangs afterwards is known within seconds, behind whatever else was being sent', async () => {
    const port = await freePort();
    const joining = joinCollective({ env: nodeEnvironment(0, 2, port) });
    const place = placeOf(nodeEnvironment(1, 2, port)), neighbours = await rendezvous(place);
    const hanging = createRing({ ...place, ...neighbours }), sockets = [neighbours.predecessor, neighbours.successor];
    const [failing] = await Promise.all([joining, hanging.barrier()]);
    // Reads nothing, as a process does that is deep in a computation.
    for (const socket of sockets) socket.pause();
    const sum = failing.allReduceSum(new Float32Array(100_000)), late = hanging.barrier();
    const since = performance.now();
    await failing.close(new GenViewError('LossNotFinite', 'the loss became NaN at step 7'));
    await expect(sum).rejects.toMatchObject({ code: 'LossNotFinite', message: 'the loss became NaN at step 7' });
    expect(performance.now() - since).toBeGreaterThan(2500);
    // Not by the minute of silence.
    expect(performance.now() - since).toBeLessThan(30_000);
    for (const socket of sockets) socket.resume();
    await expect(late).rejects.toMatchObject({ code: 'LossNotFinite', exitCode: 2, message: 'rank 0 of 2 (node 0): the loss became NaN at step 7' });
    await hanging.close();
  });

  it('is believed rather than that its connection was lost, where it comes a moment later from the other side', async () => {
    const port = await freePort(), joining = joinCollective({ env: nodeEnvironment(0, 2, port) });
    const place = placeOf(nodeEnvironment(1, 2, port)), { predecessor, successor } = await rendezvous(place);
    const [ring] = await Promise.all([joining, createRing({ ...place, predecessor, successor }).barrier()]);
    for (const socket of [predecessor, successor]) socket.removeAllListeners().on('error', () => {}).resume();
    const barrier = ring.barrier();
    predecessor.destroy();
    await sleep(300);
    successor.write(frame(3, Buffer.from(JSON.stringify({ rank: 1, node: 1, code: 'LossNotFinite', message: 'the loss became NaN', exitCode: 2 }))));
    await expect(barrier).rejects.toMatchObject({ code: 'LossNotFinite', exitCode: 2 });
    successor.destroy();
  });

  it.each([
    ['no JSON', frame(3, Buffer.from('{"rank":1'))],
    ['a field too few', frame(3, Buffer.from('{"rank":1,"node":1,"code":"X","exitCode":2}'))],
    ['an exit status that means success', frame(3, Buffer.from('{"rank":1,"node":1,"code":"X","exitCode":0,"message":"x"}'))],
    ['more than an error has', Buffer.concat([frame(3, Buffer.alloc(0)).subarray(0, 4), Buffer.from([1, 128, 0, 0])])],
    ['a kind of a later version', frame(9, Buffer.from('x'))],
  ])('that is garbled is a lost peer: %s', async (_, bytes) => {
    const port = await freePort(), ring = joinCollective({ env: nodeEnvironment(0, 2, port) });
    const { predecessor, successor } = await rendezvous(placeOf(nodeEnvironment(1, 2, port)));
    for (const socket of [predecessor, successor]) socket.on('error', () => {}).resume();
    successor.write(bytes);
    await expect(ring).rejects.toMatchObject({ code: 'PeerLost', exitCode: 75, message: expect.stringContaining('rank 1 sent what this version does not understand') });
    for (const socket of [predecessor, successor]) socket.destroy();
  });

  describe('that fails before the group is complete', () => {
    const broken = new GenViewError('DeviceUnavailable', 'device cuda:1 cannot be had: there is one GPU; choose cuda:0');
    const expected = { code: 'DeviceUnavailable', exitCode: 2, message: 'rank 2 of 3 (node 2): device cuda:1 cannot be had: there is one GPU; choose cuda:0' };

    it('ends those that wait for it', async () => {
      const port = await freePort(), waiting = [0, 1].map((rank) => joinCollective({ env: nodeEnvironment(rank, 3, port) }));
      const ends = Promise.allSettled(waiting);
      await sleep(300);
      await tellFailure(broken, nodeEnvironment(2, 3, port));
      for (const end of await ends) expect(end).toMatchObject({ status: 'rejected', reason: expected });
    });

    it('waits a while for a main node that is not there yet, longer than one that is stopped', async () => {
      const port = await freePort(), told = tellFailure(broken, nodeEnvironment(2, 3, port));
      await sleep(700);
      await expect(joinCollective({ env: nodeEnvironment(0, 3, port) })).rejects.toMatchObject(expected);
      await told;
      const since = performance.now();
      await tellFailure(new GenViewError('Stopped', 'stopped: SIGTERM', { exitCode: 75 }), nodeEnvironment(2, 3, port));
      expect(performance.now() - since).toBeLessThan(60_000);
    });

    it('is told also by a rank that was stopped while it called a main node that was not there yet', async () => {
      const port = await freePort(), stop = new AbortController();
      const calling = expect(joinCollective({ env: nodeEnvironment(1, 3, port), signal: stop.signal })).rejects.toMatchObject({ code: 'Stopped' });
      await sleep(200);
      stop.abort(new GenViewError('Stopped', 'stopped: SIGTERM', { exitCode: 75 }));
      await sleep(500);
      await expect(joinCollective({ env: nodeEnvironment(0, 3, port) })).rejects.toMatchObject({ code: 'Stopped', exitCode: 75, message: 'rank 1 of 3 (node 1): stopped: SIGTERM' });
      await calling;
    });

    it('is told to a rank that comes while the main node tells the others', async () => {
      const port = await freePort(), main = expect(joinCollective({ env: nodeEnvironment(0, 3, port) })).rejects.toMatchObject(expected);
      await sleep(200);
      // A rank that does not close: the main node waits three seconds for it.
      const slow = connect({ host: '127.0.0.1', port, allowHalfOpen: true }), { token } = placeOf(nodeEnvironment(1, 3, port));
      slow.on('error', () => {}).resume().write(JSON.stringify({ protocol: 'genview-ring-2', kind: 'join', token, rank: 1, size: 3, port: 1 }) + '\n');
      await sleep(200);
      await tellFailure(broken, nodeEnvironment(2, 3, port));
      await expect(joinCollective({ env: nodeEnvironment(2, 3, port) })).rejects.toMatchObject(expected);
      await main;
      slow.destroy();
    });

    it('is not believed from another job', async () => {
      const port = await freePort(), main = joinCollective({ env: nodeEnvironment(0, 2, port) });
      await tellFailure(new GenViewError('Stopped', 'stopped: SIGTERM', { exitCode: 75 }), nodeEnvironment(1, 2, port, { AWS_BATCH_JOB_ID: 'other#1' }));
      const other = await joinCollective({ env: nodeEnvironment(1, 2, port) });
      await Promise.all([main.then((ring) => ring.close()), other.close()]);
    });

    it.each([0, 1])('ends all at once when rank %i is stopped', async (stopped) => {
      const port = await freePort(), stop = new AbortController();
      const waiting = Promise.allSettled([0, 1].map((rank) => joinCollective({ env: nodeEnvironment(rank, 3, port), ...(rank === stopped && { signal: stop.signal }) })));
      await sleep(300);
      const since = performance.now();
      stop.abort(new GenViewError('Stopped', 'stopped: SIGTERM', { exitCode: 75 }));
      const ends = await waiting;
      expect(performance.now() - since).toBeLessThan(15_000);
      for (const [rank, end] of ends.entries()) expect(end).toMatchObject({ status: 'rejected', reason: { code: 'Stopped', exitCode: 75, message: rank === stopped ? 'stopped: SIGTERM' : `rank ${stopped} of 3 (node ${stopped}): stopped: SIGTERM` } });
    });
  });
});

function frame(kind: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(kind, 0);
  header.writeUInt32LE(payload.length, 4);
  return Buffer.concat([header, payload]);
}
