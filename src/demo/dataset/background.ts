import type { Random } from '../../random.ts';

/** A square RGB picture in working precision: interleaved, row-major, 0 to 255. */
export interface Canvas {
  readonly size: number;
  readonly data: Float32Array;
}

type Colour = readonly [number, number, number];

/** Fills the canvas with one of several kinds of surroundings. Coordinates inside are in [0, 1), so any size looks alike. */
export function paintBackground(canvas: Canvas, random: Random): void {
  const paint = kinds[random.integer(kinds.length)]!;
  paint(canvas, random);
  if (random.chance(0.5)) grain(canvas, random, random.uniform(5, 20));
}

const kinds: readonly ((canvas: Canvas, random: Random) => void)[] = [gradient, stripes, checks, clouds, clouds, bokeh, bokeh, landscape];

/** Any hue, from grey to strong, from dark to light. */
function colour(random: Random): Colour {
  const hue = random.uniform(0, 6), saturation = random.uniform(0, 0.65), value = random.uniform(0.15, 1);
  const channel = (offset: number): number => {
    const k = (offset + hue) % 6;
    return 255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

/** A colour in the neighbourhood of another one. */
function near(other: Colour, random: Random, spread: number): Colour {
  const shift = random.normal() * spread;
  const channel = (v: number): number => Math.max(0, Math.min(255, v + shift + random.normal() * spread * 0.5));
  return [channel(other[0]), channel(other[1]), channel(other[2])];
}

/** Sets every pixel to the mix of two colours given by `share` in [0, 1]. */
function fill({ size, data }: Canvas, a: Colour, b: Colour, share: (x: number, y: number) => number): void {
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++, i += 3) {
      const t = share(x / size, y / size);
      data[i] = a[0] + (b[0] - a[0]) * t; data[i + 1] = a[1] + (b[1] - a[1]) * t; data[i + 2] = a[2] + (b[2] - a[2]) * t;
    }
  }
}

const clamp01 = (v: number): number => (v < 0 ? 0 : v > 1 ? 1 : v);

function gradient(canvas: Canvas, random: Random): void {
  const a = colour(random), b = colour(random);
  if (random.chance(0.4)) {
    const cx = random.uniform(), cy = random.uniform(), reach = random.uniform(0.5, 1.2);
    fill(canvas, a, b, (x, y) => clamp01(Math.hypot(x - cx, y - cy) / reach));
  } else {
    const angle = random.uniform(0, 2 * Math.PI), dx = Math.cos(angle), dy = Math.sin(angle);
    fill(canvas, a, b, (x, y) => clamp01((x - 0.5) * dx + (y - 0.5) * dy + 0.5));
  }
}

function stripes(canvas: Canvas, random: Random): void {
  const a = colour(random), b = random.chance(0.3) ? colour(random) : near(a, random, 35);
  const angle = random.uniform(0, Math.PI), dx = Math.cos(angle), dy = Math.sin(angle);
  const frequency = random.uniform(2, 9) * 2 * Math.PI, phase = random.uniform(0, 2 * Math.PI);
  const sharpness = random.uniform(0.6, 6), wave = random.chance(0.4) ? random.uniform(0.02, 0.08) : 0, ripple = random.uniform(4, 14);
  fill(canvas, a, b, (x, y) => {
    const along = x * dx + y * dy, across = y * dx - x * dy;
    return clamp01(0.5 + sharpness * 0.5 * Math.sin((along + wave * Math.sin(across * ripple)) * frequency + phase));
  });
}

function checks(canvas: Canvas, random: Random): void {
  const a = colour(random), b = random.chance(0.3) ? colour(random) : near(a, random, 35);
  const angle = random.uniform(0, Math.PI / 2), dx = Math.cos(angle), dy = Math.sin(angle), scale = random.uniform(2, 7), dots = random.chance(0.5);
  const radius = random.uniform(0.25, 0.45);
  fill(canvas, a, b, (x, y) => {
    const u = (x * dx + y * dy + 2) * scale, v = (y * dx - x * dy + 2) * scale;
    if (dots) return Math.hypot(u % 1 - 0.5, v % 1 - 0.5) < radius ? 1 : 0;
    return (Math.floor(u) + Math.floor(v)) & 1;
  });
}

/** Smooth noise in [0, 1): random values on a grid, smoothly interpolated, with finer grids added. */
function noise(random: Random, cells: number, octaves: number): (x: number, y: number) => number {
  const layers = Array.from({ length: octaves }, (_, octave) => {
    const n = cells << octave;
    return { n, weight: 0.55 ** octave, values: Float32Array.from({ length: (n + 1) * (n + 1) }, () => random.uniform()) };
  });
  const total = layers.reduce((sum, layer) => sum + layer.weight, 0);
  return (x, y) => {
    let sum = 0;
    for (const { n, weight, values } of layers) {
      const u = x * n, v = y * n, i = Math.floor(u), j = Math.floor(v);
      let s = u - i, t = v - j;
      s = s * s * (3 - 2 * s); t = t * t * (3 - 2 * t);
      const k = j * (n + 1) + i;
      const top = values[k]! + (values[k + 1]! - values[k]!) * s;
      const bottom = values[k + n + 1]! + (values[k + n + 2]! - values[k + n + 1]!) * s;
      sum += weight * (top + (bottom - top) * t);
    }
    return sum / total;
  };
}

function clouds(canvas: Canvas, random: Random): void {
  const a = colour(random), b = random.chance(0.4) ? colour(random) : near(a, random, 45);
  const field = noise(random, 2 + random.integer(5), 1 + random.integer(3)), contrast = random.uniform(1, 4);
  fill(canvas, a, b, (x, y) => clamp01((field(x, y) - 0.5) * contrast + 0.5));
}

/** Soft discs over a gradient, as out-of-focus surroundings look in a photograph. */
function bokeh(canvas: Canvas, random: Random): void {
  gradient(canvas, random);
  const count = 5 + random.integer(10);
  for (let i = 0; i < count; i++) softEllipse(canvas, random, colour(random), random.uniform(0.05, 0.35), random.uniform(0.3, 0.95));
}

function landscape(canvas: Canvas, random: Random): void {
  const sky = colour(random), haze = near(sky, random, 40), ground = colour(random), soil = near(ground, random, 35);
  const horizon = random.uniform(0.3, 0.75), hills = noise(random, 2 + random.integer(3), 2), height = random.uniform(0, 0.35), texture = noise(random, 6, 2);
  fill(canvas, sky, haze, (_, y) => clamp01(y / horizon));
  const { size, data } = canvas;
  for (let x = 0; x < size; x++) {
    const edge = horizon + (hills(x / size, 0.5) - 0.5) * height;
    for (let y = Math.max(0, Math.floor(edge * size)); y < size; y++) {
      const t = texture(x / size, y / size), i = (y * size + x) * 3;
      for (let c = 0; c < 3; c++) data[i + c] = ground[c]! + (soil[c]! - ground[c]!) * t;
    }
  }
  for (let i = random.integer(4); i > 0; i--) softEllipse(canvas, random, colour(random), random.uniform(0.05, 0.2), 0.8);
}

function softEllipse({ size, data }: Canvas, random: Random, paint: Colour, radius: number, opacity: number): void {
  const cx = random.uniform() * size, cy = random.uniform() * size, ratio = random.uniform(0.5, 1), angle = random.uniform(0, Math.PI);
  const dx = Math.cos(angle), dy = Math.sin(angle), r = radius * size, softness = random.uniform(0.1, 0.7);
  const x0 = Math.max(0, Math.floor(cx - r)), x1 = Math.min(size - 1, Math.ceil(cx + r));
  const y0 = Math.max(0, Math.floor(cy - r)), y1 = Math.min(size - 1, Math.ceil(cy + r));
  for (let y = y0; y <= y1; y++) {
    for (let x = x0; x <= x1; x++) {
      const u = ((x - cx) * dx + (y - cy) * dy) / r, v = ((y - cy) * dx - (x - cx) * dy) / (r * ratio);
      const alpha = opacity * clamp01((1 - Math.sqrt(u * u + v * v)) / softness);
      if (alpha <= 0) continue;
      const i = (y * size + x) * 3;
      for (let c = 0; c < 3; c++) data[i + c] = data[i + c]! + (paint[c]! - data[i + c]!) * alpha;
    }
  }
}

/** Lightness varies from place to place. */
function grain({ size, data }: Canvas, random: Random, strength: number): void {
  const field = noise(random, 8 << random.integer(3), 1);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++, i += 3) {
      const shift = (field(x / size, y / size) - 0.5) * 2 * strength;
      data[i] = data[i]! + shift; data[i + 1] = data[i + 1]! + shift; data[i + 2] = data[i + 2]! + shift;
    }
  }
}
