import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { joinCollective } from '../../src/distributed/collective.ts';
import { placeOf, rendezvous } from '../../src/distributed/rendezvous.ts';
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
  const child = spawn(process.execPath, ['--import', 'tsx', program, task], { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
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
    const codes = await Promise.all(ranks.map((rank) => rank.ended));
    expect(codes, JSON.stringify(ranks.map(({ lines }) => lines))).toEqual(Array.from({ length: size }, () => 0));
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
    await expect(b.barrier()).rejects.toMatchObject({ code: 'PeerLost', exitCode: 75 });
    await Promise.all([a.close(), b.close()]);
  });

  it('waits for a slow rank, also when a quick one has met its neighbours and gone on', async () => {
    const port = await freePort(), [place, other] = [0, 1].map((rank) => placeOf(nodeEnvironment(rank, 3, port)));
    const quick = [rendezvous(place!), rendezvous(other!)] as const;
    for (const meeting of quick) meeting.catch(() => {});
    const say = (socket: Socket, value: object): boolean => socket.write(`${JSON.stringify(value)}\n`);
    // Rank 2: takes the connection of rank 1 at once, and is slow to make its own to rank 0.
    const sockets: Socket[] = [], { token } = place!, protocol = 'genview-ring-1';
    const server = createServer((socket) => { sockets.push(socket.once('data', () => say(socket, { ok: true }))); }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const call = async (): Promise<Socket> => {
      const socket = connect(port, '127.0.0.1');
      sockets.push(socket);
      try { await once(socket, 'connect'); return socket; } catch { await Promise.race([sleep(20), quick[0]]); return call(); }
    };
    try {
      const control = await call();
      say(control, { protocol, kind: 'join', token, rank: 2, size: 3, port: (server.address() as AddressInfo).port });
      await once(control, 'data');
      const second = await quick[1];
      // What rank 0 hears of it.
      await sleep(200);
      say(await call(), { protocol, kind: 'ring', token, rank: 2 });
      const first = await quick[0];
      for (const { predecessor, successor } of [first, second]) sockets.push(predecessor, successor);
      expect(first.successor.remotePort).toBe(second.predecessor.localPort);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
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
});
