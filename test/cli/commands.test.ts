import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { explain } from '../../src/cli/main.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { planArtefacts } from '../../src/stages/artefacts.ts';
import type { ResolvedRun } from '../../src/stages/contract.ts';
import { genview, genviewHere } from './program.ts';

let folder: string;
beforeAll(async () => { folder = await mkdtemp(path.join(tmpdir(), 'genview cli ')); });
afterAll(() => rm(folder, { recursive: true, force: true }));

const version = (JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version;

describe('exit codes and messages', () => {
  it('--version prints the version and ends with 0', async () => {
    expect(await genview(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it.each([
    [[], /^Usage: genview /],
    [['frobnicate'], /^error: unknown command 'frobnicate'/],
    [['demo', '--sotre', 'x'], /^error: unknown option '--sotre'\n\(Did you mean --store\?\)/],
    [['run'], /^error: missing required argument 'recipe'\n\(genview run --help explains it\)/],
    [['stage', 'pretrian', '--run', 'x'], /Allowed choices are resolve-recipe, /],
    [['demo', '--executor', 'torch'], /Allowed choices are onnxruntime, tensorflow\./],
  ])('bad usage ends with 2 and says what is wrong: genview %j', async (args, message) => {
    const { code, stdout, stderr } = await genviewHere(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it.each([
    [['run', 'nope.yaml'], /^genview: there is no recipe at .*nope\.yaml; `genview init` writes one to start from\n$/],
    [['demo', '--device', 'gpu'], /^genview: --device is "gpu"; give cpu, cuda or cuda:<n>\n$/],
    [['validate', 'nope.yaml'], /^genview: there is no recipe at .*nope\.yaml/],
    [['report', '--store', 'no-store'], /^genview: there are no runs in no-store; --store names another store, `genview run <recipe>` starts a run\n$/],
    [['stage', 'pretrain', '--variant', 'a'], /^genview: this stage needs --run; see genview stage --help\n$/],
    [['stage', 'plan-views', '--run', 'x/runs/y'], /^genview: no run at file:.*x\/runs\/y\/: recipe\.json is missing; [^\n]*\n$/],
    [['logs', 'other', '--store', 'ftp://x'], /^genview: [^\n]*ftp:[^\n]*\n$/],
  ])("a user's mistake ends with 2 and one line: genview %j", async (args, message) => {
    const { code, stdout, stderr } = await genviewHere(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr.trimEnd().split('\n').at(-1) + '\n').toMatch(message);
    expect(stderr).not.toContain('    at ');
  });

  it('a faulty recipe ends with 2 and a line for each fault', async () => {
    const file = path.join(folder, 'faulty.yaml');
    await writeFile(file, 'name: a\ndataset: { url: images }\nsed: 1\npretraining: { batch: many }\n');
    const { code, stderr } = await genviewHere(['validate', file]);
    expect(code).toBe(2);
    expect(stderr).toBe(`genview: 2 problems\n${file}:3: sed: is not a field of a recipe; did you mean seed?\n${file}:4: pretraining.batch: must be a number, not the text "many"\n`);
  });

  it('a defect ends with 1 and a stack', async () => {
    await mkdir(path.join(folder, 'broken/runs/a'), { recursive: true });
    await writeFile(path.join(folder, 'broken/runs/a/recipe.json'), '{ "runId": "a" }');
    const { code, stderr } = await genview(['status', '--store', path.join(folder, 'broken')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^genview: unexpected failure\nTypeError: .*\n {4}at /);
  });

  it('Ctrl-C ends with 130, leaves no half-written file, and the same command continues', async () => {
    const images = path.join(folder, 'demo');
    const render = ['dataset', 'render-demo', images, '--train', '10', '--val', '1'];
    const { code, stderr } = await genview(render, { interrupt: () => existsSync(path.join(images, 'demo-dataset.json')) });
    expect(code).toBe(130);
    expect(stderr).toMatch(/stopped; run the same command again to continue\n$/);
    expect(existsSync(path.join(images, 'demo-dataset.done'))).toBe(false);
    expect((await genviewHere(render)).code).toBe(0);
    expect(existsSync(path.join(images, 'demo-dataset.done'))).toBe(true);
  });

  it('a thrown value that is no error is printed as it is', () => {
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    expect(explain('a string')).toBe(1);
    expect(write.mock.calls).toEqual([['genview: unexpected failure\na string\n']]);
    write.mockRestore();
  });
});

it('--device and --executor reach what runs the networks, and a device that is not there ends a run before it writes anything', async () => {
  const recipe = path.join(folder, 'device.yaml'), store = path.join(folder, 'device-store');
  await writeFile(recipe, 'name: a\ndataset: { url: images }\n');
  const refused = await genview(['run', recipe, '--store', store, '--device', 'cuda:99']);
  expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^genview: device cuda:99 cannot be had: [^\n]+\n$/) as string });
  expect(existsSync(store)).toBe(false);
  const checked = await genview(['doctor', '--device', 'cpu', '--store', store, '--json']);
  expect((JSON.parse(checked.stdout) as { name: string; found: string }[]).find(({ name }) => name === 'engine')!.found).toMatch(/computes; executor onnxruntime, device cpu: as asked$/);
  const eager = await genview(['doctor', '--executor', 'tensorflow', '--device', 'cpu', '--store', store, '--json']);
  expect(eager.stdout).toContain('computes; executor tensorflow, device cpu: as asked');
});

describe('genview init', () => {
  it('writes a recipe that is valid, and keeps an existing file', async () => {
    const file = path.join(folder, 'recipes/birds.yaml');
    await mkdir(path.dirname(file), { recursive: true });
    const wrote = await genview(['init', 'recipes/birds.yaml', '--name', 'birds', '--dataset', 'my images'], { cwd: folder });
    expect(wrote).toEqual({ code: 0, stdout: 'wrote recipes/birds.yaml; check it with: genview validate recipes/birds.yaml\n', stderr: '' });
    const text = await readFile(file, 'utf8');
    // The dataset is given relative to the current folder, and read relative to the recipe.
    expect(parseRecipe(text, file)).toMatchObject({ name: 'birds', dataset: { url: '../my images' } });
    const again = await genviewHere(['init', file]);
    expect(again).toEqual({ code: 2, stdout: '', stderr: `genview: ${file} exists already; --force replaces it\n` });
    expect(await readFile(file, 'utf8')).toBe(text);
    expect((await genviewHere(['init', file, '--force', '--name', 'bad name'])).code).toBe(2);
    expect(await readFile(file, 'utf8')).toBe(text);
  });

  it('says when the file cannot be written', async () => {
    const { code, stderr } = await genviewHere(['init', 'no/such/folder/r.yaml']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^genview: cannot write no\/such\/folder\/r\.yaml: ENOENT[^\n]*\n$/);
  });
});

describe('a store with runs', () => {
  const recipe = parseRecipe('name: birds\ndataset: { url: x }\nvariants: [{ name: baseline }]', 'test');
  const run: ResolvedRun = { runId: 'birds-01234567', store: 'file:///elsewhere/', recipe, models: { encoder: 'e', generator: 'g' } };
  const plan = planArtefacts(run, 'd', 3);
  const [variant] = plan.variants;
  let store: string;
  const put = async (key: string, value: unknown): Promise<void> => {
    await mkdir(path.dirname(path.join(store, key)), { recursive: true });
    await writeFile(path.join(store, key), JSON.stringify(value) + '\n');
  };
  beforeAll(async () => {
    store = path.join(folder, 'store');
    await put('runs/birds-01234567/recipe.json', run);
    await put('runs/birds-01234567/plan.json', plan);
    await put(`${plan.foreground}foreground.done`, {});
    for (const shard of ['00000', '00002']) await put(`${plan.analysis}shard-${shard}.done`, {});
    await put(`${variant!.pretrain}.done`, {});
    await put(`${variant!.evaluate}linear.json`, { top1: 61.25, top5: 90 });
    await put('runs/birds-01234567/failure.json', { error: 'PeerLost', message: 'a peer was lost', cause: '{}', time: 'then' });
    await put('runs/birds-01234567/history.jsonl', { id: 1, previousEventId: 0, timestamp: '2026-01-02T03:04:05.678Z', type: 'TaskStateEntered', stateEnteredEventDetails: { name: 'PlanViews', input: '{}' } });
    await put('runs/birds-01234567/logs/pretrain-baseline.log', { time: 'then', level: 'info', message: 'loss falls' });
  });

  it('shows how far each has come', async () => {
    const { code, stdout } = await genviewHere(['status', '--store', store]);
    expect(code).toBe(0);
    expect(stdout).toBe(`birds-01234567: failed
  failed: PeerLost: a peer was lost
  shard-dataset                done
  fit-foreground               done
  analyze-foreground           2/3
  plan-views                   0/1
  generate-views               0/3
  pair-similarity              0/1
  pretrain baseline            done
  linear-probe baseline        done
  nearest-neighbours baseline  0/1
  semi-supervised baseline     0/1
  report                       0/1
`);
  });

  it('shows it to machines, by the run\'s short name', async () => {
    const [status] = JSON.parse((await genviewHere(['status', 'birds', '--store', store, '--json'])).stdout) as [{ state: string; stages: { stage: string; done: number; of: number }[] }];
    expect(status.state).toBe('failed');
    expect(status.stages.find(({ stage }) => stage === 'analyze-foreground')).toEqual({ stage: 'analyze-foreground', done: 2, of: 3 });
  });

  it('shows the history and the logs of a run', async () => {
    expect((await genviewHere(['logs', '--store', store])).stdout).toBe('2026-01-02T03:04:05.678Z  PlanViews started\n');
    expect((await genviewHere(['logs', path.join(store, 'runs/birds-01234567'), 'pretrain'])).stdout).toBe('==> pretrain-baseline\nthen  loss falls\n');
    expect((await genviewHere(['logs', 'birds', 'report', '--store', store])).stderr).toBe('genview: there is no log of report; there are pretrain-baseline\n');
  });

  it('names the runs when it does not have the one asked for', async () => {
    expect((await genviewHere(['logs', 'cats', '--store', store])).stderr).toBe(`genview: there is no run cats in ${store}; its runs: birds-01234567\n`);
  });
});
