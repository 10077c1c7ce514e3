import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { handler as planViews } from '../../lambdas/plan-views/handler.ts';
import { handler as recordFailure } from '../../lambdas/record-failure/handler.ts';
import { handler as report } from '../../lambdas/report/handler.ts';
import { handler as resolveRecipe } from '../../lambdas/resolve-recipe/handler.ts';
import { handler as shardDataset } from '../../lambdas/shard-dataset/handler.ts';
import { silentLog } from '../../src/log.ts';

let folder: string;
beforeEach(() => { folder = mkdtempSync(join(tmpdir(), 'lambda-')); });
afterEach(() => rmSync(folder, { recursive: true }));
const context = { log: silentLog, getRemainingTimeInMillis: () => 900_000 };

describe('every handler', () => {
  it.each<[string, (event: unknown, context: object) => Promise<unknown>, unknown, string]>([
    ['resolve-recipe', resolveRecipe, { recipe: 'file:///r.yaml' }, 'store'],
    ['shard-dataset', shardDataset, { run: 'file:///r/', continuation: 5 }, 'continuation'],
    ['plan-views', planViews, {}, 'run'],
    ['report', report, { run: 'file:///r/', more: 1 }, 'more'],
    ['record-failure', recordFailure, { run: null, error: 'x' }, 'cause'],
  ])('%s names what is wrong with its event', async (name, handler, event, field) => {
    await expect(handler(event, context)).rejects.toMatchObject({ code: 'EventInvalid', message: expect.stringMatching(new RegExp(`^${name}: .*${field}`, 's')) as string });
  });
});

it('resolve-recipe passes on the error of its stage, whose name becomes the error in the workflow', async () => {
  const recipe = join(folder, 'recipe.yaml');
  writeFileSync(recipe, 'name: a\nnonsense: 1\n');
  await expect(resolveRecipe({ recipe: pathToFileURL(recipe).href, store: pathToFileURL(`${folder}/store/`).href }, context)).rejects.toMatchObject({ name: 'RecipeInvalid' });
});

it('resolve-recipe takes what the workflow of any deployment tells it, one without machines for multi-node jobs too', async () => {
  const store = pathToFileURL(`${folder}/store/`).href;
  const file = join(folder, 'recipe.yaml'), recipe = pathToFileURL(file).href;
  for (const split of ['train', 'val']) { mkdirSync(join(folder, 'pets', split, 'cat'), { recursive: true }); writeFileSync(join(folder, 'pets', split, 'cat', '0.jpg'), split); }
  const resolve = (nodes: number): Promise<unknown> => {
    writeFileSync(file, `name: a\ndataset: { url: pets }\nvariants: [{ name: gen, pretraining: { nodes: ${nodes} } }]\n`);
    return resolveRecipe({ recipe, store, training: { nodes: 0, gpus: 1 } }, context);
  };
  await expect(resolve(1)).resolves.toMatchObject({ variants: [{ name: 'gen', nodes: 1 }] });
  await expect(resolve(2)).rejects.toMatchObject({ name: 'NodesUnavailable' });
});

it('record-failure writes what failed beside the run', async () => {
  await recordFailure({ run: pathToFileURL(`${folder}/runs/r/`).href, error: 'Broken', cause: 'why' }, context);
  const [name] = readdirSync(join(folder, 'runs', 'r'));
  expect(name).toBe('failure.json');
  expect(readFileSync(join(folder, 'runs', 'r', 'failure.json'), 'utf8')).toContain('Broken');
});

it('record-failure does without a run', async () => {
  await expect(recordFailure({ run: null, error: 'RecipeInvalid', cause: 'x' }, context)).resolves.not.toThrow();
});
