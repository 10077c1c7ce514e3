import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { compareKeys } from '../../src/storage/key.ts';
import type { SimulatedObjects } from './simulated.ts';

export type RequestKind = 'LIST' | 'GET' | 'HEAD' | 'PUT' | 'DELETE';

export interface ServerOptions {
  /** Buckets that can only be listed. Every other bucket can be written to; its objects are files of a temporary folder. */
  readonly simulated?: Readonly<Record<string, SimulatedObjects>>;
  /** Milliseconds before each answer. @default 0 */
  readonly latency?: number;
  /** Called before each answer; false ends the connection instead. */
  readonly onRequest?: (kind: RequestKind, key: string) => boolean | Promise<boolean>;
}

export interface Server {
  readonly endpoint: string;
  /** Since the start, by kind. */
  readonly requests: Record<RequestKind, number>;
  close(): Promise<void>;
}

interface Stored { readonly file: string; readonly size: number; readonly etag: string; readonly type: string }
interface Answer { readonly status: number; readonly headers?: Record<string, string | number>; readonly body?: string; readonly file?: { path: string; start: number; end: number } }
interface Entry { readonly key: string; readonly size: number; readonly etag: string }

/**
 * An S3 server for objects that are too many to exist: listing (V2) with prefix, delimiter, paging and encoded keys; get with ranges, head, put
 * with conditions and CRC-32, delete. No authentication, no multipart uploads.
 */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  const { simulated = {}, latency = 0 } = options;
  const folder = await mkdtemp(path.join(os.tmpdir(), 'genview-simulated-s3-'));
  const buckets = new Map<string, Map<string, Stored>>();
  const requests: Record<RequestKind, number> = { LIST: 0, GET: 0, HEAD: 0, PUT: 0, DELETE: 0 };
  let files = 0;
  const objectsOf = (bucket: string): Map<string, Stored> => {
    let objects = buckets.get(bucket);
    if (!objects) buckets.set(bucket, objects = new Map());
    return objects;
  };

  async function answer(request: http.IncomingMessage): Promise<Answer | undefined> {
    const url = new URL(request.url!, 'http://s3');
    const [, bucket = '', ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const key = rest.join('/');
    const kind = key === '' && request.method === 'GET' ? 'LIST' : request.method as RequestKind;
    if (!(kind in requests)) return failure(501, 'NotImplemented');
    const body = kind === 'PUT' ? await readBody(request) : Buffer.alloc(0);
    requests[kind] += 1;
    if (latency > 0) await sleep(latency);
    if (options.onRequest && !await options.onRequest(kind, key)) return undefined;
    const objects = objectsOf(bucket);
    if (kind === 'LIST') {
      const entries = simulated[bucket] ? simulatedEntries(simulated[bucket]) : storedEntries(objects);
      return { status: 200, headers: { 'content-type': 'application/xml' }, body: listing(bucket, entries, url.searchParams) };
    }
    if (kind === 'PUT') return put(objects, key, body, request.headers);
    if (kind === 'DELETE') {
      const old = objects.get(key);
      objects.delete(key);
      if (old) await rm(old.file);
      return { status: 204 };
    }
    const found = objects.get(key);
    if (!found) return failure(404, 'NoSuchKey');
    if (request.headers['if-match'] !== undefined && request.headers['if-match'] !== `"${found.etag}"`) return failure(412, 'PreconditionFailed');
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(from ?? 0), end = Math.min(to ? Number(to) : Infinity, found.size - 1);
    if (from !== undefined && start >= found.size) return failure(416, 'InvalidRange');
    return {
      status: from === undefined ? 200 : 206,
      headers: { 'etag': `"${found.etag}"`, 'content-length': end - start + 1, 'content-type': found.type, ...(from !== undefined && { 'content-range': `bytes ${start}-${end}/${found.size}` }) },
      ...(kind === 'GET' && end >= start && { file: { path: found.file, start, end } }),
    };
  }

  async function put(objects: Map<string, Stored>, key: string, body: Buffer, headers: http.IncomingHttpHeaders): Promise<Answer> {
    const checksum = headers['x-amz-checksum-crc32'];
    const found = Buffer.alloc(4);
    found.writeUInt32BE(crc32(body));
    if (checksum !== undefined && checksum !== found.toString('base64')) return failure(400, 'BadDigest');
    if (headers['content-encoding']?.includes('aws-chunked')) return failure(501, 'NotImplemented');
    const file = path.join(folder, String(++files));
    await writeFile(file, body);
    // From here to the end nothing else runs: conditions and write are one.
    const old = objects.get(key);
    const refused = (headers['if-none-match'] === '*' && old) || (headers['if-match'] !== undefined && headers['if-match'] !== `"${old?.etag}"`);
    if (refused) {
      await rm(file);
      return failure(412, 'PreconditionFailed');
    }
    const etag = createHash('md5').update(body).digest('hex');
    objects.set(key, { file, size: body.length, etag, type: headers['content-type'] ?? 'binary/octet-stream' });
    if (old) await rm(old.file);
    return { status: 200, headers: { etag: `"${etag}"` } };
  }

  const server = http.createServer((request, response) => {
    answer(request).then((given) => {
      if (!given) { request.socket.destroy(); return; }
      response.writeHead(given.status, { 'x-amz-request-id': String(Object.values(requests).reduce((a, b) => a + b)), ...given.headers });
      if (given.file) createReadStream(given.file.path, { start: given.file.start, end: given.file.end }).on('error', () => request.socket.destroy()).pipe(response);
      else response.end(given.body);
    }, (error: unknown) => { response.writeHead(500).end(`<Error><Code>InternalError</Code><Message>${String(error)}</Message></Error>`); });
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true });
    },
  };
}

async function readBody(request: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const failure = (status: number, code: string): Answer => ({ status, headers: { 'content-type': 'application/xml' }, body: `<Error><Code>${code}</Code></Error>` });

/** Objects in the order of their keys, to be found by number. */
interface Sorted { readonly count: number; at(index: number): Entry; key(index: number): string }

function simulatedEntries(objects: SimulatedObjects): Sorted {
  return { count: objects.count, key: (i) => objects.key(i), at: (i) => ({ key: objects.key(i), size: objects.size(i), etag: objects.etag(i) }) };
}

function storedEntries(objects: Map<string, Stored>): Sorted {
  const keys = [...objects.keys()].sort(compareKeys);
  return { count: keys.length, key: (i) => keys[i]!, at: (i) => ({ key: keys[i]!, ...objects.get(keys[i]!)! }) };
}

/** Number of the first object whose key is greater than `key`, or, if asked, not less. */
function positionBehind(sorted: Sorted, key: string, orAt = false): number {
  let low = 0, high = sorted.count;
  while (low < high) {
    const middle = (low + high) >> 1, order = compareKeys(sorted.key(middle), key);
    if (order > 0 || (orAt && order === 0)) high = middle; else low = middle + 1;
  }
  return low;
}

const last = '\u{10FFFF}';
const encode = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/').replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

function listing(bucket: string, sorted: Sorted, query: URLSearchParams): string {
  const prefix = query.get('prefix') ?? '', delimiter = query.get('delimiter') ?? '', limit = Math.min(Number(query.get('max-keys') ?? 1000), 1000);
  const token = query.get('continuation-token'), after = token === null ? query.get('start-after') ?? '' : Buffer.from(token, 'base64url').toString();
  let position = positionBehind(sorted, prefix, true);
  if (after !== '') position = Math.max(position, positionBehind(sorted, after));
  const contents: string[] = [], folders: string[] = [];
  let end = '';
  while (position < sorted.count && contents.length + folders.length < limit) {
    const key = sorted.key(position);
    if (!key.startsWith(prefix)) { position = sorted.count; break; }
    const slash = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    if (slash >= 0) {
      const folder = key.slice(0, slash + 1);
      folders.push(`<CommonPrefixes><Prefix>${encode(folder)}</Prefix></CommonPrefixes>`);
      end = folder + last;
      position = positionBehind(sorted, end);
    } else {
      const { size, etag } = sorted.at(position);
      contents.push(`<Contents><Key>${encode(key)}</Key><LastModified>2026-11-01T12:00:00.000Z</LastModified><ETag>&quot;${etag}&quot;</ETag><Size>${size}</Size><StorageClass>STANDARD</StorageClass></Contents>`);
      end = key;
      position += 1;
    }
  }
  const truncated = position < sorted.count && sorted.key(position).startsWith(prefix);
  return `<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>${bucket}</Name><Prefix>${encode(prefix)}</Prefix><EncodingType>url</EncodingType><KeyCount>${contents.length + folders.length}</KeyCount><MaxKeys>${limit}</MaxKeys><IsTruncated>${truncated}</IsTruncated>`
    + `${truncated ? `<NextContinuationToken>${Buffer.from(end).toString('base64url')}</NextContinuationToken>` : ''}${contents.join('')}${folders.join('')}</ListBucketResult>`;
}
