import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { openStore } from '../../src/storage/index.ts';

const before = { ...process.env };
afterEach(() => { for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]; Object.assign(process.env, before); });

it.each([
  [400, 'ExpiredToken', 'the AWS credentials for s3://bucket/key have expired (ExpiredToken); renew them'],
  [403, 'InvalidAccessKeyId', "access to s3://bucket/key was denied (InvalidAccessKeyId); check credentials and the bucket's policy"],
])('credentials that S3 refuses with %i %s are named as what they are', async (status, code, message) => {
  const server = createServer((_request, response) => { response.writeHead(status, { 'content-type': 'application/xml' }).end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`); }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  Object.assign(process.env, { AWS_REGION: 'us-east-1', AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', AWS_ENDPOINT_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  try {
    await expect(openStore('s3://bucket/').get('key')).rejects.toMatchObject({ code: 'AccessDenied', exitCode: 2, message });
  } finally { server.closeAllConnections(); server.close(); }
});
