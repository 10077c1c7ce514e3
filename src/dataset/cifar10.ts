import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { decodeImage, encodePng, type Image } from './image.ts';
import { ImageFolderWriter } from './unpack.ts';

/** By label. */
export const cifar10Classes = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'] as const;

const tile = 32, columns = 40, rows = 25;

export interface Cifar10Counts {
  /** Training images; the first ones, so balanced over the classes. @default all */
  readonly train?: number;
  /** Test images, which become the validation split. @default all */
  readonly test?: number;
}

/**
 * Cuts mosaics of CIFAR-10 (`train-00.png` …, `test-00.png` …: 40 columns x 25 rows of 32 x 32 tiles in reading order,
 * label = tile number modulo 10) into `train/<class>/<mosaic>-<tile>.png` and `val/<class>/…`, without loss. Images that
 * are there already are not made again.
 *
 * Throws `DatasetMissing` without mosaics, `TooFewImages` when fewer are there than asked for, `ImageUnreadable`.
 * @returns the images of each split that are now in `outFolder`'s share of the mosaics
 */
export async function unpackCifar10(mosaicFolder: string, outFolder: string, counts: Cifar10Counts, log: Log): Promise<{ train: number; val: number }> {
  const files = (await readdir(mosaicFolder).catch((cause: unknown) => {
    throw new GenViewError('DatasetMissing', `${mosaicFolder} is not a folder that can be read`, { cause });
  })).sort();
  const writer = new ImageFolderWriter(outFolder);
  const result = { train: 0, val: 0 };
  for (const [kind, split, wanted] of [['train', 'train', counts.train], ['test', 'val', counts.test]] as const) {
    const mosaics = files.filter((name) => new RegExp(`^${kind}-\\d+\\.png$`).test(name));
    if (mosaics.length === 0) throw new GenViewError('DatasetMissing', `${mosaicFolder} holds no mosaics ${kind}-00.png …`);
    const there = mosaics.length * columns * rows;
    const total = wanted ?? there;
    if (total > there) throw new GenViewError('TooFewImages', `${mosaicFolder} holds ${there} ${kind} images, ${total} were asked for`);
    const progress = log.progress(`unpacking CIFAR-10 ${kind}`, total, 'images');
    for (const [m, mosaic] of mosaics.entries()) {
      const tiles = Math.min(columns * rows, total - m * columns * rows);
      if (tiles <= 0) break;
      await unpackMosaic(path.join(mosaicFolder, mosaic), tiles, split, writer, () => progress.advance());
    }
    progress.done();
    result[split] = total;
  }
  return result;
}

async function unpackMosaic(file: string, tiles: number, split: string, writer: ImageFolderWriter, advance: () => void): Promise<void> {
  const mosaic = path.basename(file, '.png');
  let image: Image | undefined;
  for (let i = 0; i < tiles; i++, advance()) {
    const folder = `${split}/${cifar10Classes[i % cifar10Classes.length]}`;
    const name = `${mosaic}-${String(i).padStart(3, '0')}.png`;
    if (await writer.has(folder, name)) continue;
    image ??= await readMosaic(file);
    await writer.write(folder, name, await encodePng(cut(image, tile * (i % columns), tile * Math.floor(i / columns))));
  }
}

async function readMosaic(file: string): Promise<Image> {
  const image = await decodeImage(await readFile(file)).catch((cause: unknown) => {
    throw cause instanceof GenViewError ? new GenViewError(cause.code, `${file}: ${cause.message}`, { cause }) : cause;
  });
  if (image.width !== columns * tile || image.height !== rows * tile) {
    throw new GenViewError('ImageUnreadable', `${file} is ${image.width} x ${image.height} pixels; a mosaic of CIFAR-10 is ${columns * tile} x ${rows * tile}`);
  }
  return image;
}

function cut(image: Image, left: number, top: number): Image {
  const data = new Uint8Array(tile * tile * 3);
  for (let y = 0; y < tile; y++) {
    const start = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + tile * 3), y * tile * 3);
  }
  return { width: tile, height: tile, data };
}
