import { spawn } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { formatSeconds, type Log } from '../src/log.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * `npm run bench -- demo`: wall time and peak memory (sum of the resident sets of all its processes, sampled twice a
 * second; pages that processes share count more than once) of `npm run demo` on an empty store.
 */
export async function run(_args: string[], _log: Log): Promise<void> {
  const store = await mkdtemp(join(tmpdir(), 'genview-bench-'));
  try {
    const start = performance.now();
    const child = spawn(process.execPath, [join(root, 'bin/genview.mjs'), 'demo', '--store', store], { stdio: ['ignore', 'inherit', 'inherit'] });
    let peak = 0;
    const sample = async (): Promise<void> => { peak = Math.max(peak, await residentBytes(child.pid!)); };
    const timer = setInterval(() => { void sample(); }, 500);
    const code = await new Promise<number | null>((resolve, reject) => { child.on('error', reject); child.on('exit', resolve); });
    clearInterval(timer);
    if (code !== 0) throw new Error(`genview demo ended with exit code ${code}`);
    console.log(`demo: ${formatSeconds((performance.now() - start) / 1000)} wall time, ${(peak / 2 ** 30).toFixed(2)} GiB peak memory, ${availableParallelism()} cores`);
  } finally { await rm(store, { recursive: true, force: true }); }
}

/** Resident memory of a process and all that descend from it (Linux). */
async function residentBytes(ancestor: number): Promise<number> {
  const parents = new Map<number, { parent: number; bytes: number }>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const status = await readFile(`/proc/${entry}/status`, 'utf8');
      const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
      parents.set(Number(entry), { parent: field('PPid'), bytes: field('VmRSS') * 1024 });
    } catch { /* ended meanwhile */ }
  }
  const descends = (pid: number): boolean => pid === ancestor || (parents.has(pid) && pid > 1 && descends(parents.get(pid)!.parent));
  return [...parents].reduce((sum, [pid, { bytes }]) => descends(pid) ? sum + bytes : sum, 0);
}
