import type { Image } from '../../dataset/image.ts';
import { Random } from '../../random.ts';
import type { Artwork, DemoArtwork } from './artwork.ts';
import { paintBackground, type Canvas } from './background.ts';

/** Side of an image of the demo data set in pixels. */
export const demoImageSize = 32;

/** Changes whenever the same keys would give other pixels. */
export const rendererVersion = 2;

/** Images are drawn this many times larger and averaged down. */
const supersampling = 4;
const canvasSize = demoImageSize * supersampling;

/** One rendered image and the truth about it. */
export interface DemoImage {
  /** 32 x 32 RGB. */
  readonly image: Image;
  /** Coverage of each pixel by the object, [32 x 32] row-major, 0 (background) to 255. */
  readonly mask: Uint8Array;
  /** Index into `demoClassNames`. */
  readonly label: number;
}

/** How a picture is placed: from canvas coordinates to its own. */
interface Placement {
  readonly centreX: number;
  readonly centreY: number;
  /** Canvas pixels per pixel of the finest level, before `stretch`. */
  readonly scale: number;
  /** Width over height of a square. */
  readonly stretch: number;
  /** Radians. */
  readonly angle: number;
  readonly flip: boolean;
  readonly opacity: number;
  /** Levels coarser than needed: 0 sharp, 1 and 2 soft. */
  readonly blur: number;
  /** Row-major 3 x 3 applied to the colour. */
  readonly colour: readonly number[];
}

/**
 * Draws one image: surroundings, fragments of things of no class, then one object of a class on top. The same keys
 * give the same image on one machine, whatever was drawn before.
 * @param keys of the image's random stream, for example `seed, 'train', 17`
 * @param label class index. @default a random class
 * @param picture index into the pictures of the class. @default a random one
 */
export function renderDemoImage(artwork: DemoArtwork, keys: readonly (string | number)[], label?: number, picture?: number): DemoImage {
  const random = new Random(...keys, 'demo image');
  const chosen = label ?? random.integer(artwork.classes.length);
  const pictures = artwork.classes[chosen];
  if (!pictures) throw new RangeError(`class ${chosen} is not one of 0 to ${artwork.classes.length - 1}`);
  const canvas: Canvas = { size: canvasSize, data: new Float32Array(canvasSize * canvasSize * 3) };
  paintBackground(canvas, random);
  for (let i = random.integer(4); i > 0; i--) {
    draw(canvas, pick(artwork.distractors, random), distractorPlacement(random));
  }
  const object = picture === undefined ? pick(pictures, random) : pictures[picture];
  if (!object) throw new RangeError(`picture ${picture} of class ${chosen} is not one of 0 to ${pictures.length - 1}`);
  const coverage = new Float32Array(canvasSize * canvasSize);
  draw(canvas, object, objectPlacement(object, random), coverage);
  return { image: reduce(canvas, random), mask: reduceMask(coverage), label: chosen };
}

function pick<T>(items: readonly T[], random: Random): T {
  return items[random.integer(items.length)]!;
}

function objectPlacement(object: Artwork, random: Random): Placement {
  const angle = random.uniform(-1, 1) * 35 * Math.PI / 180, stretch = Math.exp(random.uniform(-0.13, 0.13));
  // Asked for: a share of the image between 9 % and 80 %. A long object cannot fill that much and is held at the edges.
  const share = random.uniform(0.09, 0.8);
  const { width, height } = object.levels[0]!;
  const extent = (across: number, along: number): number => Math.abs(Math.cos(angle)) * across + Math.abs(Math.sin(angle)) * along;
  const w = width * Math.sqrt(stretch), h = height / Math.sqrt(stretch);
  const largest = 1.1 * canvasSize / Math.max(extent(w, h), extent(h, w));
  const scale = Math.min(largest, Math.sqrt(share * canvasSize * canvasSize / object.area));
  // A twentieth of the object may lie outside on one side.
  const place = (size: number): number => {
    const margin = size * scale * 0.45;
    return margin >= canvasSize / 2 ? canvasSize / 2 + random.uniform(-0.04, 0.04) * canvasSize : random.uniform(margin, canvasSize - margin);
  };
  return {
    centreX: place(extent(w, h)), centreY: place(extent(h, w)), scale, stretch, angle,
    flip: random.chance(0.5), opacity: 1, blur: 0,
    colour: colourChange(random.uniform(-15, 15), random.uniform(0.8, 1.25), random.uniform(0.8, 1.15)),
  };
}

function distractorPlacement(random: Random): Placement {
  return {
    centreX: random.uniform(-0.1, 1.1) * canvasSize, centreY: random.uniform(-0.1, 1.1) * canvasSize,
    scale: random.uniform(0.1, 0.45), stretch: 1, angle: random.uniform(-Math.PI, Math.PI), flip: random.chance(0.5),
    opacity: random.uniform(0.3, 0.9), blur: random.uniform(0.5, 2.5),
    colour: colourChange(random.uniform(-60, 60), random.uniform(0.2, 0.9), random.uniform(0.6, 1.1)),
  };
}

/** Turns the hue by `degrees`, then scales saturation and brightness (the matrices of the SVG filter feColorMatrix). */
function colourChange(degrees: number, saturation: number, brightness: number): number[] {
  const c = Math.cos(degrees * Math.PI / 180), s = Math.sin(degrees * Math.PI / 180);
  const hue = [
    0.213 + c * 0.787 - s * 0.213, 0.715 - c * 0.715 - s * 0.715, 0.072 - c * 0.072 + s * 0.928,
    0.213 - c * 0.213 + s * 0.143, 0.715 + c * 0.285 + s * 0.140, 0.072 - c * 0.072 - s * 0.283,
    0.213 - c * 0.213 - s * 0.787, 0.715 - c * 0.715 + s * 0.715, 0.072 + c * 0.928 + s * 0.072,
  ];
  const luma = [0.213, 0.715, 0.072];
  // Saturation mixes each row with the luma row; every row of both matrices keeps grey.
  return hue.map((value, i) => brightness * (saturation * value + (1 - saturation) * luma[i % 3]!));
}

/** Lays a picture over the canvas; `coverage` receives its alpha. Bilinear from the level nearest in size. */
function draw(canvas: Canvas, artwork: Artwork, placement: Placement, coverage?: Float32Array): void {
  const finest = artwork.levels[0]!;
  const wanted = Math.max(0, Math.log2(1 / placement.scale)) + placement.blur;
  const index = Math.min(artwork.levels.length - 1, Math.round(wanted));
  const level = artwork.levels[index]!;
  const toLevelX = level.width / finest.width, toLevelY = level.height / finest.height;
  const cos = Math.cos(placement.angle), sin = Math.sin(placement.angle);
  const inverseX = (placement.flip ? -1 : 1) / (placement.scale * Math.sqrt(placement.stretch)), inverseY = Math.sqrt(placement.stretch) / placement.scale;
  const reach = Math.hypot(finest.width, finest.height) / 2 * placement.scale * 1.2 + 2;
  const { size, data } = canvas, source = level.data;
  const x0 = Math.max(0, Math.floor(placement.centreX - reach)), x1 = Math.min(size - 1, Math.ceil(placement.centreX + reach));
  const y0 = Math.max(0, Math.floor(placement.centreY - reach)), y1 = Math.min(size - 1, Math.ceil(placement.centreY + reach));
  const [m0, m1, m2, m3, m4, m5, m6, m7, m8] = placement.colour as [number, number, number, number, number, number, number, number, number];
  for (let y = y0; y <= y1; y++) {
    for (let x = x0; x <= x1; x++) {
      const dx = x + 0.5 - placement.centreX, dy = y + 0.5 - placement.centreY;
      const u = ((dx * cos + dy * sin) * inverseX + finest.width / 2) * toLevelX - 0.5;
      const v = ((dy * cos - dx * sin) * inverseY + finest.height / 2) * toLevelY - 0.5;
      if (u <= -1 || v <= -1 || u >= level.width || v >= level.height) continue;
      const i = Math.floor(u), j = Math.floor(v), s = u - i, t = v - j;
      let red = 0, green = 0, blue = 0, alpha = 0;
      // Outside the picture everything is transparent.
      for (let corner = 0; corner < 4; corner++) {
        const ci = i + (corner & 1), cj = j + (corner >> 1);
        if (ci < 0 || cj < 0 || ci >= level.width || cj >= level.height) continue;
        const weight = ((corner & 1) ? s : 1 - s) * ((corner >> 1) ? t : 1 - t), k = (cj * level.width + ci) * 4;
        red += weight * source[k]!; green += weight * source[k + 1]!; blue += weight * source[k + 2]!; alpha += weight * source[k + 3]!;
      }
      if (alpha <= 0) continue;
      const share = alpha / 255 * placement.opacity, keep = 1 - share, o = placement.opacity, p = (y * size + x) * 3;
      data[p] = data[p]! * keep + o * limit(m0 * red + m1 * green + m2 * blue, alpha);
      data[p + 1] = data[p + 1]! * keep + o * limit(m3 * red + m4 * green + m5 * blue, alpha);
      data[p + 2] = data[p + 2]! * keep + o * limit(m6 * red + m7 * green + m8 * blue, alpha);
      if (coverage) coverage[y * size + x] = share;
    }
  }
}

/** A colour multiplied by alpha lies between 0 and alpha. */
function limit(value: number, alpha: number): number {
  return value < 0 ? 0 : value > alpha ? alpha : value;
}

/** Averages blocks of the canvas, adds a little sensor noise. */
function reduce(canvas: Canvas, random: Random): Image {
  const data = new Uint8Array(demoImageSize * demoImageSize * 3);
  const sensor = random.chance(0.5) ? random.uniform(0, 4) : 0;
  for (let y = 0, o = 0; y < demoImageSize; y++) {
    for (let x = 0; x < demoImageSize; x++) {
      for (let c = 0; c < 3; c++, o++) {
        let sum = 0;
        for (let v = 0; v < supersampling; v++) {
          for (let u = 0; u < supersampling; u++) sum += canvas.data[((y * supersampling + v) * canvasSize + x * supersampling + u) * 3 + c]!;
        }
        const value = sum / (supersampling * supersampling) + (sensor > 0 ? sensor * random.normal() : 0);
        data[o] = Math.round(Math.max(0, Math.min(255, value)));
      }
    }
  }
  return { width: demoImageSize, height: demoImageSize, data };
}

function reduceMask(coverage: Float32Array): Uint8Array {
  const mask = new Uint8Array(demoImageSize * demoImageSize);
  for (let y = 0, o = 0; y < demoImageSize; y++) {
    for (let x = 0; x < demoImageSize; x++, o++) {
      let sum = 0;
      for (let v = 0; v < supersampling; v++) {
        for (let u = 0; u < supersampling; u++) sum += coverage[(y * supersampling + v) * canvasSize + x * supersampling + u]!;
      }
      mask[o] = Math.round(255 * sum / (supersampling * supersampling));
    }
  }
  return mask;
}
