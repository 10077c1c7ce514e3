import { createRequire } from 'node:module';
import { access, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { GenViewError } from '../../errors.ts';
import { demoClasses, distractors } from './classes.ts';

const require = createRequire(import.meta.url);

/** One resolution of a picture: RGBA, 8 bit, colours multiplied by alpha, row-major. */
export interface Level {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** A picture on a transparent ground, cut to its visible box, with halved copies for clean reduction. */
export interface Artwork {
  readonly name: string;
  /** Finest first; each next one has half the side. */
  readonly levels: readonly Level[];
  /** Sum of alpha over the finest level, in its pixels. */
  readonly area: number;
}

/** Everything the renderer draws with. */
export interface DemoArtwork {
  /** In the order of `demoClassNames`. */
  readonly classes: readonly (readonly Artwork[])[];
  readonly distractors: readonly Artwork[];
}

/** Longer side of the finest level in pixels, 4 times that of an image of the data set. */
const artworkSize = 128;

const styles = [
  { package: '@lobehub/fluent-emoji-3d', file: (code: string) => `assets/${code}.webp` },
  { package: 'emoji-datasource-google', file: (code: string) => `img/google/64/${code}.png` },
] as const;

let loaded: Promise<DemoArtwork> | undefined;

/** Decodes the artwork of the installed packages, once a process (about a second). Throws `ArtworkMissing`. */
export function loadDemoArtwork(): Promise<DemoArtwork> {
  loaded ??= load().catch((error: unknown) => { loaded = undefined; throw error; });
  return loaded;
}

async function load(): Promise<DemoArtwork> {
  const roots = styles.map((style) => ({ ...style, root: packageRoot(style.package) }));
  const both = (code: string): Promise<Artwork[]> =>
    Promise.all(roots.map((style) => decode(join(style.root, style.file(code)), `${style.package}/${code}`)));
  const several = async (codes: readonly string[]): Promise<Artwork[]> => (await Promise.all(codes.map(both))).flat();
  const classes: Artwork[][] = [];
  for (const codes of Object.values(demoClasses)) classes.push(await several(codes));
  return { classes, distractors: await several(distractors) };
}

/** Packages and versions the pictures come from: part of the identity of a rendered data set. Throws `ArtworkMissing`. */
export async function artworkPackages(): Promise<Record<string, string>> {
  return Object.fromEntries(await Promise.all(styles.map(async ({ package: name }) => {
    const { version } = JSON.parse(await readFile(join(packageRoot(name), 'package.json'), 'utf8')) as { version: string };
    return [name, version] as const;
  })));
}

function packageRoot(name: string): string {
  try {
    return dirname(require.resolve(`${name}/package.json`));
  } catch (cause) {
    throw new GenViewError('ArtworkMissing', `The demo data set needs the npm package ${name}: run npm ci.`, { cause });
  }
}

async function decode(file: string, name: string): Promise<Artwork> {
  try {
    await access(file);
  } catch (cause) {
    throw new GenViewError('ArtworkMissing', `The picture ${file} is not there: run npm ci to install the versions of package-lock.json.`, { cause });
  }
  // Trimmed by our own alpha test: the artwork has faint shadows that would enlarge the box.
  const source = await sharp(file).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  const box = visibleBox(source.data, source.info.width, source.info.height);
  const scale = artworkSize / Math.max(box.width, box.height);
  const { data, info } = await sharp(source.data, { raw: source.info }).extract(box)
    .resize(Math.max(1, Math.round(box.width * scale)), Math.max(1, Math.round(box.height * scale)), { fit: 'fill', kernel: 'cubic' })
    .raw().toBuffer({ resolveWithObject: true });
  const finest: Level = { width: info.width, height: info.height, data: multiplyAlpha(data) };
  const levels = [finest];
  for (let last = finest; Math.max(last.width, last.height) > 8;) levels.push(last = halve(last));
  let area = 0;
  for (let i = 3; i < finest.data.length; i += 4) area += finest.data[i]! / 255;
  return { name, levels, area };
}

function visibleBox(rgba: Uint8Array, width: number, height: number): { left: number; top: number; width: number; height: number } {
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (rgba[(y * width + x) * 4 + 3]! < 64) continue;
      left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
    }
  }
  return { left, top, width: right - left + 1, height: bottom - top + 1 };
}

function multiplyAlpha(rgba: Uint8Array): Uint8Array {
  const result = new Uint8Array(rgba.length);
  for (let i = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3]!;
    for (let c = 0; c < 3; c++) result[i + c] = Math.round(rgba[i + c]! * alpha / 255);
    result[i + 3] = alpha;
  }
  return result;
}

/** Mean of 2 x 2 pixels; an odd last row or column counts twice. */
function halve(level: Level): Level {
  const width = Math.ceil(level.width / 2), height = Math.ceil(level.height / 2);
  const data = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    const row0 = 2 * y * level.width, row1 = Math.min(2 * y + 1, level.height - 1) * level.width;
    for (let x = 0; x < width; x++) {
      const x0 = 2 * x, x1 = Math.min(2 * x + 1, level.width - 1);
      for (let c = 0; c < 4; c++) {
        const sum = level.data[(row0 + x0) * 4 + c]! + level.data[(row0 + x1) * 4 + c]!
          + level.data[(row1 + x0) * 4 + c]! + level.data[(row1 + x1) * 4 + c]!;
        data[(y * width + x) * 4 + c] = (sum + 2) >> 2;
      }
    }
  }
  return { width, height, data };
}
