import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createGunzip } from 'node:zlib';
import { pipeline } from 'node:stream/promises';
import tar from 'tar-stream';
import { GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { ImageFolderWriter } from './unpack.ts';

export interface TinyImagenetOptions {
  /** A nested subset, by the column `smallest_subset` of `classes.tsv`: 10, 20, 50 or 60. @default 10 */
  readonly classes?: number;
}

/**
 * Unpacks classes of Tiny ImageNet, `classes.tsv` (columns wnid, name, smallest_subset, train, val) beside one
 * `<wnid>.tgz` a class with `train/*.JPEG` and `val/*.JPEG`, into `train/<wnid>_<first name>/` and `val/…`; the files'
 * bytes stay as they are. Images that are there already are not written again.
 *
 * Throws `DatasetMissing`, `ArchiveUnreadable`, `SubsetInvalid`.
 * @returns the images of each split
 */
export async function unpackTinyImagenet(folder: string, outFolder: string, options: TinyImagenetOptions, log: Log): Promise<{ train: number; val: number; classes: readonly string[] }> {
  const count = options.classes ?? 10;
  const classes = await readClasses(path.join(folder, 'classes.tsv'));
  const chosen = classes.filter(({ subset }) => subset <= count);
  if (chosen.length !== count) {
    throw new GenViewError('SubsetInvalid', `${folder} has no subset of ${count} classes; its subsets have ${[...new Set(classes.map(({ subset }) => subset))].sort((a, b) => a - b).join(', ')}`);
  }
  const writer = new ImageFolderWriter(outFolder);
  const progress = log.progress('unpacking Tiny ImageNet', chosen.reduce((sum, { images }) => sum + images, 0), 'images');
  const result = { train: 0, val: 0 };
  for (const { wnid, className } of chosen) {
    const archive = path.join(folder, `${wnid}.tgz`);
    const extract = tar.extract();
    // Errors come out of the loop; the pipeline's own promise would be a second copy of them.
    const piping = pipeline(createReadStream(archive), createGunzip(), extract).catch(() => {});
    try {
      for await (const entry of extract) {
        const [, split, name] = /^(?:\.\/)?(train|val)\/([^/]+\.jpe?g)$/i.exec(entry.header.name) ?? [];
        if ((split !== 'train' && split !== 'val') || entry.header.type !== 'file') { entry.resume(); continue; }
        const target = `${split}/${className}`;
        const chunks: Uint8Array[] = [];
        for await (const chunk of entry as AsyncIterable<Uint8Array>) chunks.push(chunk);
        if (!await writer.has(target, name!)) await writer.write(target, name!, Buffer.concat(chunks));
        result[split] += 1;
        progress.advance(1, className);
      }
    } catch (error) {
      if (error instanceof GenViewError) throw error;
      throw new GenViewError('ArchiveUnreadable', `${archive} is missing or damaged: ${(error as Error).message}`, { cause: error });
    }
    await piping;
  }
  progress.done();
  return { ...result, classes: chosen.map(({ className }) => className) };
}

async function readClasses(file: string): Promise<{ wnid: string; className: string; subset: number; images: number }[]> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new GenViewError('DatasetMissing', `${file} cannot be read; it lists the classes of the archives beside it`, { cause });
  });
  const [head = '', ...lines] = text.trim().split('\n');
  const names = head.split('\t');
  return lines.map((line, i) => {
    const fields = line.split('\t');
    const field = (name: string): string => fields[names.indexOf(name)] ?? '';
    const [wnid, subset] = [field('wnid'), Number(field('smallest_subset'))];
    if (!/^n\d{8}$/.test(wnid) || !Number.isInteger(subset)) throw new GenViewError('DatasetMissing', `${file} line ${i + 2} is not a class with wnid and smallest_subset`);
    // "king penguin, Aptenodytes patagonica" -> n02056570_king_penguin: unique and readable.
    const className = `${wnid}_${field('name').split(',')[0]!.trim().replaceAll(/[^A-Za-z0-9-]+/g, '_')}`;
    return { wnid, className, subset, images: Number(field('train')) + Number(field('val')) };
  });
}
