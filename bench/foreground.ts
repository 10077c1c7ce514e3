import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { centreCrop, decodeImage, toPixels, type Image } from '../src/dataset/image.ts';
import { demoClassNames } from '../src/demo/dataset/classes.ts';
import { renderDemoDataset } from '../src/demo/dataset.ts';
import { areaUnderCurve, rankCorrelation } from '../src/foreground/agreement.ts';
import { openEncoder } from '../src/foreground/encoder.ts';
import { fitForegroundModel } from '../src/foreground/fit.ts';
import { foregroundProportion } from '../src/foreground/proportion.ts';
import { normalizeTokens, projectTokens } from '../src/foreground/tokens.ts';
import type { Log } from '../src/log.ts';
import type { HostTensor } from '../src/tensor.ts';

/** An image with its true foreground. */
interface Masked {
  readonly image: Image;
  /** Same size as the image; a pixel is foreground above 127 (first channel). */
  readonly mask: Image;
}

const shared = fileURLToPath(new URL('../../shared/', import.meta.url));

/**
 * `npm run bench -- foreground [--images n]`: agreement of foreground maps and proportions with true masks.
 * Prints, for each data set and encoder, with raw and with normalised tokens: the mean over images of the map's AUC, the same of a prior that
 * only knows the distance to the centre, Spearman's rank correlation of proportion and mask area, and the sign's margin.
 */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: { images: { type: 'string', default: '1000' } } });
  const threads = os.availableParallelism();
  const rows: Record<string, string | number>[] = [];
  const measureAll = async (data: string, images: readonly Masked[], encoders: readonly { name: string; model: string; imageSize: number }[]): Promise<void> => {
    for (const { name, ...recipe } of encoders) {
      for (const normalize of [false, true]) {
        log.info(`${data}: ${name}, ${normalize ? 'normalised' : 'raw'} tokens`);
        rows.push({ data, encoder: name, pixels: recipe.imageSize, tokens: normalize ? 'normalised' : 'raw', ...await measure(images, recipe, normalize, threads) });
      }
    }
  };
  const model = (file: string): string => path.join(shared, 'models', file);
  const photoEncoders = [
    { name: 'tiny-darknet', model: model('tiny-darknet-imagenet.onnx'), imageSize: 128 },
    { name: 'tiny-darknet', model: model('tiny-darknet-imagenet.onnx'), imageSize: 224 },
    { name: 'squeezenet', model: model('squeezenet-v1.0-imagenet.onnx'), imageSize: 227 },
  ].filter((encoder) => existsSync(encoder.model));

  await measureAll('embedded', await demoImages(Number(values.images), log), [{ name: 'demo-encoder', model: 'builtin:demo-encoder', imageSize: 32 }, ...photoEncoders.slice(0, 1)]);
  const photographs = path.join(shared, 'data', 'imagenet-samples');
  if (photoEncoders.length > 0 && existsSync(photographs)) await measureAll('imagenet-samples', await photographsWithMasks(photographs), photoEncoders);
  else log.info('imagenet-samples skipped: ../shared is not there');
  console.table(rows);
}

async function measure(images: readonly Masked[], recipe: { model: string; imageSize: number }, normalize: boolean, threads: number): Promise<Record<string, string | number>> {
  const encoder = await openEncoder(recipe, { threads });
  const batch = 32, tokens: HostTensor<'float32'>[] = [];
  for (let start = 0; start < images.length; start += batch) {
    const crops = await Promise.all(images.slice(start, start + batch).map(({ image }) => centreCrop(image, recipe.imageSize)));
    tokens.push((await encoder.encode(toPixels(crops))).tokens);
  }
  await encoder.dispose();
  const fitted = await fitForegroundModel(() => tokens, { quantile: 0.6, normalizeTokens: normalize });
  const maps = tokens.flatMap((part) => {
    const all = projectTokens(normalize ? normalizeTokens(part) : part, fitted.vector), n = part.shape[0]!, positions = all.length / n;
    return Array.from({ length: n }, (_, i) => all.subarray(i * positions, (i + 1) * positions));
  });

  const [gridRows, gridColumns] = fitted.grid;
  const centred = Float64Array.from({ length: gridRows * gridColumns }, (_, k) => -Math.hypot((Math.floor(k / gridColumns) + 0.5) / gridRows - 0.5, (k % gridColumns + 0.5) / gridColumns - 0.5));
  const aucs: number[] = [], priors: number[] = [], proportions: number[] = [], areas: number[] = [];
  for (const [i, { mask }] of images.entries()) {
    const { cells, area } = maskOnGrid(await centreCrop(mask, recipe.imageSize), fitted.grid);
    // Masks that found next to nothing, or everything, are no truth to measure against.
    if (area < 0.02 || area > 0.95) continue;
    proportions.push(foregroundProportion(maps[i]!, fitted.threshold));
    areas.push(area);
    if (cells.every((cell) => cell === cells[0])) continue;
    aucs.push(areaUnderCurve(maps[i]!, cells));
    priors.push(areaUnderCurve(centred, cells));
  }
  const mean = (values: readonly number[]): string => (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(3);
  return {
    images: areas.length, grid: fitted.grid.join('x'), explained: fitted.explained.toFixed(3),
    AUC: mean(aucs), 'AUC of centre prior': mean(priors), 'rank correlation': rankCorrelation(proportions, areas).toFixed(3),
    sign: fitted.sign.flipped ? 'flipped' : 'kept',
  };
}

/** A cell is foreground when more than half of it is. `area` is the mask's share of the whole crop. */
function maskOnGrid(mask: Image, [rows, columns]: readonly [number, number]): { cells: boolean[]; area: number } {
  const inside = new Float64Array(rows * columns), all = new Float64Array(rows * columns);
  let area = 0;
  for (let y = 0; y < mask.height; y++) {
    for (let x = 0; x < mask.width; x++) {
      const cell = Math.floor(y * rows / mask.height) * columns + Math.floor(x * columns / mask.width);
      const foreground = mask.data[3 * (y * mask.width + x)]! > 127 ? 1 : 0;
      inside[cell]! += foreground;
      all[cell]!++;
      area += foreground;
    }
  }
  return { cells: Array.from(inside, (value, cell) => value / all[cell]! > 0.5), area: area / (mask.width * mask.height) };
}

async function demoImages(count: number, log: Log): Promise<Masked[]> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'genview-bench-'));
  try {
    await renderDemoDataset({ folder, trainPerClass: Math.ceil(count / demoClassNames.length), valPerClass: 1 }, log);
    const files = (await readdir(path.join(folder, 'train'), { recursive: true })).filter((file) => file.endsWith('.png')).toSorted();
    const read = async (...parts: string[]): Promise<Image> => decodeImage(await readFile(path.join(folder, ...parts)));
    return await Promise.all(files.map(async (file) => ({ image: await read('train', file), mask: await read('masks', 'train', file) })));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The masks are squares stretched from the photographs' own shapes. */
async function photographsWithMasks(folder: string): Promise<Masked[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.JPEG')).toSorted();
  return Promise.all(files.map(async (file) => {
    const image = await decodeImage(await readFile(path.join(folder, file)));
    const stretched = await sharp(path.join(folder, 'masks', file.replace('.JPEG', '.png'))).resize(image.width, image.height, { fit: 'fill' }).toColourspace('srgb').removeAlpha().png().toBuffer();
    return { image, mask: await decodeImage(stretched) };
  }));
}
