import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';

/** EC2's notice, two minutes ahead, that it takes a spot instance back. */
export interface SpotNotice {
  /** terminate, stop or hibernate */
  readonly action: string;
  readonly time: Date;
}

export interface SpotNoticeOptions {
  /** Ends the watch. */
  readonly signal: AbortSignal;
  readonly log: Log;
  readonly env?: NodeJS.ProcessEnv;
  /** Milliseconds between two looks. @default 5000, as EC2 recommends */
  readonly every?: number;
}

/** Failures in a row from the start after which there is taken to be no metadata service. */
const giveUpAfter = 3;
/** Milliseconds for one answer. */
const patience = 2000;

/**
 * Whether this is a job of AWS Batch on an EC2 instance: elsewhere nobody answers at the metadata service's address. Fargate itself
 * sends SIGTERM.
 */
export function onInstance(env: NodeJS.ProcessEnv): boolean {
  return !!env['AWS_BATCH_JOB_ID'] && env['AWS_BATCH_CE_NAME'] !== 'local' && env['AWS_EXECUTION_ENV'] !== 'AWS_ECS_FARGATE' && env['AWS_EC2_METADATA_DISABLED']?.toLowerCase() !== 'true';
}

/**
 * Looks at the instance's metadata (IMDSv2) until it announces the end of the instance. Resolves with undefined when there is
 * nothing to watch for: not {@link onInstance}, no spot instance, no metadata service (said once), or `signal` aborted.
 * AWS_EC2_METADATA_SERVICE_ENDPOINT and _ENDPOINT_MODE say where the service is, as for the AWS SDK.
 */
export async function watchSpotNotice({ signal, log, env = process.env, every = 5000 }: SpotNoticeOptions): Promise<SpotNotice | undefined> {
  if (!onInstance(env)) return undefined;
  const endpoint = (env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] || (env['AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE'] === 'IPv6' ? 'http://[fd00:ec2::254]' : 'http://169.254.169.254')).replace(/\/+$/, '');
  const ask = (path: string, init: RequestInit): Promise<Response> => fetch(`${endpoint}/latest/${path}`, { ...init, signal: AbortSignal.any([signal, AbortSignal.timeout(patience)]) });
  let token: string | undefined;
  /** The text at a path, or undefined where there is none. */
  const read = async (path: string): Promise<string | undefined> => {
    for (let attempt = 1; ; attempt++) {
      if (token === undefined) {
        const answer = await ask('api/token', { method: 'PUT', headers: { 'X-aws-ec2-metadata-token-ttl-seconds': '21600' } });
        if (!answer.ok) throw new Error(`no token: ${answer.status}`);
        token = await answer.text();
      }
      const answer = await ask(`meta-data/${path}`, { headers: { 'X-aws-ec2-metadata-token': token } });
      const text = await answer.text();
      if (answer.ok) return text;
      if (answer.status === 404) return undefined;
      // Expired.
      token = undefined;
      if (answer.status !== 401 || attempt === 2) throw new Error(`${path}: ${answer.status}`);
    }
  };

  let spot: boolean | undefined;
  for (let failures = 0; ;) {
    try {
      spot ??= await read('instance-life-cycle') === 'spot';
      if (!spot) return undefined;
      const notice = await read('spot/instance-action');
      failures = 0;
      if (notice !== undefined) {
        const { action, time } = JSON.parse(notice) as { action: string; time: string };
        const at = new Date(time);
        // That it ends matters more than when.
        return { action, time: Number.isNaN(at.getTime()) ? new Date() : at };
      }
    } catch (error) {
      if (signal.aborted) return undefined;
      if (spot === undefined && ++failures === giveUpAfter) {
        log.warn(`spot notices cannot be read: the metadata service at ${endpoint} does not answer (${reason(error)}); for containers its hop limit must be 2`);
        return undefined;
      }
    }
    try { await sleep(every, undefined, { signal, ref: false }); } catch { return undefined; }
  }
}

function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message || message : message;
}
