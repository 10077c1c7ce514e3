import { mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { demoClasses, demoClassNames, distractors } from '../../src/demo/dataset/classes.ts';
import type { Artwork, DemoArtwork } from '../../src/demo/dataset/artwork.ts';
import { demoEntries, loadDemoArtwork, renderDemoDataset, renderDemoImage } from '../../src/demo/dataset.ts';
import { silentLog } from '../../src/log.ts';

const folders: string[] = [];
let folder: string;
beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), 'genview-demo-')); folders.push(folder); });
afterEach(async () => { for (const made of folders.splice(0)) await rm(made, { recursive: true, force: true }); });

/** A disc of one grey, its alpha falling softly to the edge, as the only picture of the only class. */
async function disc(grey: number): Promise<DemoArtwork> {
  const { distractors: others } = await loadDemoArtwork();
  const size = 128, data = new Uint8Array(size * size * 4);
  let area = 0;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const alpha = Math.round(255 * Math.max(0, Math.min(1, (64 - Math.hypot(x - 63.5, y - 63.5)) / 8)));
      data.fill(Math.round(grey * alpha / 255), (y * size + x) * 4, (y * size + x) * 4 + 3);
      data[(y * size + x) * 4 + 3] = alpha;
      area += alpha / 255;
    }
  }
  const picture: Artwork = { name: 'disc', levels: [{ width: size, height: size, data }], area };
  return { classes: [[picture]], distractors: others };
}

describe('classes', () => {
  it('are at least 20, of 2 to 5 drawings each, and share no picture with each other or the distractors', () => {
    expect(demoClassNames.length).toBeGreaterThanOrEqual(20);
    for (const codes of Object.values(demoClasses)) { expect(codes.length).toBeGreaterThanOrEqual(2); expect(codes.length).toBeLessThanOrEqual(5); }
    const all = [...Object.values(demoClasses).flat(), ...distractors];
    expect(new Set(all).size).toBe(all.length);
  });

  it('are all drawn in both styles', async () => {
    const { classes } = await loadDemoArtwork();
    for (const [label, name] of demoClassNames.entries()) {
      const names = classes[label]!.map((picture) => picture.name);
      for (const code of demoClasses[name as keyof typeof demoClasses]) {
        expect(names).toContain(`@lobehub/fluent-emoji-3d/${code}`);
        expect(names).toContain(`emoji-datasource-google/${code}`);
      }
    }
  });
});

describe('renderDemoImage', () => {
  it('gives the same image for the same keys, whatever was drawn before, and another one for others', async () => {
    const artwork = await loadDemoArtwork();
    const first = renderDemoImage(artwork, [7, 'x', 1], 3);
    const other = renderDemoImage(artwork, [7, 'x', 2], 3);
    expect(renderDemoImage(artwork, [7, 'x', 1], 3)).toEqual(first);
    expect(other.image.data).not.toEqual(first.image.data);
    expect(first.label).toBe(3);
  });

  it('covers small and large parts of the image, about 8 % to 75 %', async () => {
    const artwork = await loadDemoArtwork();
    const shares = Array.from({ length: 240 }, (_, i) => renderDemoImage(artwork, ['share', i], i % 24).mask.reduce((sum, v) => sum + v, 0) / 255 / 1024).sort((a, b) => a - b);
    expect(shares[0]).toBeGreaterThan(0.07);
    expect(shares[0]).toBeLessThan(0.15);
    expect(shares.at(-1)).toBeGreaterThan(0.55);
    expect(shares.at(-1)).toBeLessThan(0.82);
    expect(shares[180]! - shares[60]!).toBeGreaterThan(0.12);
  });

  it('masks exactly what the object covers: two greys differ by their difference times the mask', async () => {
    const dark = await disc(100), light = await disc(150);
    let compared = 0;
    for (let i = 0; i < 12; i++) {
      const a = renderDemoImage(dark, ['mask', i], 0), b = renderDemoImage(light, ['mask', i], 0);
      expect(b.mask).toEqual(a.mask);
      const differenceAt = (p: number): number => b.image.data[p]! - a.image.data[p]!;
      const inside = a.mask.findIndex((v) => v === 255);
      for (let p = 0; p < 3 * 1024; p++) {
        // A channel at its limit was cut.
        if ([a, b].some(({ image }) => image.data[p] === 0 || image.data[p] === 255)) continue;
        expect(Math.abs(differenceAt(p) - a.mask[Math.floor(p / 3)]! / 255 * differenceAt(inside * 3 + p % 3))).toBeLessThanOrEqual(2);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(30_000);
  });
});

describe('renderDemoDataset', () => {
  const small = { trainPerClass: 1, valPerClass: 1, seed: 5 };
  const files = async (root: string): Promise<Record<string, Buffer>> => {
    const names = (await readdir(root, { recursive: true, withFileTypes: true })).filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name)).sort();
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name.slice(root.length), await readFile(name)] as const)));
  };

  it('names images without meaning, once a split, classes balanced', () => {
    const entries = demoEntries({ trainPerClass: 4, valPerClass: 2 });
    expect(entries).toHaveLength(24 * 6);
    const train = entries.filter(({ split }) => split === 'train');
    expect(train.map(({ key }) => key.split('/')[2])).toEqual(Array.from({ length: 96 }, (_, i) => `${String(i).padStart(6, '0')}.png`));
    for (const label of demoClassNames.keys()) expect(train.filter((e) => e.label === label)).toHaveLength(4);
    expect(train.slice(0, 24).map(({ label }) => label)).not.toEqual([...Array(24).keys()]);
  });

  it('writes 32 x 32 RGB images by class, each with an 8-bit mask under the same name', async () => {
    expect(await renderDemoDataset({ folder, ...small })).toBe(48);
    const pngs = Object.keys(await files(folder)).filter((name) => name.endsWith('.png'));
    const images = pngs.filter((name) => !name.startsWith('/masks/'));
    expect(pngs.filter((name) => name.startsWith('/masks/')).map((name) => name.slice('/masks'.length))).toEqual(images);
    expect(images.filter((name) => name.startsWith('/train/cat/'))).toHaveLength(1);
    expect(await sharp(folder + images[0]!).metadata()).toMatchObject({ format: 'png', width: 32, height: 32, channels: 3, depth: 'uchar' });
    expect(await sharp(`${folder}/masks${images[0]!}`).metadata()).toMatchObject({ format: 'png', width: 32, height: 32, channels: 1, depth: 'uchar' });
    const entry = demoEntries(small)[0]!;
    const { image, mask } = renderDemoImage(await loadDemoArtwork(), entry.stream, entry.label);
    expect(new Uint8Array(await sharp(join(folder, entry.key)).raw().toBuffer())).toEqual(image.data);
    expect(new Uint8Array(await sharp(join(folder, 'masks', entry.key)).toColourspace('b-w').raw().toBuffer())).toEqual(mask);
  });

  it('completes an interrupted data set to the bytes of an undisturbed one, then leaves it alone', async () => {
    const stop = new AbortController();
    let advanced = 0;
    const log = { ...silentLog, progress: () => ({ advance() { if (++advanced === 10) stop.abort(new Error('stopped')); }, done() {} }) };
    await expect(renderDemoDataset({ folder, ...small, signal: stop.signal }, log)).rejects.toThrow('stopped');
    const [entry] = demoEntries(small);
    await unlink(join(folder, 'masks', entry!.key)).catch(() => {});
    const missing = await renderDemoDataset({ folder, ...small });
    expect(missing).toBeGreaterThan(0);
    expect(missing).toBeLessThan(48);
    expect(await renderDemoDataset({ folder, ...small })).toBe(0);
    const undisturbed = await mkdtemp(join(tmpdir(), 'genview-demo-'));
    folders.push(undisturbed);
    await renderDemoDataset({ folder: undisturbed, ...small });
    expect(await files(folder)).toEqual(await files(undisturbed));
  });

  it('refuses a folder with other parameters, with other files, and counts that are none', async () => {
    const few = { trainPerClass: 0, valPerClass: 1 };
    await renderDemoDataset({ folder, ...few, seed: 1 });
    await expect(renderDemoDataset({ folder, ...few, seed: 2 })).rejects.toMatchObject({ code: 'DatasetDiffers', message: expect.stringContaining('demo-dataset.json') });
    const foreign = join(folder, 'train');
    await writeFile(foreign, 'mine');
    await rm(join(folder, 'demo-dataset.json'));
    await expect(renderDemoDataset({ folder, ...few, seed: 1 })).rejects.toMatchObject({ code: 'DatasetDiffers' });
    await expect(renderDemoDataset({ folder, trainPerClass: -1 })).rejects.toMatchObject({ code: 'OptionInvalid' });
    await expect(renderDemoDataset({})).rejects.toMatchObject({ code: 'OptionInvalid' });
  });
});
