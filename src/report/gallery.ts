import sharp from 'sharp';
import { centreCrop, decodeImage, encodePng, toPixels, type Image } from '../dataset/image.ts';
import { readSamples } from '../dataset/samples.ts';
import { openEncoder } from '../foreground/encoder.ts';
import { pairQuality } from '../foreground/quality.ts';
import type { AnalyzedImage, DatasetSummary, ForegroundModel, ResolvedRun, RunPlan, SampleMetadata } from '../stages/contract.ts';
import { shardName } from '../stages/shards.ts';
import { readLines } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import type { GalleryPair } from './data.ts';

/** Shards that the gallery is taken from, spread over the dataset. */
const galleryShards = 8;

interface Found { readonly metadata: SampleMetadata; readonly proportion: number; readonly map: readonly number[]; readonly original: Image; readonly view: Image }

/**
 * At most `pairs` pairs, spread over shards and noise levels: those images for which AnalyzeForeground kept its map.
 * Pictures are at most 128 pixels wide.
 */
export async function collectGallery(store: ObjectStore, run: ResolvedRun, plan: RunPlan, dataset: DatasetSummary, model: ForegroundModel, threads: number, pairs = 24): Promise<GalleryPair[]> {
  const step = Math.max(1, plan.shards / galleryShards);
  const shards = Array.from({ length: Math.min(galleryShards, plan.shards) }, (_, i) => Math.floor(i * step));
  const found: Found[] = [];
  for (const shard of shards) found.push(...await fromShard(store, plan, shard));
  // Round robin over the noise levels, so that rare levels are seen.
  const levels = new Map<number, Found[]>();
  for (const item of found) {
    const level = item.metadata.noiseLevel ?? 0;
    levels.set(level, [...levels.get(level) ?? [], item]);
  }
  const byLevel = [...levels].sort(([a], [b]) => a - b).map(([, items]) => spread(items, pairs));
  const chosen: Found[] = [];
  for (let round = 0; chosen.length < pairs && byLevel.some((items) => items.length > round); round++) {
    for (const items of byLevel) if (items[round] && chosen.length < pairs) chosen.push(items[round]!);
  }
  chosen.sort((a, b) => a.metadata.index - b.metadata.index);
  if (chosen.length === 0) return [];

  const quality = await qualities(chosen, run, model, threads);
  return Promise.all(chosen.map(async ({ metadata, proportion, map, original, view }, i) => ({
    path: metadata.path, className: dataset.classes[metadata.label] ?? '', foregroundProportion: proportion, noiseLevel: metadata.noiseLevel ?? 0, quality: quality[i]!,
    original: await small(original), view: await small(view), map: await mapPicture(map, model.grid),
  })));
}

/** Every item once, those far apart first. */
function spread<T>(items: readonly T[], wanted: number): T[] {
  const stride = Math.max(1, Math.floor(items.length / wanted));
  return [...items.filter((_, i) => i % stride === 0), ...items.filter((_, i) => i % stride !== 0)];
}

async function fromShard(store: ObjectStore, plan: RunPlan, shard: number): Promise<Found[]> {
  const name = shardName(shard, plan);
  const mapped = new Map<string, AnalyzedImage & { status: 'used' }>();
  for await (const image of readLines<AnalyzedImage>(store, `${plan.analysis}shard-${name}.jsonl`)) {
    if (image.status === 'used' && image.map) mapped.set(String(image.index).padStart(9, '0'), image);
  }
  const found: Found[] = [];
  if (mapped.size === 0) return found;
  for await (const { key, files } of readSamples(store, `${plan.views}shard-${name}.tar`)) {
    const image = mapped.get(key), view = files['view0.png'];
    const original = Object.entries(files).find(([extension]) => extension.startsWith('orig.'))?.[1];
    if (image && view && original) {
      const metadata = JSON.parse(Buffer.from(files['json']!).toString('utf8')) as SampleMetadata;
      found.push({ metadata, proportion: image.foregroundProportion!, map: image.map!, original: await decodeImage(original), view: await decodeImage(view) });
    }
    mapped.delete(key);
    if (mapped.size === 0) break;
  }
  return found;
}

async function qualities(chosen: readonly Found[], run: ResolvedRun, model: ForegroundModel, threads: number): Promise<Float32Array> {
  const recipe = run.recipe.foreground.encoder;
  const encoder = await openEncoder(recipe, { threads });
  try {
    const tokensOf = async (images: readonly Image[]) => (await encoder.encode(toPixels(await Promise.all(images.map((image) => centreCrop(image, recipe.imageSize)))))).tokens;
    const [originals, views] = [await tokensOf(chosen.map((c) => c.original)), await tokensOf(chosen.map((c) => c.view))];
    return pairQuality(originals, views, model.vector, { normalizeTokens: model.normalizeTokens });
  } finally { await encoder.dispose(); }
}

async function small(image: Image): Promise<Uint8Array> {
  const limit = 128;
  if (Math.max(image.width, image.height) <= limit) return encodePng(image);
  return sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } }).resize(limit, limit, { fit: 'inside' }).png().toBuffer();
}

/** Dark blue (background) over white to dark orange (foreground), one pixel a token. */
async function mapPicture(map: readonly number[], [rows, columns]: readonly [number, number]): Promise<Uint8Array> {
  const low = [0, 60, 120], middle = [245, 245, 245], high = [200, 80, 0];
  const data = new Uint8Array(rows * columns * 3);
  for (const [i, value] of map.entries()) {
    const [from, to, t] = value < 128 ? [low, middle, value / 128] : [middle, high, (value - 128) / 127];
    for (let c = 0; c < 3; c++) data[3 * i + c] = Math.round(from[c]! + (to[c]! - from[c]!) * t);
  }
  return encodePng({ width: columns, height: rows, data });
}
