import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../../../src/random.ts';

/**
 * What may go wrong with one request:
 * - an S3 error as the answer, with the request not done (`500`, `503`) or done (`done-500`);
 * - the connection cut before the request was read, in the middle of its body, in the middle of the answer's body, or
 *   after the server did what was asked and before its answer (`lost`: the one that makes a client do things twice);
 * - silence after the request (`hang`), or a late answer (milliseconds).
 */
export type Fault = 500 | 503 | 'done-500' | 'cut-before' | 'cut-request' | 'cut-response' | 'lost' | 'hang' | { readonly late: number };

export interface ProxiedRequest {
  readonly method: string;
  /** Path and query, as sent. */
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  /** 0, 1, … in the order of arrival. */
  readonly number: number;
}

export interface FaultyProxy {
  readonly endpoint: string;
  /** Decides what happens to a request; undefined: nothing. May be changed at any time. */
  rule: (request: ProxiedRequest) => Fault | undefined;
  /** Requests that arrived, and faults by their name. */
  readonly counts: { requests: number; faults: Record<string, number> };
  stop(): Promise<void>;
}

/** An HTTP proxy with real sockets before a server, that does to requests what its rule says. */
export async function startFaultyProxy(upstream: string, rule: FaultyProxy['rule'] = () => undefined): Promise<FaultyProxy> {
  const target = new URL(upstream);
  const agent = new http.Agent({ keepAlive: true });
  const counts: FaultyProxy['counts'] = { requests: 0, faults: {} };
  const server = http.createServer((request, response) => {
    request.on('error', () => {});
    response.on('error', () => {});
    const fault = proxy.rule({ method: request.method!, url: request.url!, headers: request.headers, number: counts.requests++ });
    if (fault !== undefined) {
      const name = typeof fault === 'object' ? 'late' : String(fault);
      counts.faults[name] = (counts.faults[name] ?? 0) + 1;
    }
    void serve(request, response, fault).catch(() => response.destroy());
  });

  async function serve(request: http.IncomingMessage, response: http.ServerResponse, fault: Fault | undefined): Promise<void> {
    switch (fault) {
      case 500: case 503: return refuse(request, response, fault);
      case 'cut-before': request.socket.destroy(); return;
      case 'hang': request.resume(); return;
      case 'cut-request': {
        const half = Number(request.headers['content-length'] ?? 0) / 2;
        const forwarded = forward(request);
        forwarded.on('error', () => {});
        let seen = 0;
        request.on('data', (chunk: Buffer) => {
          seen += chunk.length;
          if (seen >= half) { forwarded.destroy(); request.socket.destroy(); } else forwarded.write(chunk);
        });
        request.on('end', () => { forwarded.destroy(); request.socket.destroy(); });
        return;
      }
      default:
    }
    const forwarded = forward(request);
    request.pipe(forwarded);
    const answer = await new Promise<http.IncomingMessage>((resolve, reject) => { forwarded.on('response', resolve).on('error', reject); });
    if (fault === 'lost' || fault === 'done-500') {
      for await (const chunk of answer) void chunk;
      if (fault === 'lost') request.socket.destroy(); else await refuse(request, response, 500);
      return;
    }
    if (typeof fault === 'object') await sleep(fault.late);
    response.writeHead(answer.statusCode!, answer.rawHeaders);
    if (fault !== 'cut-response') {
      answer.on('error', () => response.destroy());
      answer.pipe(response);
      return;
    }
    const half = Number(answer.headers['content-length'] ?? 0) / 2;
    let sent = 0;
    response.flushHeaders();
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      response.write(chunk.subarray(0, Math.max(0, Math.floor(half) - sent)));
      sent += chunk.length;
      if (sent >= half) break;
    }
    // The half that was sent is to arrive: not `destroy`, which would drop what has not left yet.
    response.write('', () => request.socket.destroySoon());
  }

  function forward({ method, url, rawHeaders }: http.IncomingMessage): http.ClientRequest {
    // The host is part of the signature: it stays what the client wrote. Whether to go on with a large body, we have answered ourselves.
    const headers = [];
    for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.toLowerCase() !== 'expect') headers.push(rawHeaders[i]!, rawHeaders[i + 1]!);
    return http.request({ host: target.hostname, port: target.port, method, path: url, headers, agent } as http.RequestOptions);
  }

  async function refuse(request: http.IncomingMessage, response: http.ServerResponse, status: number): Promise<void> {
    // Read to its end first, as S3 does: an early answer would be another fault.
    for await (const chunk of request) void chunk;
    const [code, message] = status === 503 ? ['SlowDown', 'Please reduce your request rate.'] : ['InternalError', 'We encountered an internal error. Please try again.'];
    response.writeHead(status, { 'content-type': 'application/xml' });
    response.end(request.method === 'HEAD' ? undefined : `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`);
  }

  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const proxy: FaultyProxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    rule,
    counts,
    async stop() {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => { server.close(resolve); });
    },
  };
  return proxy;
}

/** A rule that does something to a share of the requests, each kind equally often; the same seed does the same to the same sequence. */
export function atRandom(share: number, faults: readonly Fault[], seed: string): FaultyProxy['rule'] {
  const random = new Random('faults', seed);
  return () => random.uniform(0, 1) < share ? faults[random.integer(faults.length)] : undefined;
}
