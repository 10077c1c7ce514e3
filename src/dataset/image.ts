import sharp, { type Metadata } from 'sharp';
import { GenViewError } from '../errors.ts';
import { float32, type HostTensor } from '../tensor.ts';
import { cropAfterResize } from './resample.ts';

export interface Image {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3], row-major, RGB interleaved, 8-bit sRGB. */
  readonly data: Uint8Array;
}

/** Images of more pixels are refused from their header, before anything of that size is allocated. */
const maximumPixels = 100_000_000;

// One thread an image: callers decode several at once. The cache of operations only grows with images seen once.
sharp.concurrency(1);
sharp.cache(false);

/** Warnings (a stray byte, an odd profile) pass, as in other readers; missing or corrupt pixel data does not. */
const options = { failOn: 'error', limitInputPixels: maximumPixels, pages: 1 } as const;

const formats = new Set(['jpeg', 'png', 'webp', 'gif', 'heif', 'tiff']);

/**
 * Decodes JPEG, PNG, WebP, GIF, AVIF or TIFF to 8-bit sRGB: turned upright by its EXIF orientation, transparency on
 * white, greyscale, CMYK and 16 bits a channel converted, the first frame of an animation. The bytes decide the
 * format, not a file's name.
 *
 * Throws `ImageUnreadable` with the reason in a few words.
 */
export async function decodeImage(bytes: Uint8Array): Promise<Image> {
  if (bytes.length === 0) throw unreadable('the file is empty');
  let metadata: Metadata;
  // The header alone is read here, so that the message can name the size.
  try { metadata = await sharp(bytes, { ...options, limitInputPixels: false }).metadata(); } catch (error) { throw unreadable(reason(error, bytes), error); }
  if (!formats.has(metadata.format)) throw unreadable(`${metadata.format} is not a supported image format`);
  const { width, height } = metadata;
  if (width * height > maximumPixels) {
    throw unreadable(`${width} x ${height} pixels are more than the limit of ${maximumPixels / 1e6} megapixels`);
  }
  try {
    const { data, info } = await sharp(bytes, options)
      .autoOrient().flatten({ background: '#ffffff' }).toColourspace('srgb')
      .raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  } catch (error) { throw unreadable(reason(error, bytes), error); }
}

function unreadable(message: string, cause?: unknown): GenViewError {
  return new GenViewError('ImageUnreadable', message, { cause });
}

/**
 * A few words for a person, the same each time. libvips' own message, in the error's cause, is not: its buffer of messages
 * belongs to the whole process, and decoding another image at the same time empties it.
 */
function reason(error: unknown, bytes: Uint8Array): string {
  if (!(error as Error).message.startsWith('Input buffer contains unsupported image format')) return 'the file is truncated or corrupt';
  const head = Buffer.from(bytes.subarray(0, 12));
  if (head.toString('latin1', 0, 2) === 'BM') return 'BMP is not a supported image format; convert it to PNG';
  const text = /^[\t\n\r\x20-\x7e]+$/.test(head.toString('latin1'));
  return `not an image, or of an unknown format: it begins with ${text ? JSON.stringify(head.toString('latin1')) : head.toString('hex')}`;
}

/**
 * The square that the encoder sees (spec §2.1): the shorter edge resized to `size`, bicubic with antialiasing, then the
 * centre cut out; to the bit what torchvision's `Resize` and `CenterCrop` give on a PIL image.
 */
export async function centreCrop(image: Image, size: number): Promise<Image> {
  const { width, height } = image;
  if (width === size && height === size) return image;
  const short = Math.min(width, height);
  const resizedWidth = width === short ? size : Math.trunc(size * width / short);
  const resizedHeight = height === short ? size : Math.trunc(size * height / short);
  return cropAfterResize(image, resizedWidth, resizedHeight, {
    left: roundHalfEven((resizedWidth - size) / 2), top: roundHalfEven((resizedHeight - size) / 2), width: size, height: size,
  });
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + floor % 2 : Math.round(value);
}

/** [n, 3, height, width], RGB in [0, 1]. All images must have the size of the first; none give [0, 3, 0, 0]. */
export function toPixels(images: readonly Image[]): HostTensor<'float32'> {
  const { width = 0, height = 0 } = images[0] ?? {};
  const plane = width * height;
  const pixels = new Float32Array(images.length * 3 * plane);
  images.forEach((image, n) => {
    if (image.width !== width || image.height !== height) {
      throw new RangeError(`images of ${width} x ${height} and of ${image.width} x ${image.height} do not make one batch`);
    }
    for (let channel = 0; channel < 3; channel++) {
      const start = (n * 3 + channel) * plane;
      for (let i = 0; i < plane; i++) pixels[start + i] = image.data[3 * i + channel]! / 255;
    }
  });
  return float32(pixels, [images.length, 3, height, width]);
}

/** Lossless RGB PNG; the same pixels give the same bytes. */
export async function encodePng(image: Image): Promise<Uint8Array> {
  const { width, height, data } = image;
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 6, adaptiveFiltering: true, palette: false }).toBuffer();
}
