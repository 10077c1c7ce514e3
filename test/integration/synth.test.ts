import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { lambdaNames, lambdaStages } from '../../src/workflow/stages.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cdk = path.join(root, 'node_modules', '.bin', 'cdk');

/** Whether a program can be run without a network here. */
const isolated = ((): boolean => {
  try { execFileSync('unshare', ['--net', 'true'], { stdio: 'pipe' }); return true; } catch { return false; }
})();
if (!isolated) console.warn('synthesis runs with the network there: taking it away needs Linux and root');

let out: string;
beforeAll(() => {
  out = mkdtempSync(path.join(os.tmpdir(), 'genview-synth-'));
  const synth = [cdk, 'synth', '--quiet', '--no-notices', '--output', out];
  const since = performance.now();
  // Nor credentials, nor a region, nor Docker.
  execFileSync(isolated ? 'unshare' : 'env', [...(isolated ? ['--net'] : []), ...synth], { cwd: root, stdio: 'pipe', env: { PATH: `${path.dirname(process.execPath)}:/usr/bin:/bin`, HOME: out, AWS_EC2_METADATA_DISABLED: 'true' } });
  console.log(`cdk synth: ${((performance.now() - since) / 1000).toFixed(1)} s`);
});
afterAll(() => rmSync(out, { recursive: true, force: true }));

it('makes both stacks for any account and region, without network or credentials', () => {
  const { artifacts } = JSON.parse(readFileSync(path.join(out, 'manifest.json'), 'utf8')) as { artifacts: Record<string, { type: string; environment?: string }>; missing?: unknown };
  const stacks = Object.entries(artifacts).filter(([, { type }]) => type === 'aws:cloudformation:stack').map(([name, { environment }]) => `${name} ${environment}`);
  expect(stacks).toEqual(['GenViewData aws://unknown-account/unknown-region', 'GenViewWorkflow aws://unknown-account/unknown-region']);
  expect(readFileSync(path.join(out, 'manifest.json'), 'utf8')).not.toContain('"missing"');
});

it('bundles the functions, and leaves out of the images what they are not built from', () => {
  const assets = readdirSync(out).filter((name) => name.startsWith('asset.')).map((name) => path.join(out, name));
  const bundles = assets.filter((asset) => existsSync(path.join(asset, 'index.mjs')));
  // And the functions that start runs and stop jobs.
  expect(bundles).toHaveLength(lambdaNames.filter((name) => lambdaStages[name].packaging === 'bundle').length + 2);
  const contexts = assets.filter((asset) => existsSync(path.join(asset, 'containers')));
  expect(contexts.length).toBeGreaterThan(0);
  for (const context of contexts) for (const name of ['node_modules', 'test', 'docs', 'cdk.out', '.git']) expect(existsSync(path.join(context, name)), `${context}/${name}`).toBe(false);
});
