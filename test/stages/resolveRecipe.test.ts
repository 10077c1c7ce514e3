import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import type { ResolvedRun, StageContext } from '../../src/stages/contract.ts';
import { recordFailure } from '../../src/stages/recordFailure.ts';
import { resolveRecipe } from '../../src/stages/resolveRecipe.ts';
import { openStore, readJson } from '../../src/storage/index.ts';

const context: StageContext = { signal: new AbortController().signal, log: silentLog, threads: 1 };
const text = `name: birds
dataset: { url: images }
foreground: { encoder: { model: models/encoder.onnx } }
variants: [{ name: baseline }, { name: wide, pretraining: { nodes: 2 } }]
`;

let folder: string, recipe: string, store: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'genview-resolve #1 '));
  recipe = path.join(folder, 'recipe.yaml');
  store = pathToFileURL(path.join(folder, 'store')).href;
  await mkdir(path.join(folder, 'images/cat'), { recursive: true });
  await mkdir(path.join(folder, 'models'));
  await writeFile(path.join(folder, 'images/cat/1.png'), 'x');
  await writeFile(path.join(folder, 'models/encoder.onnx'), 'abc');
  await writeFile(recipe, text);
});
afterEach(() => rm(folder, { recursive: true }));

const resolve = (): ReturnType<typeof resolveRecipe> => resolveRecipe({ recipe: pathToFileURL(recipe).href, store }, context);

describe('ResolveRecipe', () => {
  it('writes the recipe with its defaults, its locations as URLs and the hashes of its models', async () => {
    const { run, runId, variants } = await resolve();
    expect(runId).toMatch(/^birds-[0-9a-f]{8}$/);
    expect(run).toBe(`${store}/runs/${runId}/`);
    expect(variants).toEqual([{ name: 'baseline', nodes: 1 }, { name: 'wide', nodes: 2 }]);
    const written = await readJson<ResolvedRun>(openStore(store), `runs/${runId}/recipe.json`);
    expect(written.recipe.dataset.url).toBe(`${pathToFileURL(folder).href}/images/`);
    expect(written.recipe.foreground.encoder).toEqual({ model: `${pathToFileURL(folder).href}/models/encoder.onnx`, imageSize: 32 });
    // printf abc | sha256sum
    expect(written.models.encoder).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    expect(written.models.generator).toMatch(/^[0-9a-f]{64}$/);
  });

  it('gives the same run for the same recipe, and another for another one or other models', async () => {
    const first = await resolve();
    await writeFile(recipe, `# a comment\n${text}seed: 0\n`);
    expect(await resolve()).toEqual(first);
    await writeFile(recipe, `${text}seed: 1\n`);
    expect((await resolve()).runId).not.toBe(first.runId);
    await writeFile(recipe, text);
    await writeFile(path.join(folder, 'models/encoder.onnx'), 'ABC');
    expect((await resolve()).runId).not.toBe(first.runId);
  });

  it('refuses more nodes than the deployment has before it writes anything', async () => {
    const training = (nodes: number): ReturnType<typeof resolveRecipe> => resolveRecipe({ recipe: pathToFileURL(recipe).href, store, training: { nodes, gpus: 1 } }, context);
    await expect(training(1)).rejects.toMatchObject({ code: 'NodesUnavailable', message: expect.stringMatching(/^variant wide: pretraining\.nodes is 2, which takes 2 machines of 1 GPU, and the deployment has 1 for training\. /) as string });
    expect(existsSync(path.join(folder, 'store'))).toBe(false);
    expect((await training(2)).runId).toBe((await resolve()).runId);
  });

  it('refuses a recipe that is not there', async () => {
    await rm(recipe);
    await expect(resolve()).rejects.toMatchObject({ code: 'RecipeNotFound', message: `there is no recipe at ${recipe}; \`genview init\` writes one to start from` });
  });

  it('refuses a recipe that is no text', async () => {
    await writeFile(recipe, Buffer.of(0x80, 0xff, 0x00));
    await expect(resolve()).rejects.toMatchObject({ code: 'RecipeInvalid', message: `${recipe}: is not a text file in UTF-8` });
  });

  it('refuses a faulty recipe with the path of the file, and leaves no run', async () => {
    await writeFile(recipe, `${text}sed: 1\n`);
    await expect(resolve()).rejects.toMatchObject({ code: 'RecipeInvalid', message: `${recipe}:5: sed: is not a field of a recipe; did you mean seed?` });
    expect(existsSync(path.join(folder, 'store'))).toBe(false);
  });

  it.each([
    ['images', 'DatasetMissing', /^dataset\.url: there are no files at file:.*\/images\//],
    ['models/encoder.onnx', 'ModelNotFound', /^foreground\.encoder\.model: there is no file file:.*encoder\.onnx/],
  ])('refuses a recipe whose %s is missing', async (name, code, message) => {
    await rm(path.join(folder, name), { recursive: true });
    await expect(resolve()).rejects.toMatchObject({ code, message: expect.stringMatching(message) as unknown });
  });

  it('finds the list that names the images, beside the recipe', async () => {
    await writeFile(recipe, text.replace('dataset: { url: images }', 'dataset: { url: "s3://pictures/set", list: lists/all.jsonl }'));
    await expect(resolve()).rejects.toMatchObject({ code: 'DatasetMissing', message: expect.stringMatching(/^dataset\.list: there is no file file:.*\/lists\/all\.jsonl; paths in a recipe/) as unknown });
    await openStore(folder).put('lists/all.jsonl', '');
    const { runId } = await resolve();
    const { recipe: { dataset } } = await readJson<ResolvedRun>(openStore(store), `runs/${runId}/recipe.json`);
    expect(dataset).toMatchObject({ url: 's3://pictures/set/', list: `${pathToFileURL(folder).href}/lists/all.jsonl` });
  });

  it('says where a list belongs that stands in the place of the images', async () => {
    await writeFile(recipe, text.replace('url: images', 'url: all.jsonl'));
    await expect(resolve()).rejects.toThrow(/^dataset\.url: there are no files at .*; dataset\.url is where the images are; a file that names them goes into dataset\.list$/);
  });

  it('refuses a generator that this version cannot run', async () => {
    await writeFile(recipe, `${text}generation: { generator: models/unclip }\n`);
    await expect(resolve()).rejects.toMatchObject({
      code: 'RecipeInvalid', message: `${recipe}:5: generation.generator: is models/unclip, but only builtin:demo-unclip runs in this version; remove the field, or write that name`,
    });
  });

  it.each([
    ['dataset: { url: images }', 'dataset: { url: "builtin:cats" }', /^dataset\.url: there is no dataset builtin:cats/],
    ['models/encoder.onnx', '"builtin:clip"', /^foreground\.encoder\.model: there is no model builtin:clip/],
  ])('refuses an unknown built-in: %s', async (field, replacement, message) => {
    await writeFile(recipe, text.replace(field, replacement));
    await expect(resolve()).rejects.toThrow(message);
  });
});

describe('RecordFailure', () => {
  it('leaves the reason beside the recipe; the next attempt takes it away', async () => {
    const { run, runId } = await resolve();
    const { record } = await recordFailure({ run, error: 'DatasetEmpty', cause: 'no images' });
    expect(record).toBe(`${run}failure.json`);
    expect(await readJson(openStore(store), `runs/${runId}/failure.json`)).toMatchObject({ error: 'DatasetEmpty', message: 'no images', cause: 'no images' });
    await resolve();
    expect(await openStore(store).head(`runs/${runId}/failure.json`)).toBeUndefined();
  });

  it.each([
    ['a function', { errorType: 'DatasetEmpty', errorMessage: 'no images', trace: ['at x'] }],
    ['a job', { JobName: 'j', StatusReason: 'no images', Container: { ExitCode: 2, Reason: 'r' } }],
  ])('finds the message in the description of %s', async (_what, cause) => {
    const { run, runId } = await resolve();
    await recordFailure({ run, error: 'States.TaskFailed', cause: JSON.stringify(cause) });
    expect(await readJson(openStore(store), `runs/${runId}/failure.json`)).toMatchObject({ message: 'no images', cause: JSON.stringify(cause) });
  });

  it('has no place for a failure before there is a run', async () => {
    expect(await recordFailure({ error: 'RecipeInvalid', cause: 'r.yaml:1: name: is missing' })).toEqual({ record: null });
  });
});
