import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, waitForPort } from './ports.ts';
import type { S3Server } from './s3Servers.ts';

const version = '1.8.0';
const installed = path.join(os.tmpdir(), `genview-versitygw-${version}`), program = path.join(installed, 'versitygw');

/** Builds the versitygw server from the Go module proxy, once (one or two minutes), and keeps it. @returns why not, when it cannot be had */
export function installVersitygw(): string | undefined {
  if (existsSync(program)) return undefined;
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'genview-go-'));
  try {
    execFileSync('go', ['install', `github.com/versity/versitygw/cmd/versitygw@v${version}`], {
      stdio: 'pipe', timeout: 900_000,
      env: { ...process.env, GOPATH: path.join(scratch, 'path'), GOBIN: path.join(scratch, 'bin'), GOCACHE: path.join(scratch, 'cache'), GOFLAGS: '-modcacherw -buildvcs=false' },
    });
    mkdirSync(installed, { recursive: true });
    renameSync(path.join(scratch, 'bin', 'versitygw'), program);
    return undefined;
  } catch (error) {
    return `versitygw ${version} from the Go module proxy cannot be had here: ${String((error as Error).message).split('\n')[0]}`;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** An S3 server that keeps objects as files in a folder, so that it can be killed and started again. Its bucket is to be made yet. */
export async function startVersitygw(): Promise<S3Server> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-versitygw-data-')), port = await freePort();
  const env = { AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${port}`, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'testsecret' };
  const objects = path.join(folder, 'objects'), attributes = path.join(folder, 'attributes');
  for (const each of [objects, attributes]) mkdirSync(each);
  let server: ChildProcess, options: string[] = [];
  const start = async (): Promise<void> => {
    server = spawn(program, ['--quiet', '--keep-alive', '--access', env.AWS_ACCESS_KEY_ID, '--secret', env.AWS_SECRET_ACCESS_KEY, '--port', `127.0.0.1:${port}`, 'posix', ...options, objects], { stdio: 'ignore' });
    await waitForPort(port, server);
  };
  const kill = async (): Promise<void> => {
    const ended = new Promise((resolve) => { server.once('exit', resolve); });
    server.kill('SIGKILL');
    await ended;
  };
  try { await start(); } catch {
    // A temporary folder without extended attributes.
    options = ['--sidecar', attributes];
    await start();
  }
  return {
    env,
    async restart(seconds) {
      await kill();
      await sleep(1000 * seconds);
      await start();
    },
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
