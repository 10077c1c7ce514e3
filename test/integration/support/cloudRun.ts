import { mkdtempSync, writeFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { openStore } from '../../../src/storage/index.ts';
import { colouredSquare } from './squares.ts';

/** Images of each class in each split. */
const perClass = { train: 8, val: 3 };

/** The whole method in seconds: a variant with views and quality loss on one node. */
const recipe = (images: string): string => `
name: faults
dataset: { url: ${JSON.stringify(images)}, shardSize: 9 }
foreground: { sampleImages: 16 }
generation: { noise: adaptive, steps: 2, batch: 8 }
pretraining:
  method: mocov2
  backbone: { name: resnet-small, width: 8 }
  epochs: 6
  batch: 8
  queue: 32
  checkpointSteps: 3
variants:
  - name: genview
    pretraining: { qualityLoss: { enabled: true } }
evaluation:
  linear: { epochs: 1, batch: 16 }
  knn: { k: 3 }
  semiSupervised: { fraction: 0.3, epochs: 1, batch: 8 }
`;

/** Three classes of coloured squares on noise, and one file that is no image, by path. */
async function drawImages(): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = { 'train/red/broken.jpg': Buffer.from('this is no picture') };
  for (const split of ['train', 'val'] as const) for (const [label, name] of ['red', 'green', 'blue'].entries()) {
    for (let i = 0; i < perClass[split]; i++) {
      files[`${split}/${name}/${i}.png`] = await colouredSquare(label, split, name, i);
    }
  }
  return files;
}

/** A folder with a small dataset and its recipe, and the same dataset in a bucket. */
export async function makeCloudRun(): Promise<{ readonly folder: string; readonly recipe: string; upload(bucket: string): Promise<string> }> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-cloud-run-'));
  const images = await drawImages();
  for (const [name, bytes] of Object.entries(images)) {
    const file = path.join(folder, 'images', name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, bytes);
  }
  const local = path.join(folder, 'faults.yaml');
  writeFileSync(local, recipe('images'));
  return {
    folder,
    recipe: local,
    /** Path of a recipe that reads the images from there. */
    async upload(bucket) {
      const store = openStore(`s3://${bucket}/images`);
      for (const [name, bytes] of Object.entries(images)) await store.put(name, bytes);
      const file = path.join(folder, `${bucket}.yaml`);
      writeFileSync(file, recipe(store.root));
      return file;
    },
  };
}
