import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Log } from '../src/log.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** `npm run bench -- synth [--times 3]`: wall time of `cdk synth` (the middle one of several), and the resources of each stack. */
export async function run(args: string[], _log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: { times: { type: 'string', default: '3' } } });
  const out = mkdtempSync(join(tmpdir(), 'genview-synth-'));
  try {
    const seconds = Array.from({ length: Number(values.times) }, () => {
      const start = performance.now();
      execFileSync(join(root, 'node_modules/.bin/cdk'), ['synth', '--quiet', '--no-notices', '--output', out], { cwd: root, stdio: 'pipe' });
      return (performance.now() - start) / 1000;
    }).toSorted((a, b) => a - b);
    console.log(`synth: ${seconds[Math.floor(seconds.length / 2)]!.toFixed(1)} s (${seconds.map((each) => each.toFixed(1)).join(', ')})`);
    const { artifacts } = JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')) as { artifacts: Record<string, { type: string; properties?: { templateFile?: string } }> };
    for (const [name, { type, properties }] of Object.entries(artifacts)) {
      if (type !== 'aws:cloudformation:stack') continue;
      const { Resources } = JSON.parse(readFileSync(join(out, properties!.templateFile!), 'utf8')) as { Resources: object };
      console.log(`${name}: ${Object.keys(Resources).length} resources`);
    }
  } finally { rmSync(out, { recursive: true, force: true }); }
}
