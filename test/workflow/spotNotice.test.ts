import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { silentLog, type Log } from '../../src/log.ts';
import { onInstance, watchSpotNotice } from '../../src/workflow/spotNotice.ts';
import { startMetadata, type Metadata } from './metadataServer.ts';

const batch = { AWS_BATCH_JOB_ID: 'job', AWS_BATCH_CE_NAME: 'spot' };
let metadata: Metadata | undefined;
const stop = new AbortController();
afterEach(() => metadata?.stop());

const watch = (env: NodeJS.ProcessEnv, log: Log = silentLog, signal: AbortSignal = stop.signal): ReturnType<typeof watchSpotNotice> => watchSpotNotice({ signal, log, env: { ...batch, ...env }, every: 20 });

describe('the watch for the end of a spot instance', () => {
  it('looks again until there is a notice, with a token, and a new one when that has expired', async () => {
    metadata = await startMetadata({ lifeCycle: 'spot' });
    const notice = watch(metadata.env);
    await metadata.looks(2);
    metadata.expireToken();
    await metadata.looks(4);
    metadata.announce({ action: 'terminate', time: '2026-11-25T22:22:00Z' });
    expect(await notice).toEqual({ action: 'terminate', time: new Date('2026-11-25T22:22:00Z') });
    expect(metadata.tokens).toBe(2);
    expect(metadata.refused).toBe(1);
  });

  it('ends at once on an instance that is no spot instance', async () => {
    metadata = await startMetadata({ lifeCycle: 'on-demand' });
    expect(await watch(metadata.env)).toBe(undefined);
    expect(metadata.asked).toEqual(['PUT /latest/api/token', 'GET /latest/meta-data/instance-life-cycle']);
  });

  it('goes on when the service fails for a while', async () => {
    metadata = await startMetadata({ lifeCycle: 'spot' });
    const notice = watch(metadata.env);
    await metadata.looks(1);
    metadata.failing = true;
    const asked = metadata.asked.length;
    while (metadata.asked.length < asked + 5) await sleep(10);
    metadata.failing = false;
    const before = Date.now();
    metadata.announce({ action: 'stop', time: 'soon' });
    expect(await notice).toMatchObject({ action: 'stop' });
    const time = (await notice)!.time.getTime();
    expect([time >= before, time <= Date.now()]).toEqual([true, true]);
  });

  it('says once that there is no metadata service, and gives up', async () => {
    const said: string[] = [];
    const dead: Server = createServer((_request: IncomingMessage, response) => { response.writeHead(403).end(); }).listen(0, '127.0.0.1');
    await new Promise((resolve) => dead.once('listening', resolve));
    const endpoint = `http://127.0.0.1:${(dead.address() as AddressInfo).port}`;
    expect(await watch({ AWS_EC2_METADATA_SERVICE_ENDPOINT: `${endpoint}/` }, { ...silentLog, warn: (message) => said.push(message) })).toBe(undefined);
    dead.close();
    expect(said).toEqual([`spot notices cannot be read: the metadata service at ${endpoint} does not answer (no token: 403); for containers its hop limit must be 2`]);
  });

  it('ends with its signal', async () => {
    metadata = await startMetadata({ lifeCycle: 'spot' });
    const end = new AbortController();
    const notice = watch(metadata.env, silentLog, end.signal);
    await metadata.looks(1);
    end.abort();
    expect(await notice).toBe(undefined);
  });

  it('asks nobody outside an instance of AWS Batch', async () => {
    metadata = await startMetadata({ lifeCycle: 'spot' });
    for (const env of [{ AWS_BATCH_JOB_ID: undefined }, { AWS_BATCH_CE_NAME: 'local' }, { AWS_EXECUTION_ENV: 'AWS_ECS_FARGATE' }, { AWS_EC2_METADATA_DISABLED: 'true' }]) {
      expect(onInstance({ ...batch, ...env })).toBe(false);
      expect(await watch({ ...metadata.env, ...env })).toBe(undefined);
    }
    expect(onInstance({ ...batch, AWS_EXECUTION_ENV: 'AWS_ECS_EC2' })).toBe(true);
    expect(metadata.asked).toEqual([]);
  });
});
