import { centreCrop, decodeImage, encodePng, toPixels, type Image } from '../dataset/image.ts';
import { readSamples, type Sample } from '../dataset/samples.ts';
import { evenly } from '../evenly.ts';
import { openEncoder } from '../foreground/encoder.ts';
import { pairQuality } from '../foreground/quality.ts';
import type { AnalyzedImage, DatasetSummary, ForegroundModel, PlannedImage, ResolvedRun, RunPlan } from '../stages/contract.ts';
import { shardName } from '../stages/shards.ts';
import { readLines } from '../storage/index.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import type { GalleryPair, Picture } from './data.ts';

/** Shards that the gallery is taken from. */
const galleryShards = 8;
/** Side of the pictures in pixels, where the image is not smaller. */
const pictureSide = 128;

/** An image whose map AnalyzeForeground kept. */
interface Candidate {
  readonly shard: number;
  readonly index: number;
  readonly path: string;
  readonly label: number;
  readonly foregroundProportion: number;
  readonly noiseLevel: number;
  readonly map: readonly number[];
}

/** A pair as the page shows it and as the encoder takes it. */
interface Shown extends Candidate { readonly pictures: readonly [original: Picture, view: Picture]; readonly inputs: readonly [original: Image, view: Image] }

/**
 * At most `pairs` pairs, evenly over the noise levels and, within a level, over the dataset; ordered by level and foreground
 * proportion. Shards without views yet are passed over.
 */
export async function collectGallery(store: ObjectStore, run: ResolvedRun, plan: RunPlan, dataset: DatasetSummary, model: ForegroundModel, threads: number, pairs = 24): Promise<GalleryPair[]> {
  const candidates: Candidate[] = [];
  for (const shard of evenly([...Array(plan.shards).keys()], galleryShards)) {
    if (await store.head(`${plan.views}shard-${shardName(shard, plan)}.tar`)) candidates.push(...await candidatesOf(store, plan, shard));
  }
  const chosen = chooseEvenly(candidates, pairs);
  const shown = new Map<number, Shown>();
  for (const shard of new Set(chosen.map((candidate) => candidate.shard))) {
    for (const item of await readPairs(store, plan, shard, chosen, run.recipe.foreground.encoder.imageSize)) shown.set(item.index, item);
  }
  const ordered = chosen.flatMap(({ index }) => shown.get(index) ?? []);
  if (ordered.length === 0) return [];
  const quality = await qualities(ordered, run, model, threads);
  return Promise.all(ordered.map(async ({ path, label, foregroundProportion, noiseLevel, map, pictures: [original, view] }, i) => ({
    path, className: dataset.classes[label] ?? '', foregroundProportion, noiseLevel, quality: quality[i]!,
    original, view, map: { png: await encodePng(mapImage(map, model.grid)), side: Math.max(...model.grid) },
  })));
}

async function candidatesOf(store: ObjectStore, plan: RunPlan, shard: number): Promise<Candidate[]> {
  const name = shardName(shard, plan);
  const levels = new Map<number, number>();
  for await (const { index, noiseLevel } of readLines<PlannedImage>(store, `${plan.views}manifest-${name}.jsonl`)) {
    if (noiseLevel !== undefined) levels.set(index, noiseLevel);
  }
  const candidates: Candidate[] = [];
  for await (const image of readLines<AnalyzedImage>(store, `${plan.analysis}shard-${name}.jsonl`)) {
    if (image.status !== 'used' || !image.map || image.foregroundProportion === undefined) continue;
    const { index, path, label, foregroundProportion, map } = image, noiseLevel = levels.get(index);
    if (noiseLevel !== undefined) candidates.push({ shard, index, path, label, foregroundProportion, noiseLevel, map });
  }
  return candidates;
}

/** As many of each noise level as there are of the others, where it has so many, and those far apart in the dataset. */
export function chooseEvenly<T extends { readonly index: number; readonly noiseLevel: number; readonly foregroundProportion: number }>(candidates: readonly T[], wanted: number): T[] {
  const levels = new Map<number, T[]>();
  for (const candidate of candidates) levels.set(candidate.noiseLevel, [...levels.get(candidate.noiseLevel) ?? [], candidate]);
  const chosen: T[] = [];
  // The rarest levels first: what they cannot fill is shared by the others.
  for (const [i, members] of [...levels.values()].toSorted((a, b) => a.length - b.length).entries()) {
    const share = Math.ceil((wanted - chosen.length) / (levels.size - i));
    chosen.push(...evenly(members.toSorted((a, b) => a.index - b.index), share));
  }
  return chosen.toSorted((a, b) => a.noiseLevel - b.noiseLevel || a.foregroundProportion - b.foregroundProportion || a.index - b.index);
}

/** The chosen pairs of one shard. Of an original, which may be large, only its crops stay in memory. */
async function readPairs(store: ObjectStore, plan: RunPlan, shard: number, chosen: readonly Candidate[], inputSide: number): Promise<Shown[]> {
  const wanted = new Map(chosen.filter((candidate) => candidate.shard === shard).map((candidate) => [String(candidate.index).padStart(9, '0'), candidate]));
  const shown: Shown[] = [];
  for await (const sample of readSamples(store, `${plan.views}shard-${shardName(shard, plan)}.tar`)) {
    const candidate = wanted.get(sample.key);
    if (!candidate) continue;
    wanted.delete(sample.key);
    const { original, view } = filesOf(sample);
    if (original && view) {
      const images = [await decodeImage(original), await decodeImage(view)] as const;
      shown.push({
        ...candidate,
        pictures: [await picture(images[0]), await picture(images[1])],
        inputs: [await centreCrop(images[0], inputSide), await centreCrop(images[1], inputSide)],
      });
    }
    if (wanted.size === 0) break;
  }
  return shown;
}

function filesOf({ files }: Sample): { original?: Uint8Array | undefined; view?: Uint8Array | undefined } {
  return { original: Object.entries(files).find(([name]) => name.startsWith('orig.'))?.[1], view: files['view0.png'] };
}

async function qualities(pairs: readonly Shown[], run: ResolvedRun, model: ForegroundModel, threads: number): Promise<Float32Array> {
  const encoder = await openEncoder(run.recipe.foreground.encoder, { threads, batch: run.recipe.foreground.batch });
  try {
    const originals = await encoder.encode(toPixels(pairs.map(({ inputs }) => inputs[0]))), views = await encoder.encode(toPixels(pairs.map(({ inputs }) => inputs[1])));
    return pairQuality(originals.tokens, views.tokens, model.vector, { normalizeTokens: model.normalizeTokens });
  } finally { await encoder.dispose(); }
}

async function picture(image: Image): Promise<Picture> {
  const side = Math.min(pictureSide, image.width, image.height);
  return { png: await encodePng(await centreCrop(image, side)), side };
}

/** Anchors of the colour map viridis (matplotlib), even steps from background to foreground. */
export const mapColours = ['#440154', '#482878', '#3e4989', '#31688e', '#26828e', '#1f9e89', '#35b779', '#6ece58', '#b5de2b', '#fde725'] as const;

/** @param map row-major, 0-255 */
export function mapImage(map: readonly number[], [rows, columns]: readonly [number, number]): Image {
  const anchors = mapColours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  const data = new Uint8Array(rows * columns * 3);
  for (const [i, value] of map.entries()) {
    const place = value / 255 * (anchors.length - 1), below = Math.min(Math.floor(place), anchors.length - 2), t = place - below;
    for (let c = 0; c < 3; c++) data[3 * i + c] = Math.round(anchors[below]![c]! * (1 - t) + anchors[below + 1]![c]! * t);
  }
  return { width: columns, height: rows, data };
}
