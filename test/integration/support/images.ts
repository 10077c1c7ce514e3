import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Docker } from './docker.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const exec = promisify(execFile);

/** Names of base images, in the place of those that a registry has. */
export interface Bases {
  /** Debian and this very Node, as Node's slim image. */
  readonly runtime: string;
  /** The same with npm, and with every package of the lock file in npm's cache: a build that needs no network. */
  readonly build: string;
}

/** Makes the base images, or takes `<name>-base` and `<name>-build-base` of an earlier time where GENVIEW_TEST_BASES is a name. */
export async function makeBases(docker: Docker, tar: string, prefix: string): Promise<Bases> {
  const kept = process.env['GENVIEW_TEST_BASES'];
  if (kept) return { runtime: `${kept}-base`, build: `${kept}-build-base` };
  const bases = { runtime: `${prefix}-base`, build: `${prefix}-build-base` };
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-bases-'));
  try {
    await docker.run(['import', tar, `${prefix}-debian`]);
    cpSync(process.execPath, path.join(folder, 'node'), { dereference: true });
    const build = async (tag: string, dockerfile: string): Promise<void> => {
      writeFileSync(path.join(folder, 'Dockerfile'), dockerfile);
      await docker.run(['build', '--quiet', '--network', 'none', '--tag', tag, folder]);
    };
    await build(bases.runtime, `FROM ${prefix}-debian\nCOPY node /usr/local/bin/node\nRUN node --version\n`);
    cpSync(path.join(await npm('root', '--global'), 'npm'), path.join(folder, 'npm'), { recursive: true, dereference: true });
    await collectPackages(folder);
    await build(bases.build, `FROM ${bases.runtime}
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
COPY cache /npm-cache
ENV npm_config_cache=/npm-cache npm_config_offline=true npm_config_registry=${await npm('config', 'get', 'registry')}
`);
    return bases;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const npm = async (...args: string[]): Promise<string> => (await exec('npm', args, { encoding: 'utf8' })).stdout.trim();

/** Makes `<folder>/cache`: npm's own cache where that has every package of the lock file, which it has after `npm ci`; else filled from the registry. */
async function collectPackages(folder: string): Promise<void> {
  const cache = path.join(folder, 'cache'), own = path.join(await npm('config', 'get', 'cache'), '_cacache');
  const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as { packages: Readonly<Record<string, { integrity?: string; dev?: boolean }>> };
  const complete = Object.entries(packages).every(([place, { integrity, dev }]) => {
    // Of optional ones those of other platforms are not installed here, and will not be there.
    if (integrity === undefined || dev === true || !existsSync(path.join(root, place))) return true;
    const digest = Buffer.from(integrity.slice(integrity.indexOf('-') + 1), 'base64').toString('hex');
    return existsSync(path.join(own, 'content-v2', integrity.slice(0, integrity.indexOf('-')), digest.slice(0, 2), digest.slice(2, 4), digest.slice(4)));
  });
  if (complete) {
    mkdirSync(cache);
    // Links where they can be had: half a gigabyte that nobody changes.
    await exec('cp', ['--archive', '--link', own, cache]).catch(() => exec('cp', ['--archive', own, cache]));
    return;
  }
  const project = path.join(folder, 'project');
  mkdirSync(project);
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) cpSync(path.join(root, name), path.join(project, name));
  await exec('npm', ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--cache', cache], { cwd: project, timeout: 600_000 });
  rmSync(project, { recursive: true });
}

/**
 * Builds one target of the Dockerfile, for the CPU and without a network.
 * @param more other arguments of the Dockerfile, and the network of the build
 */
export async function buildTarget(docker: Docker, target: string, bases: Bases, tag: string, more: { readonly args?: Readonly<Record<string, string>>; readonly network?: 'none' | 'host' } = {}): Promise<void> {
  const args = { BASE: bases.runtime, BUILD_BASE: bases.build, LAMBDA_BASE: bases.runtime, ...more.args };
  await docker.run(['build', '--quiet', '--network', more.network ?? 'none', '--file', 'containers/Dockerfile', '--target', target, ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]), '--tag', tag, '.'], { cwd: root });
}
