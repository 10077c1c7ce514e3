import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Image } from '../src/dataset/image.ts';
import { GenViewError } from '../src/errors.ts';
import { featureBatch, type Backbone } from '../src/evaluation/features.ts';
import { featureBatches, featuresOf, type LabelledFeatures, type LabelledSample } from '../src/evaluation/labelled.ts';
import { trainLinearProbe } from '../src/evaluation/linearProbe.ts';
import { classifyByNeighbours } from '../src/evaluation/nearestNeighbours.ts';
import { formatSeconds, type Log } from '../src/log.ts';
import { Random } from '../src/random.ts';
import { threadCount } from '../src/runtime/onnxruntime.ts';

interface Settings {
  readonly images: number;
  readonly validation: number;
  readonly width: number;
  readonly classes: number;
  readonly epochs: number;
  readonly batch: number;
  readonly k: number;
  /** MiB of features in memory. */
  readonly memory: number;
  readonly threads: number;
}

const probes = { linear, knn } as const;

/**
 * `npm run bench -- probes [--images 1281167] [--validation 50000] [--width 2048] [--classes 1000] [--epochs 1] [--batch 256] [--k 20] [--memory 1024] [--threads n] [--probes linear,knn]`:
 * memory and time of the probes' own part, with random features in place of a backbone's. The linear probe wants a temporary folder with room for the features
 * of all images and mirror images, 21 GB at the defaults. `--memory` is what features may take before they go there, in MiB. Each probe has a process of its own; Linux only.
 */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: {
    images: { type: 'string', default: '1281167' }, validation: { type: 'string', default: '50000' }, width: { type: 'string', default: '2048' }, classes: { type: 'string', default: '1000' },
    epochs: { type: 'string', default: '1' }, batch: { type: 'string', default: '256' }, k: { type: 'string', default: '20' }, memory: { type: 'string', default: '1024' },
    threads: { type: 'string', default: String(threadCount()) }, probes: { type: 'string', default: Object.keys(probes).join() }, one: { type: 'boolean', default: false },
  } });
  const whole = (name: keyof Settings): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < (name === 'memory' ? 0 : 1)) throw new GenViewError('OptionInvalid', `--${name} ${values[name]} is not a whole number${name === 'memory' ? '' : ' of at least 1'}`);
    return value;
  };
  const settings: Settings = {
    images: whole('images'), validation: whole('validation'), width: whole('width'), classes: whole('classes'), epochs: whole('epochs'), batch: whole('batch'), k: whole('k'), memory: whole('memory'), threads: whole('threads'),
  };
  const names = values.probes.split(',') as (keyof typeof probes)[], unknown = names.find((name) => !Object.hasOwn(probes, name));
  if (unknown !== undefined) throw new GenViewError('OptionInvalid', `--probes: there is no ${unknown}; probes are ${Object.keys(probes).join(', ')}`);
  if (values.one) return probes[names[0]!](settings, log);
  console.log('| probe | training images | validation images | peak memory | time | top-1 |\n| --- | --- | --- | --- | --- | --- |');
  for (const name of names) {
    const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL('main.ts', import.meta.url)), 'probes', ...args, '--one', '--probes', name], { stdio: 'inherit' });
    const [status] = await once(child, 'exit') as [number | null];
    process.exitCode ||= status ?? 1;
  }
}

/** What the fake backbone takes is no part of a probe. */
interface Source { readonly backbone: Backbone; samples(count: number): AsyncIterable<LabelledSample>; seconds: number }

async function linear({ images, validation, width, classes, epochs, batch, memory, threads }: Settings, log: Log): Promise<void> {
  const source = randomFeatures(width, classes), signal = new AbortController().signal, options = { signal, log, memory: memory * 2 ** 20 };
  let start = performance.now();
  const train = await featuresOf(source.backbone, source.samples(images), { ...options, count: images, mirror: true, label: 'features of training images' });
  const val = await featuresOf(source.backbone, source.samples(validation), { ...options, count: validation, mirror: false, label: 'features of validation images' });
  const kept = since(start) - source.seconds, times: number[] = [];
  start = performance.now();
  const { top1 } = await trainLinearProbe(train, val, {
    recipe: { epochs, batch, learningRate: 0.2, momentum: 0.9, weightDecay: 0 }, classes, seed: 0, threads, signal,
    onEpoch: ({ epoch, loss }) => { times.push(since(start)); start = performance.now(); log.info(`epoch ${epoch}: ${formatSeconds(times.at(-1)!)}, loss ${loss.toFixed(3)}`); },
  });
  const bytes = train.features.rows * width * 4;
  row(`linear, ${(bytes / 1e9).toFixed(1)} GB of features ${bytes <= memory * 2 ** 20 ? 'in memory' : 'in a file'}`, images, validation, `an epoch ${formatSeconds(Math.min(...times))}; keeping features ${formatSeconds(kept)}`, top1);
  await close(train, val);
}

async function knn({ images, validation, width, classes, k, memory, threads }: Settings, log: Log): Promise<void> {
  const source = randomFeatures(width, classes), signal = new AbortController().signal;
  const start = performance.now();
  const val = await featuresOf(source.backbone, source.samples(validation), { signal, log, memory: memory * 2 ** 20, count: validation, mirror: false, label: 'features of validation images' });
  const progress = log.progress('nearest neighbours among training images', images, 'images');
  const { top1 } = await classifyByNeighbours({ count: images, batches: featureBatches(source.backbone, source.samples(images), { mirror: false, signal }) }, val, {
    recipe: { k, temperature: 0.07 }, classes, threads, signal, onProgress: (done) => progress.advance(done),
  });
  progress.done();
  row(`kNN, k ${k}`, images, validation, formatSeconds(since(start) - source.seconds), top1);
  await close(val);
}

const since = (start: number): number => (performance.now() - start) / 1000;
const close = async (...features: readonly LabelledFeatures[]): Promise<void> => { await Promise.all(features.map((each) => each.features.close())); };

function row(probe: string, images: number, validation: number, time: string, top1: number): void {
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
  console.log(`| ${probe} | ${images.toLocaleString('en')} | ${validation.toLocaleString('en')} | ${(peak / 2 ** 30).toFixed(2)} GiB | ${time} | ${top1.toFixed(1)} % |`);
}

/** Features around a centre for each class. Samples hold their class in every pixel, and nothing else. */
function randomFeatures(width: number, classes: number): Source {
  const side = 2, pool = new Random('noise').normals(width + 2 ** 20), centres = new Random('centres').normals(classes * width).map((value) => value * 0.25), random = new Random('features');
  const images: Image[] = Array.from({ length: classes }, (_, label) => ({ width: side, height: side, data: Uint8Array.from({ length: side * side * 3 }, (__, i) => label >> 8 * (i % 3) & 255) }));
  const source: Source = {
    seconds: 0,
    backbone: {
      description: { backbone: { name: 'resnet50', stem: 'imagenet', width: 64, norm: 'batch' }, imageSize: side, mean: [0, 0, 0], std: [1, 1, 1] },
      featureSize: width,
      async features(batch) {
        const start = performance.now(), all = new Float32Array(batch.length * width);
        for (const [n, { data }] of batch.entries()) {
          const centre = (data[0]! | data[1]! << 8 | data[2]! << 16) * width, noise = random.integer(pool.length - width);
          for (let i = 0; i < width; i++) all[n * width + i] = centres[centre + i]! + pool[noise + i]!;
        }
        source.seconds += since(start);
        return all;
      },
      dispose: async () => {},
    },
    async *samples(count) {
      for (let index = 0; index < count; index++) {
        // Signals and timers get their turn, as while real images are read.
        if (index % (16 * featureBatch) === 0) await new Promise((resolve) => { setImmediate(resolve); });
        // Sorted by class, as a listing is.
        const label = Math.floor(index * classes / count);
        yield { metadata: { index, path: '', label }, original: images[label]! };
      }
    },
  };
  return source;
}
