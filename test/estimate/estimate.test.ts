import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { machines } from '../../src/estimate/constants.ts';
import { busySeconds, estimate } from '../../src/estimate/estimate.ts';
import { readPrices, type Prices } from '../../src/estimate/prices.ts';
import { viewFlop, workOf } from '../../src/estimate/work.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';

const prices: Prices = {
  date: '2026-01-02', region: 'nowhere-1', onDemandPerHour: { 'g5.xlarge': 1, 'g5.2xlarge': 3 }, spotShare: 0.5, fargateVcpuHour: 0, fargateGBHour: 0,
  volumeGBMonth: 0.073, natPerHour: 0, storageGBMonth: 0.02, putsPerThousand: 0, getsPerThousand: 0, lambdaGBSecond: 0, logsPerGB: 0,
};
const published = { encoder: 'clip-vit-h-14', generator: 'stable-unclip-2.1' } as const;
const recipe = (text: string) => parseRecipe(`name: a\ndataset: { url: x, shardSize: 500 }\n${text}`, 'test.yaml');
const photographs = { train: 1000, val: 0, bytes: 1000 * 100_000 };

describe('the work of a run', () => {
  it('a view takes 21 calls of PNDM with 20 steps, twice with guidance, the decoder and the encoder', () => {
    expect(viewFlop(recipe(''), published) / 1e12).toBeCloseTo(2 * (42 * 1.07452502 + 2.877152182 + 0.16729514), 6);
    expect(viewFlop(recipe('generation: { scheduler: ddim, steps: 10, guidance: 1 }'), published) / 1e12).toBeCloseTo(2 * (10 * 1.07452502 + 2.877152182 + 0.16729514), 6);
  });

  it('MoCo v2 costs 4 forward passes an image, MoCo v3 8, and the quality loss two of the encoder', () => {
    const of = (text: string) => workOf(recipe(`pretraining: { epochs: 10, batch: 256, augmentation: { imageSize: 224 }, backbone: { name: resnet50, stem: imagenet }, ${text} }\nvariants: [{ name: one }]`), photographs, published).find(({ stage }) => stage === 'pretrain')!;
    expect(of('method: mocov2')).toMatchObject({ images: 10_000, trainingFlop: 10_000 * 4 * 2 * 4_087_136_256, inferenceFlop: 0, nodes: 1 });
    expect(of('method: mocov3, nodes: 4, qualityLoss: { enabled: true }')).toMatchObject({ trainingFlop: 10_000 * 8 * 2 * 4_087_136_256, inferenceFlop: 10_000 * 2 * 334_590_279_680, nodes: 4 });
  });

  it('nothing is generated and compared where no variant uses views, and nothing trained without epochs', () => {
    const stages = workOf(recipe('pretraining: { epochs: 0, views: { probability: 0 } }\nvariants: [{ name: one }]'), photographs).map(({ stage }) => stage);
    expect(stages).toEqual(['fit-foreground', 'analyze-foreground', 'linear-probe', 'nearest-neighbours', 'semi-supervised']);
  });
});

describe('hours and dollars', () => {
  it('of a thousand views, by hand', () => {
    const { stages } = estimate(recipe(''), photographs, { prices, models: published, parallel: 1 });
    const views = stages.find(({ stage }) => stage === 'generate-views')!;
    // 96.349... TFLOP a view at 70 x 0.4 TFLOP/s are 3.441 s; two shards start in a minute each, and one instance has 7 minutes of its own.
    const seconds = 1000 * 2 * (42 * 1.07452502016 + 2.877152182272 + 0.16729513984) / 28 + 2 * 60 + 420;
    expect(seconds).toBeCloseTo(3981.0, 0);
    expect(views).toMatchObject({ images: 1000, limit: 'GPU', machine: 'g5.xlarge', spot: true });
    expect(views.gpuHours).toBeCloseTo(seconds / 3600, 9);
    expect(views.startHours).toBeCloseTo(540 / 3600, 9);
    expect(views.hours).toBeCloseTo(seconds / 3600, 9);
    // Half of a dollar an hour, and 200 GB of 0.073 / 730 dollars.
    expect(views.dollars).toBeCloseTo(seconds / 3600 * 0.52, 9);
    const two = estimate(recipe(''), photographs, { prices, models: published, parallel: 2, spot: false }).stages.find(({ stage }) => stage === 'generate-views')!;
    expect(two).toMatchObject({ spot: false, gpuHours: (seconds + 420) / 3600 });
    expect(two.hours).toBeCloseTo((seconds + 420) / 7200, 9);
    expect(two.dollars).toBeCloseTo((seconds + 420) / 3600 * 1.02, 9);
  });

  it('the slower of GPU and CPU decides', () => {
    const work = { stage: 'pretrain', images: 1, jobs: 1, nodes: 1, published: false, inferenceFlop: 28e12, trainingFlop: 8.75e12, cpuSeconds: 7.9 } as const;
    expect(busySeconds(work, machines['g5.xlarge']!)).toEqual({ busy: 2, limit: 'GPU' });
    expect(busySeconds({ ...work, cpuSeconds: 12 }, machines['g5.xlarge']!)).toEqual({ busy: 3, limit: 'CPU' });
    expect(busySeconds({ ...work, cpuSeconds: 12 }, machines['g5.2xlarge']!)).toEqual({ busy: 2, limit: 'GPU' });
  });

  it('several nodes are on demand, of the training type, and end sooner', () => {
    const of = (nodes: number) => estimate(recipe(`pretraining: { epochs: 100, nodes: ${nodes} }\nvariants: [{ name: one }]`), { ...photographs, train: 100_000 }, { prices }).stages.find(({ stage }) => stage === 'pretrain')!;
    expect(of(1)).toMatchObject({ machine: 'g5.xlarge', spot: true });
    expect(of(2)).toMatchObject({ machine: 'g5.2xlarge', spot: false });
    expect(of(4).hours).toBeLessThan(of(2).hours);
    expect(of(4).dollars / of(4).gpuHours).toBeCloseTo(3.02, 9);
  });

  it('variants run side by side, and so do their probes', () => {
    const of = (variants: string) => estimate(recipe(`pretraining: { epochs: 10 }\nvariants: [${variants}]`), photographs, { prices });
    expect(of('{ name: a }, { name: b }').hours).toBeCloseTo(of('{ name: a }').hours, 9);
    expect(of('{ name: a }, { name: b }').gpuHours).toBeGreaterThan(of('{ name: a }').gpuHours);
  });

  it('what is kept: originals and views of 768 pixels in a 0.6 of their bytes', () => {
    expect(estimate(recipe(''), photographs, { prices, models: published }).dollars.storageMonth).toBeCloseTo((0.1 + 1000 * 0.6 * 768 ** 2 * 3 / 1e9) * 0.02, 12);
  });

  it('an instance type that is not in the tables is refused', () => {
    expect(() => estimate(recipe(''), photographs, { prices, gpu: 'p9.huge' })).toThrow('the estimate does not know p9.huge: it knows g5.xlarge, g5.2xlarge');
  });
});

it('prices are a table that can be edited, and is checked', async () => {
  const own = await readPrices();
  expect(Object.keys(own.onDemandPerHour)).toEqual(Object.keys(machines));
  const folder = await mkdtemp(path.join(tmpdir(), 'genview-prices-'));
  const file = path.join(folder, 'ours.json');
  try {
    await writeFile(file, JSON.stringify({ ...own, region: 'eu-west-1' }));
    expect((await readPrices(file)).region).toBe('eu-west-1');
    await writeFile(file, JSON.stringify({ ...own, spotShare: 3 }));
    await expect(readPrices(file)).rejects.toThrow(/ours\.json: spotShare: .*; start from src\/estimate\/prices\.json$/);
    await expect(readPrices(path.join(folder, 'none.json'))).rejects.toMatchObject({ code: 'PricesInvalid' });
  } finally { await rm(folder, { recursive: true }); }
});
