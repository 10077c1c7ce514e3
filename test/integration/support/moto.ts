import { execFileSync, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort, waitForPort } from './ports.ts';

export { freePort };

const version = '5.2.5';
const environment = path.join(os.tmpdir(), `genview-moto-${version}`);
/** Of the environment that {@link installMoto} makes. */
export const motoPython = path.join(environment, 'bin', 'python');

/** Makes a virtual environment with the moto server, once, and keeps it. @returns why not, when it cannot be had */
export function installMoto(): string | undefined {
  const python = path.join(environment, 'bin', 'python');
  if (existsSync(path.join(environment, 'complete'))) return undefined;
  try {
    execFileSync('python3', ['-m', 'venv', environment], { stdio: 'pipe' });
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', `moto[s3,server]==${version}`], { stdio: 'pipe', timeout: 600_000 });
    writeFileSync(path.join(environment, 'complete'), '');
    return undefined;
  } catch (error) {
    return `Python with moto ${version} from PyPI cannot be had here: ${String((error as Error).message).split('\n')[0]}`;
  }
}

/**
 * Moto's server, with conditional writes one after the other: it looks and then writes without a lock, and lets two creators win. And with S3's etags
 * where KMS encrypts (by the request or the bucket): of nothing that the content tells, new with every upload.
 */
const program = `
import os, sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeKey
from moto.server import MotoRequestHandler
from werkzeug.serving import run_simple

app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def serial(environ, start_response):
    if environ["REQUEST_METHOD"] in ("PUT", "POST") and ("HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ):
        with lock:
            return list(app(environ, start_response))
    return app(environ, start_response)

plain_init = FakeKey.__init__

def init(self, *args, **options):
    plain_init(self, *args, **options)
    if self.encryption == "aws:kms":
        self._etag = os.urandom(16).hex() + (self._etag or "")[32:]

FakeKey.__init__ = init

run_simple("127.0.0.1", int(sys.argv[1]), serial, threaded=True, request_handler=MotoRequestHandler)
`;

export interface Moto {
  /** For this process and those it starts: where S3 is, and who we are there. */
  readonly env: Readonly<Record<string, string>>;
  stop(): void;
}

/** Starts an S3 server with one empty bucket. */
export async function startMoto(bucket: string): Promise<Moto> {
  const port = await freePort();
  const server = spawn(path.join(environment, 'bin', 'python'), ['-c', program, String(port)], { stdio: 'ignore' });
  const endpoint = `http://127.0.0.1:${port}`;
  await waitForPort(port, server);
  await fetch(`${endpoint}/${bucket}`, { method: 'PUT' });
  return { env: { AWS_ENDPOINT_URL_S3: endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' }, stop: () => { server.kill(); } };
}

/** Has KMS encrypt whatever is put into a bucket from now on. */
export async function encryptBucket({ env }: Pick<Moto, 'env'>, bucket: string): Promise<void> {
  const body = '<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>';
  const answer = await fetch(`${env['AWS_ENDPOINT_URL_S3']}/${bucket}?encryption`, { method: 'PUT', body });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
}
