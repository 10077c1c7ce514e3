import * as tf from '@tensorflow/tfjs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toPixels, type Image } from '../src/dataset/image.ts';
import { demoClassNames, demoEntries, loadDemoArtwork, renderDemoDataset, renderDemoImage } from '../src/demo/dataset.ts';
import { formatSeconds, type Log } from '../src/log.ts';
import { linear } from '../src/nn/layers.ts';
import { inference, initialize, type Weights } from '../src/nn/module.ts';
import { resnet } from '../src/nn/resnet.ts';
import { sgd } from '../src/pretraining/optimizers/sgd.ts';
import { Random } from '../src/random.ts';
import { compile, createState } from '../src/runtime/compile.ts';
import { float32, scalar, type NamedTensors } from '../src/tensor.ts';

interface Labelled { readonly image: Image; readonly label: number; /** Share of the image that is object. */ readonly proportion: number }

/**
 * `npm run bench -- dataset [--epochs 36] [--width 24] [--per-class 100] [--threads n] [--neighbours-only]`: how hard
 * the embedded data set is. Prints the spread of the foreground proportion, nearest neighbours on raw pixels (should
 * know little) and a small supervised network (should know much).
 */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: {
    epochs: { type: 'string', default: '36' }, width: { type: 'string', default: '24' }, 'per-class': { type: 'string', default: '100' },
    threads: { type: 'string', default: String(availableParallelism()) }, 'neighbours-only': { type: 'boolean', default: false },
  } });
  const trainPerClass = Number(values['per-class']);

  const folder = await mkdtemp(join(tmpdir(), 'genview-dataset-'));
  let start = performance.now();
  const written = await renderDemoDataset({ folder: join(folder, 'demo'), trainPerClass }, log).finally(() => rm(folder, { recursive: true, force: true }));
  console.log(`render: ${written} images with masks in ${formatSeconds((performance.now() - start) / 1000)}`);

  const artwork = await loadDemoArtwork();
  const drawn = demoEntries({ trainPerClass }).map(({ split, label, stream }) => {
    const { image, mask } = renderDemoImage(artwork, stream, label);
    return { split, image, label, proportion: mask.reduce((sum, v) => sum + v, 0) / 255 / mask.length };
  });
  const train = drawn.filter(({ split }) => split === 'train'), val = drawn.filter(({ split }) => split === 'val');
  const proportions = drawn.map(({ proportion }) => proportion).toSorted((a, b) => a - b);
  const quantile = (q: number): string => `${(100 * proportions[Math.round(q * (proportions.length - 1))]!).toFixed(1)} %`;
  console.log(`images: ${train.length} train, ${val.length} val, ${demoClassNames.length} classes`);
  console.log(`foreground proportion: ${[0, 0.05, 0.25, 0.5, 0.75, 0.95, 1].map((q) => `${q * 100} % quantile ${quantile(q)}`).join(', ')}`);
  for (const [k, top1] of neighbours(train, val, [1, 5, 20, 50])) console.log(`nearest neighbours on raw pixels, k = ${k}: top-1 ${percent(top1)}`);
  if (values['neighbours-only']) return;

  start = performance.now();
  const { top1, small } = await supervised(train, val, { epochs: Number(values.epochs), width: Number(values.width), threads: Number(values.threads), log });
  console.log(`supervised ResNet of width ${values.width}, ${values.epochs} epochs: top-1 ${percent(top1)}, of objects below 15 % of the image ${percent(small)} (${formatSeconds((performance.now() - start) / 1000)})`);
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Majority of the k nearest by Euclidean distance; ties go to the class with the nearer member. */
function neighbours(train: readonly Labelled[], val: readonly Labelled[], ks: readonly number[]): [number, number][] {
  const right = new Map(ks.map((k) => [k, 0]));
  for (const { image: { data: query }, label } of val) {
    const distance = train.map(({ image: { data } }) => {
      let sum = 0;
      for (let i = 0; i < query.length; i++) { const d = query[i]! - data[i]!; sum += d * d; }
      return sum;
    });
    const order = [...distance.keys()].sort((a, b) => distance[a]! - distance[b]!);
    for (const k of ks) {
      const votes = new Map<number, number>();
      for (const i of order.slice(0, k)) votes.set(train[i]!.label, (votes.get(train[i]!.label) ?? 0) + 1);
      let winner = -1, most = 0;
      for (const [c, n] of votes) if (n > most) { winner = c; most = n; }
      if (winner === label) right.set(k, right.get(k)! + 1);
    }
  }
  return [...right].map(([k, n]) => [k, n / val.length]);
}

const batch = 128;
const momentum = 0.9, weightDecay = 5e-4, peakRate = 0.2, smoothing = 0.1;

async function supervised(train: readonly Labelled[], val: readonly Labelled[], options: { epochs: number; width: number; threads: number; log: Log }): Promise<{ top1: number; small: number }> {
  const { epochs, width, threads, log } = options, classes = demoClassNames.length;
  const network = resnet({ stem: { width, kernel: 3, stride: 2, pool: false }, stages: [1, 2, 4].map((m, i) => ({ width: width * m, blocks: 1, stride: i === 0 ? 1 : 2 })), norm: 'batch' });
  const head = linear('classifier', network.featureSize, classes);
  const first: NamedTensors = { ...initialize(network, 0), ...initialize(head, 0) };
  const trained = [...network.parameters, ...head.parameters].filter(({ kind }) => kind === 'parameter').map(({ name }) => name);
  const zeros = Object.fromEntries(trained.map((name) => [`momentum.${name}`, float32(new Float32Array(first[name]!.data.length), first[name]!.shape)]));
  const state = createState({ ...first, ...zeros });
  const logitsOf = (pixels: tf.Tensor, weights: Weights, updateBuffer?: (name: string, value: tf.Tensor) => void): tf.Tensor2D => {
    const x = tf.transpose(tf.sub(tf.mul(pixels, 4), 2), [0, 2, 3, 1]) as tf.Tensor4D;
    return head.apply(network.apply(x, weights, updateBuffer ? { training: true, updateBuffer } : inference), weights, inference);
  };
  const pixels = { shape: [batch, 3, 32, 32] };
  const step = await compile(({ pixels: x, targets, rate }, variables) => {
    const { value, grads } = tf.variableGrads(() => {
      const logits = logitsOf(x!, variables, (name, statistic) => { variables[name]!.assign(statistic); });
      return tf.neg(tf.mean(tf.sum(tf.mul(targets!, tf.logSoftmax(logits)), 1))) as tf.Scalar;
    }, trained.map((name) => variables[name]!));
    for (const name of trained) {
      const updated = sgd(variables[name]!, grads[name]!, variables[`momentum.${name}`]!, rate!, { momentum, weightDecay });
      variables[name]!.assign(updated.parameter);
      variables[`momentum.${name}`]!.assign(updated.buffer);
    }
    return { loss: value };
  }, { pixels, targets: { shape: [batch, classes] }, rate: { shape: [] } }, { state, threads, name: 'supervised training' });
  const score = await compile(({ pixels: x }, variables) => ({ label: tf.argMax(logitsOf(x!, variables), 1) }), { pixels }, { state, threads, name: 'supervised scores' });

  const steps = Math.floor(train.length / batch) * epochs;
  const progress = log.progress('Supervised training', steps, 'steps');
  for (let epoch = 0, done = 0; epoch < epochs; epoch++) {
    const random = new Random('supervised', epoch), order = random.shuffle(train);
    for (let i = 0; i + batch <= order.length; i += batch, done++) {
      const part = order.slice(i, i + batch);
      const targets = new Float32Array(batch * classes).fill(smoothing / classes);
      for (const [j, { label }] of part.entries()) targets[j * classes + label]! += 1 - smoothing;
      // Linear rise over a fifth, then a cosine to zero.
      const t = done / steps, rate = peakRate * (t < 0.2 ? t / 0.2 : 0.5 * (1 + Math.cos(Math.PI * (t - 0.2) / 0.8)));
      const { loss } = await step.run({ pixels: toPixels(part.map(({ image }) => augmented(image, random))), targets: float32(targets, [batch, classes]), rate: scalar(rate) });
      progress.advance(1, `loss ${loss!.data[0]!.toFixed(2)}`);
    }
  }
  progress.done();

  let right = 0, small = 0, smallRight = 0;
  for (let i = 0; i < val.length; i += batch) {
    const part = val.slice(i, i + batch), all = new Float32Array(batch * 3 * 32 * 32);
    all.set(toPixels(part.map(({ image }) => image)).data);
    const found = (await score.run({ pixels: float32(all, pixels.shape) }))['label']!.data;
    for (const [j, { label, proportion }] of part.entries()) {
      const hit = found[j] === label ? 1 : 0;
      right += hit;
      if (proportion < 0.15) { small++; smallRight += hit; }
    }
  }
  await Promise.all([step.dispose(), score.dispose()]);
  return { top1: right / val.length, small: smallRight / small };
}

/** Turned, scaled, shifted, mirrored (edges repeat), lighter or darker, tinted. */
function augmented(image: Image, random: Random): Image {
  const { width, height, data } = image, out = new Uint8Array(data.length);
  const angle = random.uniform(-0.35, 0.35), scale = random.uniform(0.75, 1.25), flip = random.chance(0.5) ? -1 : 1;
  const a = scale * Math.cos(angle), b = scale * Math.sin(angle), dx = random.uniform(-0.12, 0.12) * width, dy = random.uniform(-0.12, 0.12) * height;
  const gain = random.uniform(0.7, 1.3), tint = [0, 1, 2].map(() => random.uniform(-25, 25));
  const clamp = (v: number, n: number): number => Math.max(0, Math.min(n - 1, v));
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const p = x + 0.5 - width / 2, q = y + 0.5 - height / 2;
      const u = clamp(flip * (a * p - b * q) + width / 2 + dx - 0.5, width), v = clamp(b * p + a * q + height / 2 + dy - 0.5, height);
      const i = Math.floor(u), j = Math.floor(v), s = u - i, t = v - j, i1 = Math.min(i + 1, width - 1), j1 = Math.min(j + 1, height - 1);
      for (let c = 0; c < 3; c++, o++) {
        const top = data[(j * width + i) * 3 + c]! * (1 - s) + data[(j * width + i1) * 3 + c]! * s;
        const bottom = data[(j1 * width + i) * 3 + c]! * (1 - s) + data[(j1 * width + i1) * 3 + c]! * s;
        out[o] = Math.round(Math.max(0, Math.min(255, (top * (1 - t) + bottom * t) * gain + tint[c]!)));
      }
    }
  }
  return { width, height, data: out };
}
