import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';

const fixture = (name: string): Buffer => readFileSync(new URL(`../../fixtures/images/${name}`, import.meta.url));

function pngChunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4), sum = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** A valid PNG header of 50,000 x 50,000 RGB pixels, 7.5 GB when decoded, and next to nothing behind it. */
function hugeHeader(): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(50_000, 0);
  header.writeUInt32BE(50_000, 4);
  header.set([8, 2], 8);
  return Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]), pngChunk('IHDR', header), pngChunk('IDAT', deflateSync(Buffer.alloc(10_000))), pngChunk('IEND', Buffer.alloc(0))]);
}

const noise = (): Sharp => sharp({ create: { width: 120, height: 90, channels: 3, background: '#888', noise: { type: 'gaussian', mean: 128, sigma: 50 } } });
const flat = (background: string): Promise<Buffer> => sharp({ create: { width: 40, height: 36, channels: 3, background } }).png().toBuffer();

export interface OddImages {
  /** Paths of what cannot be read, with the reason to expect. */
  readonly unreadable: Readonly<Record<string, RegExp>>;
  /** Paths of unusual images that can. */
  readonly usable: readonly string[];
}

/** Puts every kind of bad and unusual image into the classes of an image folder, in both splits. */
export async function addOddImages(folder: string, classes: readonly string[]): Promise<OddImages> {
  const [a, b, c] = classes as [string, string, string];
  const jpeg = await noise().jpeg().toBuffer();
  const frames = await Promise.all(['#ff0000', '#0000ff', '#00ff00'].map(flat));
  const animation = sharp(frames, { join: { animated: true } });
  const ordinary = await noise().png().toBuffer();
  const long = `${'long name '.repeat(20).slice(0, 196)}.png`;

  const unreadable: Record<string, readonly [Buffer, RegExp]> = {
    [`train/${a}/truncated.jpg`]: [jpeg.subarray(0, jpeg.length / 2), /truncated/],
    [`train/${b}/empty.jpg`]: [Buffer.alloc(0), /empty/],
    [`train/${c}/text.jpg`]: [Buffer.from('This is a text.'), /not an image.*This is a te/],
    [`train/${a}/huge.png`]: [hugeHeader(), /50000 x 50000 pixels/],
    [`val/${a}/truncated.png`]: [ordinary.subarray(0, ordinary.length / 2), /truncated|corrupt/],
  };
  const usable: Record<string, Buffer> = {
    [`train/${a}/cmyk.jpg`]: fixture('cmyk.jpg'),
    [`train/${a}/sixteen-bits.png`]: fixture('grey16.png'),
    [`train/${b}/animated.gif`]: await animation.clone().gif().toBuffer(),
    [`train/${b}/animated.webp`]: await animation.clone().webp().toBuffer(),
    [`train/${b}/grey.jpg`]: fixture('grey.jpg'),
    [`train/${c}/transparent.png`]: await noise().ensureAlpha(0.5).png().toBuffer(),
    [`train/${c}/rotated.jpg`]: fixture('exif-6.jpg'),
    [`train/${c}/with several spaces.png`]: ordinary,
    [`train/${c}/it's "quoted".png`]: ordinary,
    [`train/${c}/#1 100%.png`]: ordinary,
    [`train/${c}/%41%2F.png`]: ordinary,
    [`train/${a}/Übergrößenträger 画像 🖼.png`]: ordinary,
    [`train/${b}/${long}`]: ordinary,
    [`train/${a}/same.png`]: ordinary,
    [`train/${b}/same.png`]: ordinary,
    [`val/${b}/same.png`]: ordinary,
  };
  for (const [name, bytes] of [...Object.entries(usable), ...Object.entries(unreadable).map(([name, [bytes]]) => [name, bytes] as const)]) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, bytes);
  }
  return { unreadable: Object.fromEntries(Object.entries(unreadable).map(([name, [, reason]]) => [name, reason])), usable: Object.keys(usable) };
}
