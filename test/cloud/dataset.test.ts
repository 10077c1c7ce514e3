import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { demoDataset, listDataset } from '../../src/cloud/dataset.ts';
import { inputsOf, localParts, refuseLocalParts } from '../../src/cloud/submit.ts';
import { renderDemoDataset } from '../../src/demo/dataset.ts';
import { silentLog } from '../../src/log.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { openStore } from '../../src/storage/index.ts';

let folder: string;
beforeAll(async () => { folder = await mkdtemp(path.join(tmpdir(), 'genview-dataset-')); });
afterAll(() => rm(folder, { recursive: true, force: true }));
const context = { log: silentLog, signal: new AbortController().signal };
const put = async (key: string, content: string): Promise<void> => {
  await mkdir(path.dirname(path.join(folder, key)), { recursive: true });
  await writeFile(path.join(folder, key), content);
};

it('counts the images of each split and their bytes, and the content changes with them', async () => {
  for (const key of ['a/train/x/1.jpg', 'a/train/x/2.png', 'a/train/y/3.jpg', 'a/val/x/4.jpg', 'a/test/x/5.jpg', 'a/notes.txt', 'a/train/x/.hidden.jpg']) await put(key, '1234');
  const store = openStore(path.join(folder, 'a'));
  const first = await listDataset(store, 0.1, context);
  expect(first).toEqual({ train: 3, val: 1, bytes: 20, content: expect.stringMatching(/^[0-9a-f]{8}$/) as string });
  expect((await listDataset(store, 0.1, context)).content).toBe(first.content);
  await put('a/train/y/3.jpg', '4321');
  await utimes(path.join(folder, 'a/train/y/3.jpg'), 1, 1);
  expect((await listDataset(store, 0.1, context)).content).not.toBe(first.content);
});

it('without a validation folder a share of the images validates', async () => {
  for (let i = 0; i < 20; i++) await put(`b/c${i % 2}/${i}.jpg`, 'x');
  expect(await listDataset(openStore(path.join(folder, 'b')), 0.25, context)).toMatchObject({ train: 15, val: 5, bytes: 20 });
});

it('the embedded dataset has as many images as are said of it', async () => {
  const store = openStore(path.join(folder, 'demo'));
  await renderDemoDataset({ store, trainPerClass: 1, valPerClass: 1 }, silentLog);
  const { train, val } = await listDataset(store, 0.1, context);
  expect({ train: train * 100, val: val * 25 }).toEqual({ train: demoDataset.train, val: demoDataset.val });
});

it('names everything of a recipe that lies on this machine', () => {
  const parsed = parseRecipe('name: a\ndataset: { url: x }', 'test');
  const recipe = { ...parsed, dataset: { ...parsed.dataset, url: 'file:///data/my%20birds/' }, foreground: { ...parsed.foreground, encoder: { model: 'file:///models/e.onnx', imageSize: 224 } } };
  expect(localParts(recipe)).toEqual({ dataset: 'file:///data/my%20birds/', encoder: 'file:///models/e.onnx' });
  expect(() => refuseLocalParts(recipe, 's3://b/')).toThrow('dataset.url is the folder /data/my birds/: --upload copies it to s3://b/datasets/my-birds/, or copy it yourself and write the URL: aws s3 sync \'/data/my birds/\' s3://b/datasets/my-birds/\n'
    + 'foreground.encoder.model is the file /models/e.onnx: --upload copies it to s3://b/models/');
  expect(() => refuseLocalParts({ ...recipe, dataset: parsed.dataset, foreground: parsed.foreground }, 's3://b/')).not.toThrow();
});

it.each([
  ['s3://b/store/', 's3://b/'], ['s3://b/', 's3://b/'], ['s3://b/team/', 's3://b/team/'], ['s3://b/team/store/', 's3://b/team/store/'], ['s3://store/', 's3://store/'],
])('datasets, recipes and models of the store %s lie in %s', (store, inputs) => {
  expect(inputsOf(store)).toBe(inputs);
});
