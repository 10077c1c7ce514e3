import sharp from 'sharp';
import { Random } from '../../../src/random.ts';

/** PNG of 32 x 32 pixels: a square of 14 pixels in one of the colours red, green and blue, somewhere on noise. The arguments are its seed. */
export async function colouredSquare(channel: number, split: string, name: string, index: number): Promise<Buffer> {
  const random = new Random(split, name, index), data = Buffer.alloc(32 * 32 * 3), left = random.integer(16), top = random.integer(16);
  for (let y = 0; y < 32; y++) for (let x = 0; x < 32; x++) for (let c = 0; c < 3; c++) {
    const inside = x >= left && x < left + 14 && y >= top && y < top + 14;
    data[3 * (32 * y + x) + c] = inside ? (c === channel ? 230 : 30) : 90 + random.integer(60);
  }
  return sharp(data, { raw: { width: 32, height: 32, channels: 3 } }).png().toBuffer();
}
