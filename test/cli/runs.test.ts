import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { planArtefacts } from '../../src/stages/artefacts.ts';
import type { ResolvedRun } from '../../src/stages/contract.ts';
import { genviewHere } from './program.ts';

let folder: string, store: string;
const recipe = parseRecipe('name: birds\ndataset: { url: x }\nvariants: [{ name: baseline }]', 'test');
const put = async (key: string, value: unknown): Promise<void> => {
  await mkdir(path.dirname(path.join(store, key)), { recursive: true });
  await writeFile(path.join(store, key), `${JSON.stringify(value)}\n`);
};
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'genview-runs-'));
  store = path.join(folder, 'store');
  for (const [runId, failed] of [['birds-01234567', true], ['cats-89abcdef', false]] as const) {
    const run: ResolvedRun = { runId, store: 'file:///elsewhere/', recipe, models: { encoder: 'e', generator: 'g' } };
    await put(`runs/${runId}/recipe.json`, run);
    await put(`runs/${runId}/plan.json`, planArtefacts(run, 'd', 3));
    if (failed) await put(`runs/${runId}/failure.json`, { error: 'PeerLost', message: 'a peer was lost', cause: '{}', time: 'then' });
  }
  await put('runs/cats-89abcdef/report.json', { report: 1 });
  await writeFile(path.join(store, 'runs/cats-89abcdef/report.html'), '<!doctype html>');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('runs of this machine, by the commands of the cloud', () => {
  it('ls lists them', async () => {
    expect((await genviewHere(['ls', '--store', store])).stdout).toBe(`run             state       started (UTC)  took  executions
birds-01234567  failed      -              -     0
cats-89abcdef   unfinished  -              -     0
`);
    expect(JSON.parse((await genviewHere(['ls', '--store', store, '--json'])).stdout)).toEqual([{ runId: 'birds-01234567', state: 'failed', executions: 0 }, { runId: 'cats-89abcdef', state: 'unfinished', executions: 0 }]);
  });

  it('the store may be named by the environment', async () => {
    process.env['GENVIEW_STORE'] = store;
    try { expect((await genviewHere(['ls'])).stdout).toContain('birds-01234567  failed'); } finally { delete process.env['GENVIEW_STORE']; }
  });

  it('a run may be named by its path, whatever the store', async () => {
    expect((await genviewHere(['status', path.join(store, 'runs/birds-01234567')])).stdout).toMatch(/^birds-01234567: failed\n/);
  });

  it('watching ends with a run that has failed, with exit code 1', async () => {
    const { code, stdout } = await genviewHere(['status', 'birds', '--store', store, '--watch']);
    process.exitCode = undefined;
    expect(code).toBe(1);
    expect(stdout).toMatch(/^birds-01234567: failed\n {2}failed: PeerLost: a peer was lost\n {2}shard-dataset +done\n/);
  });

  it('report --fetch copies what the run wrote, or says that there is nothing', async () => {
    const to = path.join(folder, 'fetched');
    const { code, stdout } = await genviewHere(['report', 'cats', '--store', store, '--fetch', to]);
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(`report  ${to}/report.html`);
    expect(await readFile(path.join(to, 'report.html'), 'utf8')).toBe('<!doctype html>');
    expect((await genviewHere(['report', 'birds', '--store', store, '--fetch', to])).stderr).toMatch(/^genview: file:.*birds-01234567\/report\.json is missing: the run has not come to its report; without --fetch the command writes one of what there is\n$/);
  });

  it('cancel refuses them', async () => {
    expect((await genviewHere(['cancel', 'birds', '--store', store])).stderr).toMatch(/belongs to no deployed GenView; name one by --cloud, --stack or --state-machine \(a run of this machine ends by Ctrl-C\)\n$/);
  });
});

describe('genview submit --dry-run', () => {
  const demo = fileURLToPath(new URL('../../recipes/demo.yaml', import.meta.url));

  it('prints the estimate and needs no deployment', async () => {
    const { code, stdout, stderr } = await genviewHere(['submit', demo, '--dry-run']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^estimate for 2,400 training and 600 validation images, the embedded encoder, the embedded generator:\nstage +images +GPU hours +limit +instance +cost\nfit-foreground +1,000 +0\.1 +CPU +g5\.xlarge spot +\$0\.06\n/);
    expect(stdout).toMatch(/\nin all \d\.\d GPU hours, about \d+ min when instances are to be had, \$\d\.\d\d; then \$0\.00 a month for what is kept\nfor a deployment without options of its own; --cloud or --stack takes those of one that there is\nby a model, not a measurement, .*; prices of 2026-08-17, us-east-1\n$/);
  });

  it('for machines, and by prices of one\'s own', async () => {
    const prices = path.join(folder, 'prices.json');
    const own = JSON.parse(await readFile(new URL('../../src/estimate/prices.json', import.meta.url), 'utf8')) as { spotShare: number };
    await writeFile(prices, JSON.stringify({ ...own, region: 'moon-1', spotShare: 1 }));
    const read = async (...more: string[]): Promise<{ dollars: { compute: number }; gpuHours: number; prices: { region: string } }> =>
      (JSON.parse((await genviewHere(['submit', demo, '--dry-run', '--json', ...more])).stdout) as { estimate: never }).estimate;
    const [spot, onDemand, ours] = [await read(), await read('--on-demand'), await read('--prices', prices)];
    expect(onDemand.gpuHours).toBe(spot.gpuHours);
    expect(onDemand.dollars.compute).toBeGreaterThan(1.8 * spot.dollars.compute);
    expect(ours).toMatchObject({ prices: { region: 'moon-1' }, dollars: { compute: onDemand.dollars.compute } });
  });

  it('refuses prices that are none, with file and field', async () => {
    const file = path.join(folder, 'wrong.json');
    await writeFile(file, '{ "spotShare": -1 }');
    const { code, stderr } = await genviewHere(['submit', demo, '--dry-run', '--prices', file]);
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(`^genview: --prices ${file}: date is missing; .*spotShare must be above 0, not -1; `));
    expect((await genviewHere(['submit', demo, '--dry-run', '--images', '0'])).stderr).toMatch(/--images <n>.*It must be a whole number, at least 1\./);
  });

  it('a faulty recipe is refused before anything else', async () => {
    const file = path.join(folder, 'faulty.yaml');
    await writeFile(file, 'name: a\ndataset: { url: nowhere }\n');
    expect(await genviewHere(['submit', file])).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^genview: dataset\.url: there are no files at file:.*nowhere\/; paths in a recipe are relative to the recipe's own folder\n$/) as string });
    expect((await genviewHere(['submit', demo, '--limit', 'much'])).stderr).toMatch(/It must be an amount of US dollars, for example 100\./);
  });
});
