import { writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { demoDataset, listDataset, readDatasetList, uploadFolder } from '../../src/cloud/dataset.ts';
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

it('a folder or a list without an image is refused before anything is uploaded or started', async () => {
  await put('none/notes.txt', 'x');
  const store = openStore(path.join(folder, 'none'));
  await expect(listDataset(store, 0.1, context)).rejects.toMatchObject({ code: 'DatasetEmpty', message: expect.stringContaining(`no images in ${store.root} (only 1 other files); expected train/<class>/ and val/<class>/`) as string });
  await put('none.jsonl', '\n');
  await expect(readDatasetList(openStore(folder).url('none.jsonl'), 's3://bucket/images/', 0.1, context)).rejects.toMatchObject({ code: 'DatasetEmpty', message: expect.stringContaining('names no images under s3://bucket/images/') as string });
});

it('without a validation folder a share of the images validates', async () => {
  for (let i = 0; i < 20; i++) await put(`b/c${i % 2}/${i}.jpg`, 'x');
  expect(await listDataset(openStore(path.join(folder, 'b')), 0.25, context)).toMatchObject({ train: 15, val: 5, bytes: 20 });
});

it('a dataset given as a list is counted by its lines, and its content is the list', async () => {
  const list = async (name: string, lines: readonly unknown[]) => {
    await put(name, lines.map((line) => JSON.stringify(line)).join('\n'));
    return readDatasetList(openStore(folder).url(name), 's3://bucket/images/', 0.25, context);
  };
  const split = await list('split.jsonl', [{ path: 'a.jpg', split: 'train', bytes: 10 }, { path: 'b.jpg', split: 'val', bytes: 30 }, { path: 'c.jpg', split: 'train', bytes: 2 }]);
  expect(split).toEqual({ train: 2, val: 1, bytes: 42, content: expect.stringMatching(/^[0-9a-f]{8}$/) as string });
  expect(await list('labels.jsonl', Array.from({ length: 8 }, (_, i) => ({ path: `${i}.jpg`, label: i % 2 })))).toMatchObject({ train: 6, val: 2, bytes: 880_000 });
  expect(await list('folders.jsonl', ['train/x/1.jpg', 'train/y/2.jpg', 'val/x/3.jpg'])).toMatchObject({ train: 2, val: 1 });
  expect((await list('split.jsonl', [{ path: 'a.jpg', split: 'train' }, { path: 'b.jpg', split: 'val' }])).content).not.toBe(split.content);
  await expect(list('bad.jsonl', ['a.jpg', { split: 'train' }])).rejects.toThrow(/bad\.jsonl line 2: must have a path or a url/);
});

it('a list put there again with the same images, in whatever order, is the same dataset', async () => {
  const content = async (name: string, text: string): Promise<string> => {
    await put(name, text);
    return (await readDatasetList(openStore(folder).url(name), 's3://bucket/images/', 0.25, context)).content;
  };
  const first = await content('one.jsonl', '"a.jpg"\n{"path":"b.jpg","etag":"1"}\n');
  expect(await content('two.jsonl', '{"path":"a.jpg"}\n\n{"etag":"1","path":"b.jpg"}')).toBe(first);
  expect(await content('turned.jsonl', '{"path":"b.jpg","etag":"1"}\n"a.jpg"\n')).toBe(first);
  expect(await content('three.jsonl', '"a.jpg"\n{"path":"b.jpg","etag":"2"}\n')).not.toBe(first);
});

it('an upload copies what is not there with the same bytes, and goes on after an interruption', async () => {
  for (const [key, content] of [['u/train/a/1.jpg', '1234'], ['u/train/a/2.jpg', '2345'], ['u/val/a/3.jpg', '3456'], ['u/notes.txt', 'x']] as const) await put(key, content);
  await put('v/train/a/2.jpg', '2345');
  const from = openStore(path.join(folder, 'u')), to = openStore(path.join(folder, 'v'));
  expect(await uploadFolder(from, to, context)).toEqual({ copied: 3, present: 1 });
  expect(new TextDecoder().decode(await to.get('val/a/3.jpg'))).toBe('3456');
  expect(await uploadFolder(from, to, context)).toEqual({ copied: 0, present: 4 });
  await put('u/train/a/1.jpg', '4321');
  expect(await uploadFolder(from, to, context)).toEqual({ copied: 1, present: 3 });
  expect(new TextDecoder().decode(await to.get('train/a/1.jpg'))).toBe('4321');
});

it('an upload says which file was changed meanwhile, and does not leave it with the MD5 of what it was', async () => {
  await put('w/1.jpg', 'as listed');
  const from = openStore(path.join(folder, 'w')), to = openStore(path.join(folder, 'x'));
  const log: typeof silentLog = { ...silentLog, progress(...all) { writeFileSync(path.join(folder, 'w/1.jpg'), 'as copied'); return silentLog.progress(...all); } };
  await expect(uploadFolder(from, to, { ...context, log })).rejects.toThrow(/^file:.*\/w\/1\.jpg was changed while it was uploaded; run the same command again$/);
  expect(await to.head('1.jpg')).toBeUndefined();
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
