import { ListMultipartUploadsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GenViewError } from '../../src/errors.ts';
import { Random } from '../../src/random.ts';
import { once, openStore } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';
import { keysOf, text } from '../storage/objectStoreContract.ts';
import { atRandom, type Fault, type FaultyProxy, type ProxiedRequest, startFaultyProxy } from './support/faultyProxy.ts';
import { clientOf, type S3Server, s3Servers } from './support/s3Servers.ts';

const every: readonly Fault[] = [500, 503, 'done-500', 'cut-before', 'cut-request', 'cut-response', 'lost', { late: 100 }];
const MiB = 2 ** 20;
const pattern = (size: number, seed = 0): Buffer => Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 7 + (i >> 10) + seed) & 255));
const inPieces = (bytes: Buffer, size = 100_000): Readable => Readable.from((function* () { for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size); })());
async function whole(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe.each(s3Servers)('the store before $name, when requests fail', ({ name: serverName, install, start }) => {
  const missing = install();
  if (missing) { console.warn(`skipped: ${missing}`); it.skip(missing, () => {}); return; }

  const bucket = 'genview-faults';
  let server: S3Server, direct: ObjectStore;
  const proxies: FaultyProxy[] = [];
  let count = 0;

  beforeAll(async () => {
    server = await start(bucket);
    Object.assign(process.env, server.env);
  });
  afterAll(async () => {
    for (const proxy of proxies) await proxy.stop();
    for (const name of ['GENVIEW_S3_PATIENCE', 'GENVIEW_S3_TIMEOUT']) delete process.env[name];
    await server.stop();
  });

  /** An empty store behind a proxy of its own, `direct` being the same without the proxy. */
  async function behindProxy(rule?: FaultyProxy['rule'], env: Record<string, string> = {}): Promise<{ store: ObjectStore; proxy: FaultyProxy }> {
    const url = `s3://${bucket}/${count++}`;
    for (const name of ['GENVIEW_S3_PATIENCE', 'GENVIEW_S3_TIMEOUT']) delete process.env[name];
    process.env['AWS_ENDPOINT_URL_S3'] = server.env.AWS_ENDPOINT_URL_S3;
    direct = openStore(url);
    await direct.head('opens the client');
    const proxy = await startFaultyProxy(server.env.AWS_ENDPOINT_URL_S3);
    proxies.push(proxy);
    Object.assign(process.env, env, { AWS_ENDPOINT_URL_S3: proxy.endpoint });
    const store = openStore(url);
    await store.head('opens the client');
    proxy.counts.requests = 0;
    if (rule) proxy.rule = rule;
    return { store, proxy };
  }

  /** Something happens to the first requests that match: one, and its repetition. */
  function first(times: number, fault: Fault, matches: (request: ProxiedRequest) => boolean = () => true): FaultyProxy['rule'] {
    let left = times;
    return (request) => matches(request) && left-- > 0 ? fault : undefined;
  }

  it.each([500, 503, 'done-500', 'cut-before', 'cut-request', 'cut-response', 'lost'] as const)('does everything right after %s', async (fault) => {
    const { store, proxy } = await behindProxy();
    // Waits for SlowDown are long.
    const times = fault === 503 ? 1 : 2;
    const again = (): void => { proxy.rule = first(times, fault); };
    again();
    expect(await store.put('plain', 'one')).toBe(true);
    again();
    expect(await store.put('created', 'mine', { ifNoneMatch: '*' })).toBe(true);
    again();
    expect(await store.put('created', 'not mine', { ifNoneMatch: '*' })).toBe(false);
    const { etag } = (await direct.head('created'))!;
    again();
    expect(await store.put('created', 'replaced', { ifMatch: etag })).toBe(true);
    again();
    expect(await store.put('created', 'not this one', { ifMatch: etag })).toBe(false);
    again();
    expect(await store.put('absent', 'x', { ifMatch: etag })).toBe(false);
    again();
    expect(text(await store.get('created'))).toBe('replaced');
    again();
    expect(text(await store.get('created', { start: 2, end: 4 }))).toBe('pla');
    again();
    expect(await store.head('plain')).toEqual(await direct.head('plain'));
    again();
    expect(await store.head('absent')).toBeUndefined();
    again();
    expect(await keysOf(store)).toEqual(['created', 'plain']);
    again();
    await store.delete('plain');
    proxy.rule = () => undefined;
    expect(await keysOf(direct)).toEqual(['created']);
    // An answer without a body is not cut in its middle.
    if (fault === 'cut-response') expect(proxy.counts.faults[fault]).toBeGreaterThanOrEqual(16);
    else expect(proxy.counts.faults).toEqual({ [fault]: 12 * times });
  });

  it.each([503, 'cut-request', 'lost'] as const)('puts large objects whole after %s in each kind of its requests', async (fault) => {
    const kinds: Record<string, (request: ProxiedRequest) => boolean> = {
      create: ({ method, url }) => method === 'POST' && /[?&]uploads/.test(url),
      part: ({ method, url }) => method === 'PUT' && /partNumber=1/.test(url),
      complete: ({ method, url }) => method === 'POST' && /uploadId=/.test(url),
    };
    // One above the bound of a part: the smallest upload that has parts.
    const bytes = pattern(8 * MiB + 1);
    const { store, proxy } = await behindProxy();
    for (const [kind, matches] of Object.entries(kinds)) {
      proxy.rule = first(1, fault, matches);
      expect(await store.put(kind, inPieces(bytes), { ifNoneMatch: '*' }), kind).toBe(true);
      proxy.rule = first(1, fault, matches);
      expect(await store.put(kind, bytes), kind).toBe(true);
      proxy.rule = () => undefined;
      expect(Buffer.from(await direct.get(kind)).equals(bytes), kind).toBe(true);
      expect(await store.put(kind, inPieces(bytes), { ifNoneMatch: '*' }), kind).toBe(false);
    }
    expect(proxy.counts.faults).toEqual({ [fault]: 6 });
  });

  it('lets one of many creators win, and knows which, with a third of the requests failing', async () => {
    const { store, proxy } = await behindProxy(atRandom(1 / 3, every, 'creators'));
    for (let round = 0; round < 15; round++) {
      const won = await Promise.all([0, 1, 2, 3].map((i) => store.put(`race ${round}`, `writer ${i}`, { ifNoneMatch: '*' })));
      expect(won.filter(Boolean), `round ${round}`).toHaveLength(1);
      expect(text(await direct.get(`race ${round}`))).toBe(`writer ${won.indexOf(true)}`);
    }
    console.log(`${serverName}: 60 conditional puts for 15 objects: ${proxy.counts.requests} requests, ${Object.values(proxy.counts.faults).reduce((a, b) => a + b)} with a fault; 15 winners`);
  });

  it('loses and doubles no update of one object by several writers, with a third of the requests failing', async () => {
    const { store, proxy } = await behindProxy(atRandom(1 / 3, every, 'updates'));
    await direct.put('list', '[]');
    await Promise.all([1, 2, 3].map(async (writer) => {
      for (let i = 0; i < 8;) {
        const { etag } = (await store.head('list'))!;
        const list = JSON.parse(text(await store.get('list'))) as string[], own = `${writer}.${i}`;
        // A put that was replaced before its lost answer was missed is not known as one's own: its content tells.
        if (list.includes(own) || await store.put('list', JSON.stringify([...list, own]), { ifMatch: etag })) i++;
      }
    }));
    const list = JSON.parse(text(await direct.get('list'))) as string[];
    for (const writer of [1, 2, 3]) expect(list.filter((own) => own.startsWith(`${writer}.`))).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((i) => `${writer}.${i}`));
    console.log(`${serverName}: 24 updates by 3 writers: ${proxy.counts.requests} requests, ${Object.values(proxy.counts.faults).reduce((a, b) => a + b)} with a fault; none lost, none doubled`);
  });

  it('does work once with a third of the requests failing', async () => {
    const { store } = await behindProxy(atRandom(1 / 3, every, 'once'));
    for (let round = 0; round < 5; round++) {
      let runs = 0;
      const work = async (): Promise<void> => { runs++; await store.put(`work ${round}`, 'done'); };
      const outcomes = await Promise.all([1, 2, 3].map(() => once(store, `round-${round}.done`, work)));
      expect(outcomes.toSorted()).toEqual(['already', 'already', 'done']);
      expect(runs).toBe(1);
    }
    expect(await keysOf(direct)).toEqual([0, 1, 2, 3, 4].flatMap((round) => [`round-${round}.done`, `work ${round}`]).toSorted());
  });

  it('lists 1,100 keys with faults between the pages', async () => {
    const { store, proxy } = await behindProxy();
    const keys = Array.from({ length: 1100 }, (_, i) => `k${String(i).padStart(5, '0')}`);
    for (let i = 0; i < keys.length; i += 50) await Promise.all(keys.slice(i, i + 50).map((key) => direct.put(key, '')));
    for (const fault of [503, 'cut-response', 'lost'] as const) {
      proxy.rule = ({ number }) => number % 2 === 0 ? fault : undefined;
      proxy.counts.requests = 0;
      expect(await keysOf(store)).toEqual(keys);
      expect(proxy.counts.requests).toBe(4);
    }
    // A console's folder is no object.
    const client = clientOf(server);
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${count - 1}/folder/` }));
    client.destroy();
    proxy.rule = () => undefined;
    expect(await keysOf(store, 'f')).toEqual([]);
  });

  it('goes on where a download broke, any number of times', async () => {
    const { store, proxy } = await behindProxy();
    const size = 6 * MiB, bytes = pattern(size);
    await direct.put('large', bytes);
    // Every answer loses its second half until little is left: eight times in a row, more than are allowed without progress.
    const sizes: number[] = [];
    proxy.rule = ({ method, headers }) => {
      if (method !== 'GET') return undefined;
      const from = Number(/bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
      sizes.push(size - from);
      return sizes.length <= 8 ? 'cut-response' : undefined;
    };
    expect((await whole(await store.getStream('large'))).equals(bytes)).toBe(true);
    expect(sizes).toHaveLength(9);
    expect(sizes.toSorted((a, b) => b - a)).toEqual(sizes);
    expect(sizes.at(-1)).toBeLessThan(size / 128);
  });

  it('gives up a silent connection and asks again', async () => {
    const { store, proxy } = await behindProxy(undefined, { GENVIEW_S3_TIMEOUT: '1' });
    await direct.put('there', 'x');
    for (const ask of [() => store.get('there'), () => store.put('there', 'x'), () => store.head('there'), () => keysOf(store)]) {
      proxy.rule = first(2, 'hang');
      const since = performance.now();
      await ask();
      const seconds = (performance.now() - since) / 1000;
      expect(seconds).toBeGreaterThan(1.9);
      expect(seconds).toBeLessThan(20);
    }
    expect(proxy.counts.faults).toEqual({ hang: 8 });
  });

  it.each([503, 'cut-before'] as const)('ends with exit status 75, a bounded number of tries and growing waits, when %s does not pass', async (fault) => {
    const times: number[] = [];
    const { store } = await behindProxy(() => { times.push(performance.now()); return fault; }, { GENVIEW_S3_PATIENCE: '3' });
    const since = performance.now();
    const error: unknown = await store.put('x', 'x', { ifNoneMatch: '*' }).catch((thrown: unknown) => thrown);
    const seconds = (performance.now() - since) / 1000;
    expect(error).toBeInstanceOf(GenViewError);
    expect(error).toMatchObject({ exitCode: 75, code: fault === 503 ? 'StoreFailure' : 'StoreUnreachable' });
    expect(seconds).toBeGreaterThan(2.9);
    expect(seconds).toBeLessThan(15);
    expect(times.length).toBeGreaterThan(2);
    expect(times.length).toBeLessThan(30);
    expect(await direct.head('x')).toBeUndefined();
    console.log(`${serverName}: ${fault} for ever: ${times.length} tries in ${seconds.toFixed(1)} s of a patience of 3 s, gaps ${times.slice(1).map((time, i) => (time - times[i]!).toFixed(0)).join(', ')} ms`);
  });

  it('leaves no part of an upload that failed', async () => {
    const { store, proxy } = await behindProxy();
    const uploads = async (): Promise<number> => {
      const client = clientOf(server);
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: `${count - 1}/` }));
      client.destroy();
      return Uploads.length;
    };
    const broken = Readable.from((function* () { yield* [pattern(9 * MiB), pattern(9 * MiB)]; throw new Error('source broke'); })());
    await expect(store.put('large', broken)).rejects.toThrow('source broke');
    expect(await uploads()).toBe(0);
    // A condition that ceases to hold while the parts are sent.
    proxy.rule = ({ method, url }) => { if (method === 'POST' && /uploadId=/.test(url)) return { late: 1 }; return undefined; };
    const late = Readable.from((async function* () { yield pattern(9 * MiB); await direct.put('late', 'someone else'); yield pattern(MiB); })());
    expect(await store.put('late', late, { ifNoneMatch: '*' })).toBe(false);
    expect(text(await direct.get('late'))).toBe('someone else');
    expect(await uploads()).toBe(0);
  });

  it('ends with what was said to be done after 200 operations, a fifth of the requests failing', async () => {
    const { store, proxy } = await behindProxy(atRandom(1 / 5, every, 'model'));
    const model = new Map<string, string>(), random = new Random('operations');
    for (let step = 0; step < 200; step++) {
      const key = `o${random.integer(12)}`, value = `value ${step}`;
      switch (random.integer(5)) {
        case 0: await store.put(key, value); model.set(key, value); break;
        case 1: expect(await store.put(key, value, { ifNoneMatch: '*' })).toBe(!model.has(key)); if (!model.has(key)) model.set(key, value); break;
        case 2: await store.delete(key); model.delete(key); break;
        case 3: expect((await store.head(key))?.size).toBe(model.get(key)?.length); break;
        default: expect(await store.get(key).then(text, (error: GenViewError) => error.code)).toBe(model.get(key) ?? 'ObjectNotFound');
      }
    }
    expect(await keysOf(direct)).toEqual([...model.keys()].toSorted());
    for (const [key, value] of model) expect(text(await direct.get(key))).toBe(value);
    console.log(`${serverName}: 200 operations: ${proxy.counts.requests} requests, faults ${JSON.stringify(proxy.counts.faults)}`);
  });

  it('streams a large object both ways with little memory', async () => {
    process.env['AWS_ENDPOINT_URL_S3'] = server.env.AWS_ENDPOINT_URL_S3;
    const store = openStore(`s3://${bucket}/${count++}`), size = 192 * MiB, piece = pattern(MiB);
    globalThis.gc?.();
    const before = process.memoryUsage();
    let most = 0;
    const watch = setInterval(() => { const { heapUsed, external } = process.memoryUsage(); most = Math.max(most, heapUsed + external); }, 20);
    await store.put('large', Readable.from((function* () { for (let i = 0; i < size; i += MiB) yield piece; })()));
    let read = 0, differs = 0;
    for await (const chunk of await store.getStream('large') as AsyncIterable<Buffer>) {
      if (chunk[0] !== piece[read % MiB]) differs++;
      read += chunk.length;
    }
    clearInterval(watch);
    expect([read, differs, (await store.head('large'))!.size]).toEqual([size, 0, size]);
    const grown = (most - before.heapUsed - before.external) / MiB;
    console.log(`${serverName}: ${size / MiB} MiB streamed there and back with ${grown.toFixed(0)} MiB of memory`);
    // Four parts of 8 MiB under way, and what the collector has not taken yet.
    expect(grown).toBeLessThan(150);
    await store.delete('large');
  });
});
