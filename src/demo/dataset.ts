import { isDeepStrictEqual } from 'node:util';
import sharp from 'sharp';
import { encodePng } from '../dataset/image.ts';
import { GenViewError } from '../errors.ts';
import { silentLog, type Log } from '../log.ts';
import { Random } from '../random.ts';
import { once, openStore, readJson, writeJson, type ObjectStore } from '../storage/index.ts';
import { artworkPackages, loadDemoArtwork } from './dataset/artwork.ts';
import { demoClasses, demoClassNames } from './dataset/classes.ts';
import { demoImageSize, renderDemoImage, rendererVersion } from './dataset/render.ts';

export { loadDemoArtwork, type DemoArtwork } from './dataset/artwork.ts';
export { demoClassNames } from './dataset/classes.ts';
export { demoImageSize, renderDemoImage, type DemoImage } from './dataset/render.ts';

export interface DemoDatasetOptions {
  /** Where to write; give this or `folder`. */
  readonly store?: ObjectStore;
  /** Path or URL of the folder to write. */
  readonly folder?: string;
  /** Images a class in `train/`. @default 100 */
  readonly trainPerClass?: number;
  /** Images a class in `val/`. @default 25 */
  readonly valPerClass?: number;
  /** @default 0 */
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/** One image of the data set before it is drawn. */
export interface DemoEntry {
  readonly split: 'train' | 'val';
  readonly label: number;
  /** `<split>/<class>/<number>.png`; the mask has `masks/` before it. */
  readonly key: string;
  /** Random stream of the image, for {@link renderDemoImage}. */
  readonly stream: readonly (string | number)[];
}

const descriptionKey = 'demo-dataset.json';
const doneKey = 'demo-dataset.done';
/** Images in work at once: drawing takes the main thread, encoding and writing go on beside it. */
const concurrency = 16;

/**
 * Renders the embedded data set: 24 classes of small objects in cluttered surroundings, 32 x 32 RGB, as an image folder
 * `train/<class>/*.png`, `val/<class>/*.png`, with the exact coverage of the object in 8 bits as
 * `masks/<split>/<class>/*.png`. The same options give the same bytes. A finished data set is left alone, one that was
 * interrupted is completed.
 *
 * Throws `DatasetDiffers` when the place holds a data set of other options or other files, `ArtworkMissing` when the npm
 * packages with the artwork are not installed.
 * @returns number of images that this call wrote, masks not counted
 */
export async function renderDemoDataset(options: DemoDatasetOptions, log: Log = silentLog): Promise<number> {
  const { trainPerClass = 100, valPerClass = 25, seed = 0, signal } = options;
  for (const [name, count] of Object.entries({ trainPerClass, valPerClass })) {
    if (!Number.isSafeInteger(count) || count < 0) throw new GenViewError('OptionInvalid', `${name} must be a whole number, not ${count}`);
  }
  const store = options.store ?? openStore(options.folder ?? missingPlace());
  const description = { renderer: rendererVersion, artwork: await artworkPackages(), size: demoImageSize, seed, trainPerClass, valPerClass, classes: demoClasses };
  await claim(store, description);
  let written = 0;
  await once(store, doneKey, async (held) => {
    written = await renderMissing(store, demoEntries({ trainPerClass, valPerClass, seed }), log, held);
  }, { log, ...(signal ? { signal } : {}) });
  return written;
}

/** Every image of a data set in the order of their keys within a split. Numbers carry no meaning: classes are dealt at random. */
export function demoEntries({ trainPerClass = 100, valPerClass = 25, seed = 0 }: Pick<DemoDatasetOptions, 'trainPerClass' | 'valPerClass' | 'seed'>): DemoEntry[] {
  const split = (name: DemoEntry['split'], perClass: number): DemoEntry[] => {
    const all = demoClassNames.flatMap((_, label) => Array.from({ length: perClass }, (_, i) => ({ label, i })));
    return new Random(seed, 'demo names', name).shuffle(all).map(({ label, i }, number) => ({
      split: name, label,
      key: `${name}/${demoClassNames[label]!}/${String(number).padStart(6, '0')}.png`,
      stream: [seed, name, label, i],
    }));
  };
  return [...split('train', trainPerClass), ...split('val', valPerClass)];
}

function missingPlace(): never {
  throw new GenViewError('OptionInvalid', 'renderDemoDataset needs a store or a folder to write to');
}

/** Puts the description there, or compares it with the one that is. */
async function claim(store: ObjectStore, description: object): Promise<void> {
  if (!await store.head(descriptionKey)) {
    for await (const { key } of store.list('')) {
      // Another process may have put its description between the two looks.
      if (await store.head(descriptionKey)) break;
      throw new GenViewError('DatasetDiffers', `${store.root} holds other files (${key}); give an empty folder for the demo data set`);
    }
    if (await writeJson(store, descriptionKey, description, { ifNoneMatch: '*' })) return;
  }
  const found = await readJson<unknown>(store, descriptionKey);
  // Through JSON, as the description in the store has gone.
  if (isDeepStrictEqual(found, JSON.parse(JSON.stringify(description)))) return;
  throw new GenViewError('DatasetDiffers', `${store.root} holds a demo data set of other parameters or another version (${descriptionKey}); delete it or give another folder`);
}

async function renderMissing(store: ObjectStore, entries: readonly DemoEntry[], log: Log, signal: AbortSignal): Promise<number> {
  const present = new Set<string>();
  for await (const { key } of store.list('')) present.add(key);
  const missing = entries.filter(({ key }) => !present.has(key) || !present.has(`masks/${key}`));
  const artwork = await loadDemoArtwork();
  const progress = log.progress('Rendering the demo data set', missing.length, 'images');
  const queue = missing.values();
  const worker = async (): Promise<void> => {
    for (const { key, label, stream } of queue) {
      signal.throwIfAborted();
      const { image, mask } = renderDemoImage(artwork, stream, label);
      // Made again in seconds: not worth waiting for the disk at each of thousands of small files.
      const png = { contentType: 'image/png', flush: false };
      await Promise.all([
        encodePng(image).then((bytes) => store.put(key, bytes, png)),
        encodeMask(mask).then((bytes) => store.put(`masks/${key}`, bytes, png)),
      ]);
      progress.advance();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  progress.done();
  return missing.length;
}

function encodeMask(mask: Uint8Array): Promise<Uint8Array> {
  return sharp(mask, { raw: { width: demoImageSize, height: demoImageSize, channels: 1 } }).toColourspace('b-w').png().toBuffer();
}
