import { mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { demoClassNames, renderDemoDataset } from '../../../src/demo/dataset.ts';
import type { ObjectStore } from '../../../src/storage/objectStore.ts';
import { addOddImages, type OddImages } from './oddImages.ts';

/** Images of each class in the small dataset, odd ones not counted. */
const perClass = { train: 6, val: 2 };

/**
 * The whole method in its smallest form that still has everything: several shards, a baseline on one node, a variant
 * with views and quality loss on two, and more checkpoints than one.
 */
const recipe = (limit: number): string => `
name: small
seed: 3
dataset: { url: images, shardSize: 56, quarantineLimit: ${limit} }
foreground: { sampleImages: 64 }
generation: { noise: adaptive, steps: 2 }
pretraining:
  backbone: { name: resnet-small, width: 8 }
  epochs: 3
  batch: 16
  queue: 64
  checkpointSteps: 2
variants:
  - name: baseline
    pretraining: { views: { probability: 0 } }
  - name: genview
    pretraining: { qualityLoss: { enabled: true }, nodes: 2 }
evaluation:
  linear: { epochs: 2, batch: 32 }
  knn: { k: 5 }
  semiSupervised: { fraction: 0.2, epochs: 1, batch: 16 }
`;

export interface SmallRun {
  /** Temporary folder that holds everything; the caller removes it. */
  readonly folder: string;
  /** Paths of recipe files: with the default share of bad images, and with one that the dataset exceeds. */
  readonly recipe: string;
  readonly strictRecipe: string;
  /** Images listed in each split, bad ones included. */
  readonly listed: { readonly train: number; readonly val: number };
  readonly odd: OddImages;
  /** Path of a store that does not exist yet. */
  store(name: string): string;
}

/** Renders a small dataset with every kind of odd image in it, and writes its recipes. */
export async function makeSmallRun(): Promise<SmallRun> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-run-'));
  const images = path.join(folder, 'images');
  await renderDemoDataset({ folder: images, trainPerClass: perClass.train, valPerClass: perClass.val });
  const odd = await addOddImages(images, demoClassNames);
  const files = { recipe: path.join(folder, 'small.yaml'), strictRecipe: path.join(folder, 'strict.yaml') };
  writeFileSync(files.recipe, recipe(0.05));
  writeFileSync(files.strictRecipe, recipe(0.01));
  const added = [...odd.usable, ...Object.keys(odd.unreadable)];
  const count = (split: 'train' | 'val'): number => demoClassNames.length * perClass[split] + added.filter((name) => name.startsWith(`${split}/`)).length;
  return { folder, ...files, odd, listed: { train: count('train'), val: count('val') }, store: (name) => path.join(folder, name) };
}

/** Puts the recipe, as `small.yaml`, and its images into a store. */
export async function uploadSmallRun(small: SmallRun, store: ObjectStore): Promise<void> {
  await store.put('small.yaml', readFileSync(small.recipe));
  const images = path.join(small.folder, 'images');
  const files = readdirSync(images, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(path.join(images, name)).isFile());
  const upload = async (name: string): Promise<boolean> => store.put(`images/${name}`, readFileSync(path.join(images, name)));
  for (let i = 0; i < files.length; i += 20) await Promise.all(files.slice(i, i + 20).map(upload));
}
