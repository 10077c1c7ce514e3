import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Statement } from '../../infra/support.ts';

/** A request as S3 authorises it. */
export interface Access {
  /** Access key of the caller. */
  readonly caller: string;
  readonly action: string;
  readonly key: string;
}

export interface IamGateway {
  readonly endpoint: string;
  /** What was refused, in order. */
  readonly refused: readonly Access[];
  /** `<caller> <action> <resource of the policy>` of every right that a request made use of. */
  readonly used: ReadonlySet<string>;
  stop(): Promise<void>;
}

/** Whether a pattern of IAM, `*` for any characters, fits. */
export function fits(pattern: string, value: string): boolean {
  return new RegExp(`^${pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`, 's').test(value);
}

/**
 * Stands before an S3 server that lets everybody do everything and refuses what the caller's policy does not allow, as S3
 * does: also the answer that an object is absent, to who may not list its name. Callers are told by their access keys.
 * @param policies statements by access key, with ARNs of the bucket filled in
 */
export async function startIamGateway(upstream: string, policies: Readonly<Record<string, readonly Statement[]>>): Promise<IamGateway> {
  const refused: Access[] = [], used = new Set<string>();
  const target = new URL(upstream);

  const allows = (caller: string, action: string, resource: string, prefix?: string): boolean => {
    let allowed = false;
    for (const { actions, resources, condition } of policies[caller] ?? []) {
      if (!actions.includes(action)) continue;
      const patterns = (condition as { StringLikeIfExists?: { 's3:prefix': string | string[] } } | undefined)?.StringLikeIfExists?.['s3:prefix'];
      if (condition && patterns === undefined) throw new Error(`a condition that the gateway does not know: ${JSON.stringify(condition)}`);
      if (patterns !== undefined && prefix !== undefined && ![patterns].flat().some((pattern) => fits(pattern, prefix))) continue;
      for (const pattern of resources) {
        if (!fits(pattern, resource)) continue;
        used.add(`${caller} ${action} ${pattern}`);
        allowed = true;
      }
    }
    return allowed;
  };

  const server = http.createServer((request, response) => {
    const url = new URL(request.url!, upstream);
    const [, bucket = '', key = ''] = /^\/([^/]+)\/?(.*)$/.exec(decodeURIComponent(url.pathname)) ?? [];
    const caller = /Credential=([^/]+)\//.exec(request.headers.authorization ?? '')?.[1] ?? 'nobody';
    const arn = `arn:aws:s3:::${bucket}`, object = `${arn}/${key}`;
    const action = actionOf(request.method!, key, url.searchParams);
    const refuse = (): void => {
      refused.push({ caller, action, key: key || (url.searchParams.get('prefix') ?? '') });
      response.writeHead(403, { 'content-type': 'application/xml' }).end(request.method === 'HEAD' ? '' : '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>');
    };
    if (!(action === 's3:ListBucket' ? allows(caller, action, arn, url.searchParams.get('prefix') ?? undefined) : allows(caller, action, object))) {
      request.resume();
      refuse();
      return;
    }
    const onward = http.request({ host: target.hostname, port: target.port, method: request.method, path: request.url, headers: request.headers }, (answer) => {
      if (answer.statusCode === 404 && action === 's3:GetObject' && !allows(caller, 's3:ListBucket', arn, key)) {
        answer.resume();
        refuse();
        return;
      }
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, refused, used,
    stop: () => new Promise((resolve) => { server.close(() => resolve()); server.closeAllConnections(); }),
  };
}

function actionOf(method: string, key: string, query: URLSearchParams): string {
  if (key === '') {
    if (method === 'GET' && query.get('list-type') === '2') return 's3:ListBucket';
    throw new Error(`a request to the bucket that the gateway does not know: ${method} ?${query.toString()}`);
  }
  if (method === 'GET' || method === 'HEAD') return 's3:GetObject';
  if (method === 'PUT' || method === 'POST') return 's3:PutObject';
  if (method === 'DELETE') return query.has('uploadId') ? 's3:AbortMultipartUpload' : 's3:DeleteObject';
  throw new Error(`a method that the gateway does not know: ${method}`);
}
