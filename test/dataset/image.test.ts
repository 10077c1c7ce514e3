import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { crc32, deflateSync } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';
import { describe, expect, it } from 'vitest';
import { centreCrop, decodeImage, encodePng, type Image, toPixels } from '../../src/dataset/image.ts';
import { GenViewError } from '../../src/errors.ts';

const fixture = (name: string): Buffer => readFileSync(new URL(`../fixtures/images/${name}`, import.meta.url));

/** The picture of generate.py. */
function pattern(width: number, height: number): Image {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const stripe = (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 1;
      data.set([(x * 7 + y * 3) % 256, (x * x + y) % 256, stripe ? 255 : (x * y) % 256], (y * width + x) * 3);
    }
  }
  return { width, height, data };
}

const pixel = (image: Image, x: number, y: number): number[] => [...image.data.subarray((y * image.width + x) * 3, (y * image.width + x) * 3 + 3)];

async function reasonOf(bytes: Uint8Array): Promise<string> {
  return decodeImage(bytes).then(() => 'decoded', (error: unknown) => {
    if (!(error instanceof GenViewError) || error.code !== 'ImageUnreadable') throw error;
    expect(error.message).not.toContain('\n');
    return error.message;
  });
}

const blue = [20, 60, 220], orange = [200, 100, 30];
function expectNear(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  actual.forEach((value, i) => expect(Math.abs(value - expected[i]!), `${actual.join()} near ${expected.join()}`).toBeLessThanOrEqual(tolerance));
}

const flat = (): Sharp => sharp(Buffer.from(Array.from({ length: 24 * 16 }, (_, i) => i % 24 < 12 ? blue : orange).flat()), { raw: { width: 24, height: 16, channels: 3 } });
const noise = (): Sharp => sharp({ create: { width: 120, height: 90, channels: 3, background: '#888', noise: { type: 'gaussian', mean: 128, sigma: 50 } } });

function pngChunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4), sum = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

describe('decoding', () => {
  it('reads JPEG, PNG, WebP, AVIF and TIFF', async () => {
    for (const bytes of [await flat().png().toBuffer(), await flat().webp({ lossless: true }).toBuffer(), await flat().avif({ lossless: true }).toBuffer(), await flat().tiff({ compression: 'lzw' }).toBuffer(), await flat().png({ palette: true }).toBuffer()]) {
      const image = await decodeImage(bytes);
      expect([image.width, image.height, image.data.length]).toEqual([24, 16, 24 * 16 * 3]);
      expectNear(pixel(image, 2, 2), blue, 1);
      expectNear(pixel(image, 20, 12), orange, 1);
    }
    const image = await decodeImage(fixture('progressive.jpg'));
    expectNear(pixel(image, 2, 2), blue, 4);
    expectNear(pixel(image, 20, 12), orange, 4);
  });

  it('converts CMYK to RGB', async () => {
    const image = await decodeImage(fixture('cmyk.jpg'));
    expect([image.width, image.height, image.data.length]).toEqual([24, 16, 24 * 16 * 3]);
    const [left, right] = [pixel(image, 2, 2), pixel(image, 20, 12)];
    expect(left[2]).toBeGreaterThan(left[0]! + 60);
    expect(right[0]).toBeGreaterThan(right[1]! + 60);
    expect(right[1]).toBeGreaterThan(right[2]! + 20);
  });

  it('converts 16 bits a channel to 8', async () => {
    const grey = await decodeImage(fixture('grey16.png'));
    expect([...grey.data]).toEqual([0, 50, 100, 150, 200, 225, 250, 255].flatMap((v) => [v, v, v]));
    const colour = await decodeImage(await flat().toColourspace('rgb16').png().toBuffer());
    expect(pixel(colour, 2, 2)).toEqual(blue);
  });

  it('makes three channels of greyscale', async () => {
    const jpeg = await decodeImage(fixture('grey.jpg'));
    // ITU-R 601 luma of the two colours, as Pillow's "L".
    expectNear(pixel(jpeg, 2, 2), [66, 66, 66], 2);
    expectNear(pixel(jpeg, 20, 12), [122, 122, 122], 2);
    expect(jpeg.data.length).toBe(24 * 16 * 3);
    const png = await decodeImage(await flat().greyscale().png().toBuffer());
    expect(png.data.length).toBe(24 * 16 * 3);
  });

  it('puts transparency on white', async () => {
    const half = Buffer.from([200, 100, 30, 128, 200, 100, 30, 0, 200, 100, 30, 255, 0, 0, 0, 0]);
    const image = await decodeImage(await sharp(half, { raw: { width: 4, height: 1, channels: 4 } }).png().toBuffer());
    // 255 + (c - 255) * alpha / 255
    expectNear(pixel(image, 0, 0), [227, 177, 142], 1);
    expect([pixel(image, 1, 0), pixel(image, 2, 0), pixel(image, 3, 0)]).toEqual([[255, 255, 255], orange, [255, 255, 255]]);
  });

  it('takes the first frame of an animation', async () => {
    const frames = await Promise.all(['#ff0000', '#0000ff', '#00ff00'].map((background) => sharp({ create: { width: 12, height: 8, channels: 3, background } }).png().toBuffer()));
    for (const bytes of [await sharp(frames, { join: { animated: true } }).gif().toBuffer(), await sharp(frames, { join: { animated: true } }).webp({ lossless: true }).toBuffer()]) {
      expect((await sharp(bytes).metadata()).pages).toBe(3);
      const image = await decodeImage(bytes);
      expect([image.width, image.height]).toEqual([12, 8]);
      expect(pixel(image, 5, 5)).toEqual([255, 0, 0]);
    }
  });

  it('turns images upright', async () => {
    const image = await decodeImage(fixture('exif-6.jpg'));
    expect([image.width, image.height]).toEqual([24, 16]);
    expectNear(pixel(image, 2, 8), blue, 4);
    expectNear(pixel(image, 21, 8), orange, 4);
  });

  it('refuses truncated files', async () => {
    const jpeg = await noise().jpeg().toBuffer();
    for (const share of [0.1, 0.5, 0.9, 0.99]) expect(await reasonOf(jpeg.subarray(0, Math.floor(jpeg.length * share)))).toBe('the file is truncated or corrupt');
    const png = await noise().png().toBuffer();
    for (const share of [0.1, 0.5, 0.99]) expect(await reasonOf(png.subarray(0, Math.floor(png.length * share)))).toBe('the file is truncated or corrupt');
    const webp = await noise().webp().toBuffer();
    expect(await reasonOf(webp.subarray(0, webp.length / 2))).toBe('the file is truncated or corrupt');
  });

  it('gives the same reason whatever is decoded at the same time', async () => {
    const jpeg = await noise().jpeg().toBuffer();
    const half = jpeg.subarray(0, jpeg.length / 2);
    const reasons = await Promise.all(Array.from({ length: 60 }, (_, i) => reasonOf(i % 3 === 0 ? half : i % 3 === 1 ? jpeg : Buffer.from('This is a text.'))));
    expect([...new Set(reasons)].toSorted()).toEqual(['decoded', 'not an image, or of an unknown format: it begins with "This is a te"', 'the file is truncated or corrupt']);
  });

  it('refuses what is no image, and says what it found', async () => {
    expect(await reasonOf(new Uint8Array(0))).toBe('the file is empty');
    expect(await reasonOf(Buffer.from('This is a text.'))).toBe('not an image, or of an unknown format: it begins with "This is a te"');
    expect(await reasonOf(Buffer.from([0, 1, 2, 3]))).toBe('not an image, or of an unknown format: it begins with 00010203');
    expect(await reasonOf(Buffer.from(`BM${'\0'.repeat(60)}`))).toMatch(/BMP is not a supported/);
    expect(await reasonOf(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'))).toBe('svg is not a supported image format');
  });

  it('refuses a header of 50,000 x 50,000 pixels without allocating them', async () => {
    const header = Buffer.alloc(13);
    header.writeUInt32BE(50_000, 0);
    header.writeUInt32BE(50_000, 4);
    header.set([8, 2], 8);
    const bytes = Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]), pngChunk('IHDR', header), pngChunk('IDAT', deflateSync(Buffer.alloc(10_000))), pngChunk('IEND', Buffer.alloc(0))]);
    const before = process.memoryUsage().rss;
    expect(await reasonOf(bytes)).toBe('50000 x 50000 pixels are more than the limit of 100 megapixels');
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });
});

describe('the centre crop', () => {
  const crops = JSON.parse(fixture('crops.json').toString()) as { width: number; height: number; size: number; first: number[]; sha256: string }[];
  it.each(crops)('of $width x $height to $size is that of torchvision on Pillow, to the bit', async ({ width, height, size, first, sha256 }) => {
    const cropped = await centreCrop(pattern(width, height), size);
    expect([cropped.width, cropped.height]).toEqual([size, size]);
    expect([...cropped.data.subarray(0, 12)]).toEqual(first);
    expect(createHash('sha256').update(cropped.data).digest('hex')).toBe(sha256);
  });

  it('leaves an image of the right size as it is', async () => {
    const image = pattern(16, 16);
    expect(await centreCrop(image, 16)).toBe(image);
  });
});

describe('pixels', () => {
  it('are planes in [0, 1]', () => {
    const { shape, data } = toPixels([{ width: 2, height: 1, data: Uint8Array.of(0, 51, 255, 102, 153, 204) }, { width: 2, height: 1, data: new Uint8Array(6) }]);
    expect(shape).toEqual([2, 3, 1, 2]);
    [0, 0.4, 0.2, 0.6, 1, 0.8, 0, 0, 0, 0, 0, 0].forEach((value, i) => expect(data[i]).toBeCloseTo(value, 6));
    expect(() => toPixels([pattern(2, 2), pattern(2, 3)])).toThrow(/one batch/);
  });

  it('survive PNG, which is the same bytes each time', async () => {
    const image = pattern(33, 21);
    const png = await encodePng(image);
    expect(await decodeImage(png)).toMatchObject({ width: 33, height: 21 });
    expect(Buffer.from((await decodeImage(png)).data).equals(Buffer.from(image.data))).toBe(true);
    expect(Buffer.from(await encodePng(image)).equals(Buffer.from(png))).toBe(true);
  });
});
