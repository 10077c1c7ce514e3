import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Notice { readonly action: string; readonly time: string }

export interface Metadata {
  /** Where it is, as programs are told. */
  readonly env: Readonly<Record<string, string>>;
  /** Requests, in order. */
  readonly asked: readonly string[];
  /** Tokens given, and requests refused for want of a valid one. */
  readonly tokens: number;
  readonly refused: number;
  failing: boolean;
  /** @param notice one that names a time from when it is read is made at that time */
  announce(notice: Notice | (() => Notice)): void;
  expireToken(): void;
  /** Waits until the notice was asked for so often. */
  looks(count: number): Promise<void>;
  stop(): void;
}

/** The part of EC2's instance metadata service, version 2, that tells of spot instances: tokens by PUT, no answer without one. */
export async function startMetadata({ lifeCycle }: { lifeCycle: string }): Promise<Metadata> {
  const asked: string[] = [];
  let token = '', notice: (() => Notice) | undefined, tokens = 0, refused = 0;
  const server = createServer(({ method, url, headers }, response) => {
    asked.push(`${method} ${url}`);
    const answer = (status: number, text: string): void => { response.writeHead(status, { 'Content-Type': 'text/plain' }).end(text); };
    if (metadata.failing) { answer(503, 'unavailable'); return; }
    if (url === '/latest/api/token') {
      const seconds = Number(headers['x-aws-ec2-metadata-token-ttl-seconds']);
      if (method !== 'PUT') { answer(405, ''); return; }
      if (!(seconds >= 1 && seconds <= 21_600)) { answer(400, ''); return; }
      tokens++;
      answer(200, token = randomUUID());
      return;
    }
    if (headers['x-aws-ec2-metadata-token'] !== token) { refused++; answer(401, ''); return; }
    if (url === '/latest/meta-data/instance-life-cycle') answer(200, lifeCycle);
    else if (url === '/latest/meta-data/spot/instance-action' && notice !== undefined) answer(200, JSON.stringify(notice()));
    else answer(404, '');
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const metadata: Metadata = {
    env: { AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    asked,
    get tokens() { return tokens; },
    get refused() { return refused; },
    failing: false,
    announce: (value) => { notice = typeof value === 'function' ? value : () => value; },
    expireToken: () => { token = 'expired'; },
    async looks(count) { while (asked.filter((request) => request.endsWith('/spot/instance-action')).length < count) await sleep(10); },
    stop: () => { server.closeAllConnections(); server.close(); },
  };
  return metadata;
}
