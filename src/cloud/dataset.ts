import { createHash } from 'node:crypto';
import { lineInvalid, type ListFile, openListFile, readListLines } from '../dataset/list/listFile.ts';
import { addToFacts, datasetEmpty, decideLayout, kindOf, listEmpty, type FolderFacts } from '../dataset/layout.ts';
import type { DatasetSize } from '../estimate/work.ts';
import type { Log } from '../log.ts';
import { contentHash } from '../stages/artefacts.ts';
import type { ObjectStore } from '../storage/objectStore.ts';
import { mapLimited } from './clients.ts';

/** A dataset as a listing shows it. */
export interface ListedDataset extends DatasetSize {
  /** 8 hexadecimal digits that change with the name, the size or the content of any image. */
  readonly content: string;
}

/** The embedded dataset: 24 classes with 100 images to train on and 25 to validate, rendered in the store. */
export const demoDataset: ListedDataset = { train: 2400, val: 600, bytes: 3000 * 2500, content: contentHash('builtin:demo').slice(0, 8) };

/** Lists a dataset and counts its images by split, as ShardDataset will; bytes are those of the images. Throws `DatasetEmpty`. */
export async function listDataset(store: ObjectStore, validationFraction: number, context: { readonly log: Log; readonly signal: AbortSignal }): Promise<ListedDataset> {
  const facts: FolderFacts = { root: 0, tops: new Map() };
  const hash = createHash('sha256');
  let bytes = 0, images = 0, others = 0, reported = Date.now();
  for await (const { key, size, etag } of store.list('')) {
    context.signal.throwIfAborted();
    if (kindOf(key) !== 'image') { others += 1; continue; }
    addToFacts(facts, key);
    hash.update(`${key}\0${size}\0${etag}\n`);
    bytes += size;
    images += 1;
    if (Date.now() - reported > 5000) { reported = Date.now(); context.log.info(`listing ${store.root}: ${images.toLocaleString('en')} images so far`); }
  }
  if (images === 0) throw datasetEmpty(store.root, others);
  return { ...splitsOf(facts, validationFraction), bytes, content: hash.digest('hex').slice(0, 8) };
}

/** Bytes of an image where a list does not tell: about those of a photograph of ImageNet. */
const assumedBytes = 110_000;

/** Reads a dataset that is given as a list and counts its images by split, as ShardDataset will. Throws `DatasetEmpty`, `ListInvalid`. */
export async function readDatasetList(url: string, root: string, validationFraction: number, context: { readonly log: Log; readonly signal: AbortSignal }): Promise<ListedDataset> {
  const list = await openListFile(url, root), facts: FolderFacts = { root: 0, tops: new Map() }, given = { train: 0, val: 0 };
  let bytes = 0, images = 0, others = 0, labelled = 0, reported = Date.now();
  for (const file of list.files.keys()) {
    let line = 0;
    for await (const lines of readListLines(list, file)) {
      context.signal.throwIfAborted();
      for (const text of lines) {
        line += 1;
        const entry = parsed(list, file, line, text);
        if (entry === undefined || entry === 'other') { others += 1; continue; }
        addToFacts(facts, entry.path);
        if (entry.split !== undefined) given[entry.split] += 1;
        if (entry.label !== undefined) labelled += 1;
        bytes += entry.bytes ?? assumedBytes;
        images += 1;
      }
      if (Date.now() - reported > 5000) { reported = Date.now(); context.log.info(`reading ${url}: ${images.toLocaleString('en')} images so far`); }
    }
  }
  if (images === 0) throw listEmpty(url, root, others);
  // With labels every image has a place, in whatever folder it lies.
  const share = Math.round(images * validationFraction), flat = { train: images - share, val: share };
  const splits = given.train + given.val === images ? given : labelled === images ? flat : splitsOf(facts, validationFraction);
  return { ...splits, bytes, content: contentHash({ list: list.version, root }).slice(0, 8) };
}

function parsed(list: ListFile, file: number, line: number, text: string): ReturnType<ListFile['parse']> {
  try { return list.parse(text); } catch (error) { throw lineInvalid(list, file, line, (error as Error).message); }
}

function splitsOf(facts: FolderFacts, validationFraction: number): { train: number; val: number } {
  const { images } = decideLayout(facts, validationFraction);
  const train = facts.tops.get('train');
  const validation = ['val', 'validation', 'test'].map((name) => facts.tops.get(name)).find((folder) => folder !== undefined);
  if (train === undefined || validation === undefined) {
    const val = Math.round(images * validationFraction);
    return { train: images - val, val };
  }
  const val = train.nested > 0 ? validation.nested : validation.direct + validation.nested;
  return { train: images - val, val };
}

/**
 * Copies every file of a folder into the store that is not there yet with the same bytes; call it again after an interruption.
 * @returns files copied and files that were there
 */
export async function uploadFolder(from: ObjectStore, to: ObjectStore, { log, signal }: { readonly log: Log; readonly signal: AbortSignal }): Promise<{ readonly copied: number; readonly present: number }> {
  const there = new Map<string, { size: number; etag: string }>();
  for await (const { key, size, etag } of to.list('')) there.set(key, { size, etag });
  const files: { key: string; size: number }[] = [];
  for await (const { key, size } of from.list('')) files.push({ key, size });
  const progress = log.progress(`uploading to ${to.root}`, files.length, 'files');
  let copied = 0;
  await mapLimited(files, 16, async ({ key, size }) => {
    signal.throwIfAborted();
    const known = there.get(key);
    const bytes = await from.get(key);
    // S3's etag is the MD5 of what was put whole; of anything else it says nothing, and the file goes up again.
    if (known?.size !== size || known.etag !== createHash('md5').update(bytes).digest('hex')) {
      await to.put(key, bytes);
      copied += 1;
    }
    progress.advance();
  });
  progress.done();
  return { copied, present: files.length - copied };
}
