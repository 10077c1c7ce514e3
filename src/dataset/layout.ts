import { createHash } from 'node:crypto';
import { GenViewError } from '../errors.ts';
import type { Split } from '../stages/contract.ts';
import { compareKeys } from '../storage/key.ts';

const imageNames = /\.(jpe?g|png|webp|gif|avif|tiff?|bmp)$/i;

/** Class of images that lie in no class folder. */
export const unlabelled = 'unlabelled';

/** Folders that validate beside `train`, the first one present. A `test` next to a `val` is left alone: it is not for choosing models. */
const validationFolders = ['val', 'validation', 'test'] as const;
const splitFolders: readonly string[] = ['train', ...validationFolders];

/** A folder without an image. @param others files that are no images */
export function datasetEmpty(url: string, others: number): GenViewError {
  return new GenViewError('DatasetEmpty', `dataset.url: no images in ${url}${others > 0 ? ` (only ${others} other files)` : ''}; expected train/<class>/ and val/<class>/, or <class>/, with .jpg, .png, .webp, .gif, .avif or .tiff files`);
}

/** A list that names no image of its folder. */
export function listEmpty(list: string, url: string, others: number): GenViewError {
  return new GenViewError('DatasetEmpty', `dataset.list: ${list} names no images under ${url}${others > 0 ? ` (only ${others} other files)` : ''}`);
}

/** Whether a path counts at all: `image`; `other` for files that are no images by their name, or hidden; `mask` for the top folder `masks`. */
export function kindOf(path: string): 'image' | 'other' | 'mask' {
  if (path.startsWith('masks/')) return 'mask';
  return imageNames.test(path) && !path.split('/').some((part) => part.startsWith('.')) ? 'image' : 'other';
}

/** What is known of the folders after all images were seen: small, whatever the dataset's size. */
export interface FolderFacts {
  /** Images that lie in no folder. */
  root: number;
  /** By top folder: images directly in it, and in folders below; which folders, for those that may be splits. */
  readonly tops: Map<string, { direct: number; nested: number; readonly classes: Set<string> }>;
}

export function addToFacts(facts: FolderFacts, path: string): void {
  const [top, second, third] = path.split('/', 3);
  if (second === undefined) { facts.root += 1; return; }
  let folder = facts.tops.get(top!);
  if (!folder) facts.tops.set(top!, folder = { direct: 0, nested: 0, classes: new Set() });
  if (third === undefined) folder.direct += 1; else folder.nested += 1;
  if (third !== undefined && splitFolders.includes(top!)) folder.classes.add(second);
}

/** Plain JSON, for a listing that goes on in another process. */
export interface FolderFactsJson { readonly root: number; readonly tops: readonly (readonly [name: string, direct: number, nested: number, classes: readonly string[]])[] }

export function factsToJson({ root, tops }: FolderFacts): FolderFactsJson {
  return { root, tops: Array.from(tops, ([name, { direct, nested, classes }]) => [name, direct, nested, [...classes]] as const) };
}

export function factsFromJson({ root, tops }: FolderFactsJson): FolderFacts {
  return { root, tops: new Map(tops.map(([name, direct, nested, classes]) => [name, { direct, nested, classes: new Set(classes) }])) };
}

/** How the folders of a dataset are read. */
export interface Layout {
  /** Sorted by their UTF-8 bytes; a label is a position here. */
  readonly classes: readonly string[];
  /** Images that have a place. */
  readonly images: number;
  /** Images that have none, and why, for a warning. */
  readonly leftAlone: { readonly images: number; readonly why: string };
  /** Split and class of an image; undefined when it is left alone. A list may have given the one or the other. */
  place(path: string, split?: Split | null, label?: string | null): { readonly split: Split; readonly className: string } | undefined;
}

/** Whether an image is of the share that validates where nothing else says so: by a hash of its path. */
function isValidation(path: string, validationFraction: number): boolean {
  return createHash('sha256').update(path).digest().readUInt32BE(0) / 2 ** 32 < validationFraction;
}

/** What a list gives of each of its images: of all or of none. */
export interface Given {
  readonly split: boolean;
  /** Every label there is; undefined when the list has none. */
  readonly labels?: readonly string[];
}

/** The layout of a dataset that is given as a list: what the list does not tell is read from the folders, as `decideLayout` does. */
export function decideListLayout(facts: FolderFacts, validationFraction: number, given: Given): Layout {
  const folders = decideLayout(facts, validationFraction), { labels } = given;
  const all = folders.images + folders.leftAlone.images;
  return {
    classes: labels ? [...labels].sort(compareKeys) : folders.classes,
    images: labels ? all : folders.images,
    leftAlone: labels ? { images: 0, why: '' } : folders.leftAlone,
    place(path, split, label) {
      const place = folders.place(path);
      const className = labels ? label : place?.className;
      if (className === undefined || className === null) return undefined;
      return { split: split ?? place?.split ?? (isValidation(path, validationFraction) ? 'val' : 'train'), className };
    },
  };
}

/**
 * Reads the folders as `train/<class>/…` with `val/<class>/…` (or `validation`, or `test`), else as `<class>/…`, else as
 * images without classes. Classes may have folders within. Without a validation folder, `validationFraction` of the
 * training images validate, chosen by a hash of their path.
 */
export function decideLayout(facts: FolderFacts, validationFraction: number): Layout {
  const { root, tops } = facts;
  const total = root + [...tops.values()].reduce((sum, { direct, nested }) => sum + direct + nested, 0);
  const validates = (path: string): boolean => isValidation(path, validationFraction);
  const sorted = (names: readonly string[]): string[] => [...names].sort(compareKeys);

  const train = tops.get('train');
  if (train) {
    const validation = validationFolders.find((name) => tops.has(name));
    const splits = new Map<string, Split>([['train', 'train'], ...(validation ? [[validation, 'val'] as const] : [])]);
    const used = [...splits.keys()].map((name) => tops.get(name)!);
    const labelled = train.nested > 0;
    const images = used.reduce((sum, { direct, nested }) => sum + (labelled ? nested : direct + nested), 0);
    return {
      classes: labelled ? sorted([...new Set(used.flatMap(({ classes }) => [...classes]))]) : [unlabelled],
      images,
      leftAlone: { images: total - images, why: `outside ${[...splits.keys()].map((name) => `${name}/${labelled ? '<class>/' : ''}`).join(' and ')}` },
      place(path) {
        const [top, second, third] = path.split('/', 3);
        const split = splits.get(top!);
        if (second === undefined || split === undefined || (labelled && third === undefined)) return undefined;
        return { split: split === 'train' && !validation && validates(path) ? 'val' : split, className: labelled ? second : unlabelled };
      },
    };
  }
  const labelled = tops.size > 0;
  return {
    classes: labelled ? sorted([...tops.keys()]) : [unlabelled],
    images: labelled ? total - root : total,
    leftAlone: { images: labelled ? root : 0, why: 'in no class folder' },
    place(path) {
      const [top, second] = path.split('/', 2);
      if (labelled && second === undefined) return undefined;
      return { split: validates(path) ? 'val' : 'train', className: labelled ? top! : unlabelled };
    },
  };
}
