import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { lineInvalid, type ListFile, openListFile, readListLines } from '../dataset/list/listFile.ts';
import { addToFacts, datasetEmpty, decideLayout, kindOf, listEmpty, type FolderFacts } from '../dataset/layout.ts';
import { contentTag } from '../dataset/listing/contentTag.ts';
import { GenViewError } from '../errors.ts';
import type { DatasetSize } from '../estimate/work.ts';
import type { Log } from '../log.ts';
import { contentHash } from '../stages/artefacts.ts';
import { checkMd5 } from '../storage/md5.ts';
import type { ObjectInfo, ObjectStore } from '../storage/objectStore.ts';
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
  // Of what the list says and not of the file: that is a new one each day where it is an inventory, and promises no order of its lines.
  const said = Buffer.alloc(32);
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
        const digest = createHash('sha256').update(JSON.stringify([entry.path, entry.bytes, entry.etag, entry.split, entry.label])).digest();
        for (let i = 0; i < said.length; i++) said[i]! ^= digest[i]!;
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
  return { ...splits, bytes, content: contentHash({ list: said.toString('hex'), root }).slice(0, 8) };
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
 * Copies every file of a folder into the store that is not there yet with the same bytes, and leaves its MD5 with it; call it again after an interruption.
 * Throws `DatasetChanged` for a file that changes meanwhile.
 * @returns files copied and files that were there
 */
export async function uploadFolder(from: ObjectStore, to: ObjectStore, { log, signal }: { readonly log: Log; readonly signal: AbortSignal }): Promise<{ readonly copied: number; readonly present: number }> {
  const there = new Map<string, ObjectInfo>(), files: ObjectInfo[] = [];
  for await (const info of to.list('')) there.set(info.key, info);
  for await (const info of from.list('')) files.push(info);
  const progress = log.progress(`uploading to ${to.root}`, files.length, 'files');
  let copied = 0;
  await mapLimited(files, 16, async (file) => {
    signal.throwIfAborted();
    const { key, size } = file, md5 = await contentTag(from, file);
    if (!await holds(to, there.get(key), size, md5)) {
      const changed = (): GenViewError => new GenViewError('DatasetChanged', `${from.url(key)} was changed while it was uploaded; run the same command again`);
      await to.put(key, Readable.from(checkMd5(await from.getStream(key), md5, changed), { objectMode: false }), { md5 });
      copied += 1;
    }
    progress.advance();
  });
  progress.done();
  return { copied, present: files.length - copied };
}

/** Whether a listed object has these bytes. Its etag tells where that is an MD5; else one request for the MD5 that an upload of ours has left with it. */
async function holds(store: ObjectStore, listed: ObjectInfo | undefined, size: number, md5: string): Promise<boolean> {
  if (listed?.size !== size) return false;
  return listed.etag === md5 || (await store.head(listed.key))?.md5 === md5;
}
