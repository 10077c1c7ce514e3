import { execFileSync, spawn } from 'node:child_process';
import { once as event } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { FolderStore } from '../../src/storage/folderStore.ts';
import { openStore, splitUrl } from '../../src/storage/index.ts';
import { codeOf, describeObjectStore, keysOf, text } from './objectStoreContract.ts';

const base = mkdtempSync(path.join(os.tmpdir(), 'genview store #%é '));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const newFolder = (): string => path.join(base, String(count++));

describeObjectStore('a folder', async () => openStore(newFolder()));

describe('a folder store', () => {
  it('is addressed by path or file URL', () => {
    const folder = newFolder();
    expect(openStore(folder).root).toBe(`${pathToFileURL(folder).href}/`);
    expect(openStore(openStore(folder).root).root).toBe(openStore(folder).root);
    expect(splitUrl(`${folder}/a b.yaml`).key).toBe('a b.yaml');
    expect(splitUrl('exp:1.yaml')).toMatchObject({ key: 'exp:1.yaml', store: { root: openStore('.').root } });
    expect(splitUrl(openStore(folder).url('x/a b#.yaml'))).toMatchObject({ key: 'a b#.yaml', store: { root: `${openStore(folder).root}x/` } });
  });

  it('refuses URLs of other kinds', () => {
    for (const url of ['https://example.com/a', 'gs://bucket/x', '', 'file://host/a', 's3://B!/x']) expect(() => openStore(url)).toThrow(/not a/);
  });

  it('lists nothing where there is no folder', async () => {
    expect(await keysOf(openStore(newFolder()))).toEqual([]);
  });

  it('neither lists nor allows temporary files, and removes those of dead processes', async () => {
    const folder = newFolder();
    const store = openStore(folder);
    await store.put('a/kept', 'x');
    // A process that is killed between its first and its last byte.
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', `
      import { Readable } from 'node:stream';
      import { FolderStore } from ${JSON.stringify(path.resolve('src/storage/folderStore.ts'))};
      const body = Readable.from((async function* () { yield Buffer.alloc(1000); process.stdout.write('writing'); await new Promise((resolve) => setTimeout(resolve, 60000)); })());
      await new FolderStore(${JSON.stringify(folder)}).put('a/half', body);`], { stdio: ['ignore', 'pipe', 'inherit'] });
    await event(child.stdout, 'data');
    expect(readdirSync(path.join(folder, 'a'))).toHaveLength(2);
    expect(await keysOf(store)).toEqual(['a/kept']);
    expect(readdirSync(path.join(folder, 'a'))).toHaveLength(2);
    child.kill('SIGKILL');
    await event(child, 'exit');
    expect(await keysOf(store)).toEqual(['a/kept']);
    expect(readdirSync(path.join(folder, 'a'))).toEqual(['kept']);

    const old = path.join(folder, '.genview-someone-else.tmp');
    writeFileSync(old, 'x');
    expect(await keysOf(store)).toEqual(['a/kept']);
    expect(readdirSync(folder)).toContain('.genview-someone-else.tmp');
    utimesSync(old, new Date(0), new Date(0));
    await keysOf(store);
    expect(readdirSync(folder)).toEqual(['a']);
    expect(await codeOf(store.put('a/.genview-x', 'x'))).toBe('KeyInvalid');
  });

  it('loses no update between processes that replace by version', async () => {
    const folder = newFolder();
    const store = openStore(folder);
    await store.put('counter', '0');
    const script = `
      import { FolderStore } from ${JSON.stringify(path.resolve('src/storage/folderStore.ts'))};
      const store = new FolderStore(${JSON.stringify(folder)});
      for (let done = 0; done < 15;) {
        const { etag } = await store.head('counter');
        const value = Number(new TextDecoder().decode(await store.get('counter')));
        if (await store.put('counter', String(value + 1), { ifMatch: etag })) done++;
      }`;
    // The value is read after its etag: when they differ, the etag is old and the put fails.
    await Promise.all([1, 2, 3].map(async () => {
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { stdio: 'inherit' });
      expect((await event(child, 'exit'))[0]).toBe(0);
    }));
    expect(text(await store.get('counter'))).toBe('45');
    expect(readdirSync(folder)).toEqual(['counter']);
  });

  it('breaks the lock of a dead process', async () => {
    const folder = newFolder();
    const script = `
      import { FolderStore } from ${JSON.stringify(path.resolve('src/storage/folderStore.ts'))};
      const store = new FolderStore(${JSON.stringify(folder)});
      await store.put('k', 'one');
      const { etag } = await store.head('k');
      // Dies in the middle of the exchange: its second look at the object.
      let looks = 0;
      const head = store.head.bind(store);
      store.head = (key) => ++looks === 2 ? process.kill(process.pid, 'SIGKILL') : head(key);
      await store.put('k', 'two', { ifMatch: etag });`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { stdio: 'inherit' });
    expect((await event(child, 'exit'))[1]).toBe('SIGKILL');
    expect(readdirSync(folder).some((name) => name.endsWith('.lock'))).toBe(true);
    const store = openStore(folder);
    expect(await store.put('k', 'three', { ifMatch: (await store.head('k'))!.etag })).toBe(true);
    expect(text(await store.get('k'))).toBe('three');
    await keysOf(store);
    expect(readdirSync(folder)).toEqual(['k']);
  });

  it('follows links, lists broken ones, and does not run in circles', async () => {
    const folder = newFolder();
    const store = openStore(folder);
    await store.put('images/1.jpg', 'one');
    symlinkSync(path.join(folder, 'images'), path.join(folder, 'linked'));
    symlinkSync(folder, path.join(folder, 'images', 'loop'));
    symlinkSync('/nowhere/at/all.jpg', path.join(folder, 'broken.jpg'));
    const found = [];
    for await (const info of store.list('')) found.push(info);
    expect(found.map((info) => info.key)).toEqual(['broken.jpg', 'images/1.jpg', 'linked/1.jpg']);
    expect(found[0]).toEqual({ key: 'broken.jpg', size: 0, etag: 'unreadable' });
    expect(await codeOf(store.get('broken.jpg'))).toBe('ObjectNotFound');
  });

  it('finds files whose names are not UTF-8', async () => {
    const folder = newFolder();
    mkdirSync(folder, { recursive: true });
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.of(0xe9), Buffer.from('.jpg')]), 'latin1');
    const store = openStore(folder);
    const [key] = await keysOf(store);
    expect(key).toBe('caf\udce9.jpg');
    expect(text(await store.get(JSON.parse(JSON.stringify(key)) as string))).toBe('latin1');
    expect(store.url(key!)).toMatch(/caf%E9\.jpg$/);
  });

  it('names the limit of a name that is too long', async () => {
    const store = openStore(newFolder());
    const key = `a/${'x'.repeat(256)}`;
    expect(await codeOf(store.put(key, 'x'))).toBe('KeyInvalid');
    await expect(store.put(key, 'x')).rejects.toThrow(/255 bytes/);
    await store.put('file', 'x');
    expect(await codeOf(store.put('file/below', 'x'))).toBe('KeyInvalid');
    expect(await codeOf(store.get('file/below'))).toBe('ObjectNotFound');
    expect(await codeOf(store.get('a'))).toBe('ObjectNotFound');
  });

  it('leaves nothing half-written on a full disk', async (context) => {
    const folder = newFolder();
    mkdirSync(folder, { recursive: true });
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder], { stdio: 'ignore' });
    } catch {
      return context.skip('a small file system cannot be mounted here (needs root on Linux)');
    }
    try {
      const store = openStore(folder);
      await store.put('kept', 'old');
      const large = Buffer.alloc(200_000);
      for (const body of [large, Readable.from([large.subarray(0, 30_000), large])]) {
        const failure = store.put('kept', body);
        await expect(failure).rejects.toThrow(/kept was not written: no space left on the disk; free some space/);
        expect(await codeOf(failure)).toBe('DiskFull');
      }
      expect(readdirSync(folder)).toEqual(['kept']);
      expect(text(await store.get('kept'))).toBe('old');
    } finally { execFileSync('umount', [folder]); }
  });

  it('says that a folder cannot be written', async (context) => {
    const folder = newFolder();
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, 'there'), 'x');
    let undo: () => void;
    if (process.getuid?.() === 0) {
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder], { stdio: 'ignore' });
      } catch {
        return context.skip('root may write everywhere, and a read-only file system cannot be mounted here');
      }
      undo = () => execFileSync('umount', [folder]);
    } else {
      execFileSync('chmod', ['555', folder]);
      undo = () => execFileSync('chmod', ['755', folder]);
    }
    try {
      const failure = new FolderStore(folder).put('new/object', 'x');
      await expect(failure).rejects.toThrow(/cannot be written: .*; choose a folder/);
      expect(await codeOf(failure)).toBe('StoreUnwritable');
    } finally { undo(); }
  });
});
