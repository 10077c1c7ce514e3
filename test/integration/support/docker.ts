import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface Docker {
  /** Runs the client; rejects with what it wrote when it fails. */
  run(args: readonly string[], options?: { readonly cwd?: string }): Promise<string>;
  /** Starts the client, for a container whose output is read meanwhile. */
  start(args: readonly string[]): ChildProcess;
  /** Ends the daemon and removes its data, where it is ours. */
  stop(): Promise<void>;
}

const first = (error: unknown): string => String((error as Error).message).trim().split('\n').at(-1)!;

/** A client that can build with BuildKit: an old one has it inside, a newer one needs the plug-in. */
function findClient(): string | undefined {
  return ['docker', '/usr/bin/docker', '/usr/local/bin/docker'].find((client) => {
    try {
      const major = Number(/Docker version (\d+)/.exec(execFileSync(client, ['--version'], { encoding: 'utf8', stdio: 'pipe' }))?.[1]);
      if (major >= 23) execFileSync(client, ['buildx', 'version'], { stdio: 'pipe' });
      return major >= 18;
    } catch { return false; }
  });
}

/**
 * The Docker of this machine: a daemon that runs is used, and left alone; else root starts one of its own, which lives in a temporary
 * folder until `stop`. Its network needs no rules of a firewall, since nothing leaves this machine.
 * @returns why not, when there is none
 */
export async function openDocker(): Promise<Docker | string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the images are built for Linux on x64 only';
  const client = findClient();
  if (client === undefined) return 'there is no Docker client with BuildKit (Debian: apt-get install docker.io)';
  const use = (host: string | undefined, stop: () => Promise<void>): Docker => {
    const env = { ...process.env, DOCKER_BUILDKIT: '1', ...(host !== undefined && { DOCKER_HOST: host }) };
    return {
      run: async (args, options = {}) => {
        try {
          return (await promisify(execFile)(client, args, { env, maxBuffer: 2 ** 26, ...options })).stdout.trim();
        } catch (error) {
          const { stdout, stderr } = error as { stdout?: string; stderr?: string };
          throw new Error(`docker ${args.join(' ')}:\n${stdout ?? ''}${stderr ?? ''}${stderr === undefined ? String(error) : ''}`, { cause: error });
        }
      },
      start: (args) => spawn(client, args, { env, stdio: ['ignore', 'pipe', 'pipe'] }),
      stop,
    };
  };
  const running = use(undefined, async () => {});
  if (await running.run(['info']).then(() => true, () => false)) return running;
  if (process.getuid?.() !== 0) return 'no Docker daemon answers, and only root may start one';
  if (!existsSync('/usr/bin/dockerd') && !existsSync('/usr/sbin/dockerd')) return 'no Docker daemon answers, and none is installed (Debian: apt-get install docker.io)';

  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-docker-'));
  const host = `unix://${folder}/socket`, log = path.join(folder, 'log');
  const flags = ['--data-root', `${folder}/data`, '--exec-root', `${folder}/exec`, '--pidfile', `${folder}/pid`, '--host', host, '--bridge', 'none', '--iptables=false', '--ip6tables=false', '--storage-driver', 'overlay2'];
  const daemon = spawn('/bin/sh', ['-c', `exec dockerd "$@" >${log} 2>&1`, 'dockerd', ...flags], { stdio: 'ignore', env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } });
  const ended = new Promise((resolve) => daemon.once('close', resolve));
  const docker = use(host, async () => {
    daemon.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  for (let i = 0; i < 1800; i++) {
    if (daemon.exitCode !== null) break;
    if (await docker.run(['info']).then(() => true, () => false)) return docker;
    await sleep(100);
  }
  const said = readFileSync(log, 'utf8').trim().split('\n').at(-1);
  await docker.stop();
  return `a Docker daemon cannot be started here: ${said}`;
}

/**
 * The files of a Debian of the release that Node's slim images have, without documentation, made once and kept.
 * @returns a tar file, or why there is none
 */
export async function debianTar(): Promise<{ readonly tar: string } | { readonly missing: string }> {
  const tar = path.join(os.tmpdir(), 'genview-debian-bookworm.tar');
  if (existsSync(tar)) return { tar };
  const excluded = ['doc', 'man', 'locale', 'zoneinfo'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
  try {
    await promisify(execFile)('mmdebstrap', ['--variant=minbase', ...excluded, 'bookworm', `${tar}.part.tar`], { timeout: 600_000 });
    renameSync(`${tar}.part.tar`, tar);
    return { tar };
  } catch (error) {
    return { missing: (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'mmdebstrap, which makes the base image, is not installed (Debian: apt-get install mmdebstrap)' : `mmdebstrap cannot make a base image here: ${first(error)}` };
  }
}
