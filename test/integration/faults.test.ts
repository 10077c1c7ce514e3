import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { complaint, processesLeft, run } from './support/program.ts';
import { makeSmallRun, type SmallRun } from './support/smallRun.ts';

let small: SmallRun;
beforeAll(async () => { small = await makeSmallRun(); });
afterAll(() => rmSync(small.folder, { recursive: true, force: true }));

describe('too many bad images', () => {
  it('stop the run with one line, before any view is generated', async () => {
    const store = small.store('strict');
    const failed = await run(small.strictRecipe, store);
    expect(failed.code).toBe(2);
    const bad = Object.keys(small.odd.unreadable).length, all = small.listed.train + small.listed.val;
    expect(complaint(failed)).toMatch(new RegExp(`^genview: ${bad} of ${all} images \\(2\\.3 %\\) cannot be used, more than dataset\\.quarantineLimit 1 %: .*truncated`));
    expect(complaint(failed)).toMatch(/mend or remove them, or raise the limit$/);
    for (const file of Object.keys(small.odd.unreadable)) expect(failed.stderr).toContain(`quarantined: ${file}: `);
    const [id] = readdirSync(path.join(store, 'runs'));
    expect(JSON.parse(readFileSync(path.join(store, 'runs', id!, 'failure.json'), 'utf8'))).toMatchObject({ error: 'QuarantineLimitExceeded' });
    expect(readdirSync(path.join(store, 'views'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.tar'))).toEqual([]);
    expect(await processesLeft(store)).toEqual([]);
  });
});

describe('a store that cannot be written', () => {
  /** One line on standard error and nothing else. */
  const refused = async (store: string): Promise<string> => {
    const failed = await run(small.recipe, store);
    expect([failed.code, failed.stdout]).toEqual([2, '']);
    expect(failed.stderr.trimEnd().split('\n'), failed.stderr).toHaveLength(1);
    return complaint(failed);
  };

  it('because a file has its name', async () => {
    const file = small.store('file');
    writeFileSync(file, 'a file');
    expect(await refused(file)).toMatch(/^genview: file:.*\/file\/.* cannot be written: .*the same name; choose another place/);
    expect(readFileSync(file, 'utf8')).toBe('a file');
  });

  it('because the folder is not ours', async (context) => {
    if (process.getuid?.() === 0) return context.skip('root may write everywhere');
    const folder = small.store('forbidden');
    mkdirSync(folder);
    chmodSync(folder, 0o555);
    expect(await refused(folder)).toMatch(/^genview: .* cannot be written: permission denied; choose a folder that this user may write to$/);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('because the file system is read-only', async (context) => {
    const folder = small.store('read-only');
    mkdirSync(folder);
    try { execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder], { stdio: 'pipe' }); } catch { return context.skip('only root may mount a file system'); }
    try {
      expect(await refused(folder)).toMatch(/^genview: .* cannot be written: the file system is read-only; choose a folder that this user may write to$/);
    } finally { execFileSync('umount', [folder]); }
  });
});
