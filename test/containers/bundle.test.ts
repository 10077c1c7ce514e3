import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const images = ['evaluation', 'foreground', 'generation', 'pretraining'];
let folder: string;

// Outside the repository, so that nothing but the bundle can be found.
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'genview-bundle-'));
  execFileSync(process.execPath, ['--import', 'tsx', 'containers/bundle.ts', '--out', folder, ...images.map((image) => `containers/${image}/main.ts`)], { cwd: root, stdio: 'pipe' });
  cpSync(path.join(root, 'package.json'), path.join(folder, 'package.json'));
  cpSync(path.join(root, 'models'), path.join(folder, 'models'), { recursive: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const env = { PATH: process.env['PATH'], GENVIEW_DEVICE: 'cpu', AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9', AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_MAX_ATTEMPTS: '1' };
const node = (...args: string[]): { status: number | null; text: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8', env });
  return { status, text: stdout + stderr };
};

describe('the bundle of the programs', () => {
  it.each(images)('holds %s, which names its stages', (image) => {
    const { status, text } = node(`containers/${image}/main.mjs`);
    expect(status, text).toBe(2);
    expect(text).toMatch(/^error: no stage given; usage: <[a-z |-]+> --run <url> \[--variant <name>\]\n$/);
  });

  it('finds its own version and the store', () => {
    const { status, text } = node('containers/foreground/main.mjs', 'fit-foreground', '--run', 'runs/none/');
    const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string };
    expect(text).toMatch(new RegExp(`^fit-foreground, attempt 1: genview ${version}, node ${process.versions.node}, onnxruntime \\d`));
    expect([status, text.trim().split('\n').at(-1)]).toEqual([2, expect.stringMatching(/^error: no run at file:.*\/runs\/none\/: recipe\.json is missing/)]);
  });

  it('has packages with native code, their dependencies, and no other', () => {
    const packages = (at: string): string[] => readdirSync(path.join(folder, 'node_modules', at)).flatMap((name) => name.startsWith('@') ? packages(path.join(at, name)).map((inner) => `${name}/${inner}`) : [name]);
    const found = packages('');
    expect(found).toEqual(expect.arrayContaining(['onnxruntime-node', 'onnxruntime-common', 'sharp', 'koffi']));
    for (const absent of ['tsx', 'esbuild', 'typescript', 'echarts', 'zod', '@tensorflow/tfjs', '@aws-sdk/client-s3']) expect(found).not.toContain(absent);
    expect(readdirSync(path.join(folder, 'node_modules', 'onnxruntime-node', 'bin', 'napi-v6'))).toEqual([process.platform]);
  });

  it('loads the client of S3 when it needs it', () => {
    const { status, text } = node('containers/pretraining/main.mjs', 'pretrain', '--run', 's3://bucket/runs/none/', '--variant', 'genview');
    expect([status, text.trim().split('\n').at(-1)]).toEqual([75, 'error: s3://bucket/runs/none/recipe.json cannot be reached (ECONNREFUSED); check network and AWS_ENDPOINT_URL']);
  });

  it('loads the native libraries from there', () => {
    const load = 'for (const name of ["onnxruntime-node", "sharp", "koffi"]) { await import(name); console.log(name); }';
    expect(node('--input-type=module', '--eval', load)).toEqual({ status: 0, text: 'onnxruntime-node\nsharp\nkoffi\n' });
  });

  it('refuses to leave out what it imports', () => {
    const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'containers/bundle.ts', '--out', path.join(folder, 'broken'), '--outside', 'genview-absent-package', 'containers/evaluation/main.ts'], { cwd: root, encoding: 'utf8' });
    expect([status, stderr.includes('genview-absent-package is not installed; run npm ci')]).toEqual([1, true]);
  });
});
