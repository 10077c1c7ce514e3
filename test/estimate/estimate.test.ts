import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { busySeconds, estimate } from '../../src/estimate/estimate.ts';
import { machineOf } from '../../src/estimate/instanceTypes.ts';
import { notesOnDeployment } from '../../src/estimate/notes.ts';
import { endsInTurn } from '../../src/estimate/placement.ts';
import { readPrices, type Prices } from '../../src/estimate/prices.ts';
import { viewFlop, workOf } from '../../src/estimate/work.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { defaultMachines, type DeployedMachines } from '../../src/workflow/deployedMachines.ts';

const prices: Prices = {
  date: '2026-01-02', region: 'nowhere-1', onDemandPerHour: { 'g5.xlarge': 1, 'g5.2xlarge': 3 }, spotShare: 0.5, fargateVcpuHour: 0, fargateGBHour: 0,
  volumeGBMonth: 0.073, natPerHour: 0, storageGBMonth: 0.02, putsPerThousand: 0, getsPerThousand: 0, lambdaGBSecond: 0, logsPerGB: 0,
};
const machines = (changes: Partial<DeployedMachines>): DeployedMachines => ({ ...defaultMachines, ...changes });
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
    const { stages } = estimate(recipe(''), photographs, { prices, models: published, machines: machines({ maxVcpus: { gpu: 4, cpu: 64 } }) });
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
    const two = estimate(recipe(''), photographs, { prices, models: published, machines: machines({ spot: false }) }).stages.find(({ stage }) => stage === 'generate-views')!;
    expect(two).toMatchObject({ spot: false, gpuHours: (seconds + 420) / 3600 });
    expect(two.hours).toBeCloseTo((seconds + 420) / 7200, 9);
    expect(two.dollars).toBeCloseTo((seconds + 420) / 3600 * 1.02, 9);
  });

  it('the slower of GPU and CPU decides', () => {
    const work = { stage: 'pretrain', images: 1, jobs: 1, nodes: 1, published: false, inferenceFlop: 28e12, trainingFlop: 8.75e12, cpuSeconds: 7.9 } as const;
    const { gpu } = machineOf('g5.xlarge');
    expect(busySeconds(work, { gpu, cores: 4 })).toEqual({ busy: 2, limit: 'GPU' });
    expect(busySeconds({ ...work, cpuSeconds: 12 }, { gpu, cores: 4 })).toEqual({ busy: 3, limit: 'CPU' });
    expect(busySeconds({ ...work, cpuSeconds: 12 }, { gpu, cores: 8 })).toEqual({ busy: 2, limit: 'GPU' });
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
});

describe('machines with several GPUs', () => {
  const own: Prices = { ...prices, onDemandPerHour: { 'g5.xlarge': 1, 'g5.2xlarge': 3, 'g5.12xlarge': 10 } };
  const many = { ...photographs, train: 100_000, bytes: 100_000 * 25_000 };
  /** Photographs of 5 MB: decoded at 25 MB/s by one core, while the GPU takes 7.5 ms. */
  const large = { ...many, bytes: 100_000 * 5_000_000 };
  const crop = 1e-4 + 224 ** 2 / 1.5e8;
  const pretrain = (nodes: number, deployed: DeployedMachines, variants = '[{ name: one }]', images = many) =>
    estimate(recipe(`pretraining: { method: mocov3, epochs: 10, batch: 240, nodes: ${nodes}, backbone: { name: resnet50, stem: imagenet }, augmentation: { imageSize: 224 }, views: { probability: 0 } }\nvariants: ${variants}`), images, { prices: own, machines: deployed });
  const twelve = machines({ training: { instanceType: 'g5.12xlarge', nodes: 2, gpus: 4 } });

  it('train on all of them, lose 5 % with each doubling, and are paid for by the machine', () => {
    const { stages, notes, unpriced } = pretrain(8, twelve), [training] = stages.filter(({ stage }) => stage === 'pretrain');
    // A million images of 8 x 2 x 4.087 GFLOP at 35 x 0.25 TFLOP/s, on eight GPUs that keep 0.857375 of their speed; 15 s for the job, 7 minutes for the machines.
    const seconds = 1e6 * 8 * 2 * 4.087136256 / 8750 / 8 / 0.857375 + 15 + 420;
    expect(seconds).toBeCloseTo(1524.6, 1);
    expect(training).toMatchObject({ machine: 'g5.12xlarge', instances: 2, gpusPerInstance: 4, processes: 8, limit: 'GPU', spot: false, priced: true });
    expect(training!.hours).toBeCloseTo(seconds / 3600, 9);
    expect(training!.jobHours).toBeCloseTo((seconds - 420) / 3600, 9);
    expect(training!.gpuHours).toBeCloseTo(8 * seconds / 3600, 9);
    expect(training!.startHours).toBeCloseTo(8 * 435 / 3600, 9);
    // Two machines at 10 dollars, and a volume of 0.02 each.
    expect(training!.dollars).toBeCloseTo(2 * seconds / 3600 * 10.02, 9);
    expect({ notes, unpriced }).toEqual({ notes: [], unpriced: [] });
  });

  it('are paid for whole where a job needs fewer GPUs than they have', () => {
    const training = (nodes: number, gpus: number) => pretrain(nodes, machines({ training: { instanceType: 'g5.12xlarge', nodes: 4, gpus } })).stages.find(({ stage }) => stage === 'pretrain')!;
    expect(training(6, 4)).toMatchObject({ instances: 2, gpusPerInstance: 4, processes: 6 });
    expect(training(6, 4).gpuHours).toBeCloseTo(8 * training(6, 4).hours, 9);
    expect(training(2, 1)).toMatchObject({ instances: 2, gpusPerInstance: 4 });
    expect(training(2, 1).gpuHours).toBeCloseTo(8 * training(2, 1).hours, 9);
    expect(training(2, 1).hours).toBeCloseTo(training(2, 4).hours, 9);
    expect(training(2, 1).dollars).toBeCloseTo(2 * training(2, 4).dollars, 9);
  });

  it('decode for all processes, each with its GPU\'s share of the cores, which lose nothing', () => {
    const scans = { ...many, bytes: 100_000 * 20_000_000 };
    const seconds = (nodes: number, gpus = 4) => {
      const training = pretrain(nodes, machines({ training: { instanceType: 'g5.12xlarge', nodes: 4, gpus } }), '[{ name: one }]', scans).stages.find(({ stage }) => stage === 'pretrain')!;
      expect(training.limit).toBe('CPU');
      return training.hours * 3600 - 435;
    };
    // 20 MB at 25 MB/s, and two crops, a million times over 8 x 12 cores; over 6 x 12, the others idle; over one process's 48 on each of two machines.
    const each = 1e6 * (0.8 + 2 * crop);
    expect(seconds(8)).toBeCloseTo(each / 96, 6);
    expect(seconds(6)).toBeCloseTo(each / 72, 6);
    expect(seconds(2, 1)).toBeCloseTo(each / 96, 6);
  });

  it('of the gpu queue give a job its stage\'s vCPUs, however many they have', () => {
    const of = (type: string) => {
      const { stages } = pretrain(1, machines({ gpuInstanceTypes: [type, 'g5.2xlarge'] }), '[{ name: one }]', large), named = (name: string) => stages.find(({ stage }) => stage === name)!;
      return { training: named('pretrain'), probe: named('linear-probe') };
    };
    // A million images by 4 cores, 15 s and 7 minutes; the probe's 100,000 with their mirror images by 8.
    const hours = (1e6 * (0.2 + 2 * crop) / 4 + 435) / 3600, probeHours = (1e5 * (0.2 + 2 * crop) / 8 + 435) / 3600;
    expect(hours).toBeCloseTo(14.07, 2);
    for (const type of ['g5.xlarge', 'g5.2xlarge', 'g5.12xlarge']) {
      const { training, probe } = of(type);
      expect(training).toMatchObject({ machine: type, limit: 'CPU', instances: 1 });
      expect(training.hours).toBeCloseTo(hours, 9);
      expect(probe).toMatchObject({ machine: type === 'g5.xlarge' ? 'g5.2xlarge' : type, limit: 'CPU', instances: 1 });
      expect(probe.hours).toBeCloseTo(probeHours, 9);
    }
    // Paid for whole: half of 1, 3 and 10 dollars, and the volume.
    expect(of('g5.xlarge').training.dollars).toBeCloseTo(hours * 0.52, 9);
    expect(of('g5.2xlarge').training.dollars).toBeCloseTo(hours * 1.52, 9);
    expect(of('g5.12xlarge').training.dollars).toBeCloseTo(hours * 5.02, 9);
  });

  it('of the gpu queue are shared by as many jobs, also of several variants', () => {
    const deployed = machines({ gpuInstanceTypes: ['g5.12xlarge'] });
    const views = (maxVcpus: number) => estimate(recipe(''), { ...photographs, train: 4000 }, { prices: own, models: published, machines: { ...deployed, maxVcpus: { gpu: maxVcpus, cpu: 64 } } })
      .stages.find(({ stage }) => stage === 'generate-views')!;
    // Eight shards of 500 on two machines: 500 views of 3.441 s, a minute and 7 minutes each.
    const shard = 500 * 2 * (42 * 1.07452502016 + 2.877152182272 + 0.16729513984) / 28;
    expect(views(256)).toMatchObject({ machine: 'g5.12xlarge', instances: 2, gpusPerInstance: 4, spot: true });
    expect(views(256).hours).toBeCloseTo((shard + 480) / 3600, 9);
    expect(views(256).gpuHours).toBeCloseTo(8 * (shard + 480) / 3600, 9);
    expect(views(256).dollars).toBeCloseTo(2 * (shard + 480) / 3600 * 5.02, 9);
    // One machine for all of them takes two turns.
    expect(views(48)).toMatchObject({ instances: 1 });
    expect(views(48).hours).toBeCloseTo((2 * (shard + 60) + 420) / 3600, 9);

    const alone = pretrain(1, deployed).stages.find(({ stage }) => stage === 'pretrain')!;
    const [first] = pretrain(1, deployed, '[{ name: one }, { name: two }, { name: three }]').stages.filter(({ stage }) => stage === 'pretrain');
    expect(alone.dollars).toBeCloseTo(alone.hours * 5.02, 9);
    expect(first!.dollars).toBeCloseTo(alone.dollars / 3, 9);
    // Also where the cores decide, of which one alone has no more than each of three.
    const [slow, third] = ['[{ name: one }]', '[{ name: one }, { name: two }, { name: three }]'].map((variants) => pretrain(1, deployed, variants, large).stages.find(({ stage }) => stage === 'pretrain')!);
    expect(third).toMatchObject({ limit: 'CPU', hours: slow!.hours, instances: 1 / 3 });
    expect(third!.hours).toBeCloseTo((1e6 * (0.2 + 2 * crop) / 4 + 435) / 3600, 9);
    expect(third!.dollars).toBeCloseTo(third!.hours * 5.02 / 3, 9);
  });

  it('an instance type is the first that a stage fits on, that maxVcpus lets start and that has a price', () => {
    const of = (changes: Partial<DeployedMachines>) => Object.fromEntries(estimate(recipe('variants: [{ name: one }]'), photographs, { prices: own, machines: machines(changes) }).stages.map(({ stage, machine }) => [stage, machine]));
    expect(of({})).toMatchObject({ 'fit-foreground': 'g5.xlarge', 'linear-probe': 'g5.2xlarge', 'nearest-neighbours': 'Fargate' });
    expect(of({ gpuInstanceTypes: ['g6.2xlarge', 'g5.2xlarge', 'g5.xlarge'] })).toMatchObject({ 'fit-foreground': 'g5.2xlarge', 'linear-probe': 'g5.2xlarge' });
    const types = ['g5.12xlarge', 'g5.xlarge', 'g5.2xlarge'];
    expect(of({ gpuInstanceTypes: types, maxVcpus: { gpu: 47, cpu: 64 } })).toMatchObject({ 'fit-foreground': 'g5.xlarge', 'linear-probe': 'g5.2xlarge' });
    expect(of({ gpuInstanceTypes: types, maxVcpus: { gpu: 48, cpu: 64 } })).toMatchObject({ 'fit-foreground': 'g5.12xlarge', 'linear-probe': 'g5.12xlarge' });
  });
});

describe('what a deployment has', () => {
  it('several variants of several nodes wait for each other', () => {
    const of = (nodes: number) => estimate(recipe('pretraining: { epochs: 100, nodes: 4 }\nvariants: [{ name: a }, { name: b }, { name: c }]'), { ...photographs, train: 100_000 }, { prices, machines: machines({ training: { instanceType: 'g5.2xlarge', nodes, gpus: 1 } }) });
    const { hours } = of(4).stages.find(({ stage }) => stage === 'pretrain')!;
    expect(of(4).hours - of(12).hours).toBeCloseTo(2 * hours, 9);
    expect(of(8).hours - of(12).hours).toBeCloseTo(hours, 9);
    expect(of(4).gpuHours).toBeCloseTo(of(12).gpuHours, 9);
  });

  it('jobs of a queue begin in their order, as soon as enough of it is free', () => {
    expect(endsInTurn([{ hours: 3, takes: 3 }, { hours: 1, takes: 2 }, { hours: 1, takes: 1 }], 4)).toEqual([3, 4, 4]);
    expect(endsInTurn([{ hours: 5, takes: 1 }, { hours: 1, takes: 1 }, { hours: 2, takes: 1 }, { hours: 9, takes: 2 }], 2)).toEqual([5, 1, 3, 14]);
  });

  it('stages that it has on Fargate take no GPU, as many at a time as it may have', () => {
    const [views] = estimate(recipe(''), { ...photographs, train: 4000 }, { prices: { ...prices, fargateVcpuHour: 0.5, fargateGBHour: 0.125 }, machines: machines({ cpuStages: ['generate-views'] }) }).stages.filter(({ stage }) => stage === 'generate-views');
    // Eight shards, four at a time; 16 vCPUs and 64 GB.
    expect(views).toMatchObject({ machine: 'Fargate', instances: 4, gpuHours: 0, gpusPerInstance: 0, limit: 'CPU', spot: false });
    expect(views!.dollars).toBeCloseTo(4 * views!.hours * 16, 9);
    expect(views!.hours).toBeGreaterThan(2 * 75 / 3600);
  });

  it('more nodes than it has are estimated, and said', () => {
    expect(estimate(recipe('pretraining: { nodes: 8, batch: 256 }\nvariants: [{ name: one }]'), photographs, { prices }).notes)
      .toEqual(['pretraining takes 8 machines at a time, and the deployment must have been given as many: its option training.nodes is 4']);
  });
});

describe('what is not known', () => {
  const of = (instanceType: string, given: Prices = prices, gpus = 8) => estimate(recipe('pretraining: { nodes: 8, batch: 256, epochs: 100 }\nvariants: [{ name: one }]'), { ...photographs, train: 100_000 }, { prices: given, machines: machines({ training: { instanceType, nodes: 1, gpus } }) });

  it('an instance type without a price leaves its sum out, and the note names the field and the file', () => {
    const result = of('p4d.24xlarge'), [training] = result.stages.filter(({ stage }) => stage === 'pretrain');
    expect(training).toMatchObject({ machine: 'p4d.24xlarge', gpusPerInstance: 8, dollars: 0, priced: false });
    expect(training!.gpuHours).toBeGreaterThan(1);
    expect(result.unpriced).toEqual(['p4d.24xlarge']);
    expect(result.notes).toEqual(['p4d.24xlarge has no price, and what it costs is left out: add onDemandPerHour["p4d.24xlarge"] to a copy of src/estimate/prices.json, and give that with --prices']);
    expect(of('p4d.24xlarge', { ...prices, file: 'ours.json' }).notes).toEqual(['p4d.24xlarge has no price, and what it costs is left out: add onDemandPerHour["p4d.24xlarge"] to ours.json']);
    const priced = of('p4d.24xlarge', { ...prices, onDemandPerHour: { ...prices.onDemandPerHour, 'p4d.24xlarge': 20 } });
    expect(priced.dollars.total - result.dollars.total).toBeCloseTo(priced.stages.find(({ stage }) => stage === 'pretrain')!.hours * 20.02, 9);
  });

  it('GPUs of an unknown family are counted as A10Gs, as many as the deployment says', () => {
    const given = { ...prices, onDemandPerHour: { ...prices.onDemandPerHour, 'p9.48xlarge': 100, 'g5.48xlarge': 100 } };
    expect(of('p9.48xlarge', given).notes).toEqual(['the GPUs of p9.48xlarge are not known, and counted as A10Gs: src/estimate/instanceTypes.ts has those that are']);
    expect(of('p9.48xlarge', given).gpuHours).toBeCloseTo(of('g5.48xlarge', given).gpuHours, 9);
  });

  it('a deployment that does not say what it has, or is elsewhere than the prices, is said', () => {
    const arn = (region: string): string => `arn:aws:states:${region}:123456789012:stateMachine:genview`;
    expect(notesOnDeployment(true, arn('nowhere-1'), prices)).toEqual([]);
    expect(notesOnDeployment(false, arn('eu-west-1'), prices)).toEqual([
      'this deployment does not say which machines it has, being of another version: those of one without options are taken; deployed again from this clone, it says so',
      'the deployment is in eu-west-1, and the prices are those of nowhere-1: give its own by --prices, in a copy of src/estimate/prices.json',
    ]);
    expect(notesOnDeployment(false, undefined, prices)).toEqual(['for a deployment without options of its own; --cloud or --stack takes those of one that there is']);
  });

  it('no images cost nothing', () => {
    expect(estimate(recipe(''), { train: 0, val: 0, bytes: 0 }, { prices })).toMatchObject({ stages: [], gpuHours: 0, hours: 0, dollars: { total: 0, storageMonth: 0 }, notes: [] });
  });

  it('a recipe beyond all bounds has finite sums, and notes on the jobs that Batch would end', () => {
    const result = estimate(recipe('generation: { viewsPerImage: 100 }\npretraining: { epochs: 1000000, nodes: 4, batch: 4096, queue: 4096 }\nvariants: [{ name: one }]'), { train: 20_000_000, val: 0, bytes: 2e12 }, { prices, models: published });
    expect([result.hours, result.gpuHours, result.dollars.total, result.dollars.storageMonth].every((value) => Number.isFinite(value) && value > 0)).toBe(true);
    expect(result.notes).toEqual([
      'generate-views takes 8 days a job, and Batch ends a job of this stage after 12 h: a smaller dataset.shardSize',
      'pair-similarity takes 17 h a job, and Batch ends a job of this stage after 6 h: a smaller evaluation.similarityImages',
      expect.stringMatching(/^pretrain one takes [\d,]+ days a job, and Batch ends a job of this stage after 14 days: more pretraining\.nodes, or fewer epochs$/),
      'nearest-neighbours one takes 14 h a job, and Batch ends a job of this stage after 12 h: take fewer images',
    ]);
    // Batch takes 10,000 shards at most.
    expect(workOf(recipe(''), { train: 20_000_000, val: 0, bytes: 1 }).find(({ stage }) => stage === 'generate-views')!.jobs).toBe(10_000);
  });

  it('an execution that outlives its 60 days is said to', () => {
    const result = estimate(recipe(`pretraining: { epochs: 3000, nodes: 4, batch: 4096, queue: 4096 }\nvariants: [${Array.from({ length: 60 }, (_, i) => `{ name: v${i} }`).join()}]`), { ...photographs, train: 1_000_000 }, { prices });
    expect(result.notes).toEqual([expect.stringMatching(/^an execution ends after 60 days, and this one takes \d+ days: take fewer variants at a time, or more machines$/)]);
  });
});

it('prices are a table that can be edited, and is checked', async () => {
  const own = await readPrices();
  expect(Object.keys(own.onDemandPerHour).filter((type) => !machineOf(type).known)).toEqual([]);
  expect([...defaultMachines.gpuInstanceTypes, defaultMachines.training.instanceType].filter((type) => own.onDemandPerHour[type] === undefined)).toEqual([]);
  const folder = await mkdtemp(path.join(tmpdir(), 'genview-prices-'));
  const file = path.join(folder, 'ours.json');
  try {
    await writeFile(file, JSON.stringify({ ...own, region: 'eu-west-1' }));
    expect((await readPrices(file)).region).toBe('eu-west-1');
    const refusal = async (text: string): Promise<string> => {
      await writeFile(file, text);
      const error = await readPrices(file).then(() => undefined, (cause: unknown) => cause as { code: string; message: string });
      expect(error).toMatchObject({ code: 'PricesInvalid' });
      return error!.message.replace(`--prices ${file}: `, 'FILE ');
    };
    const changed = (changes: object): Promise<string> => refusal(JSON.stringify({ ...own, ...changes }));
    const start = '; start from src/estimate/prices.json';
    expect(await changed({ spotShare: 3 })).toBe(`FILE spotShare must be at most 1, not 3${start}`);
    expect(await changed({ natPerHour: -0.1, onDemandPerHour: { 'g5.xlarge': 0, 'g5.2xlarge': '1.2' } }))
      .toBe(`FILE onDemandPerHour["g5.xlarge"] must be above 0, not 0; onDemandPerHour["g5.2xlarge"] must be a number of dollars, not "1.2"; natPerHour must be at least 0, not -0.1${start}`);
    expect(await refusal(JSON.stringify(own).replace('"spotShare":0.5', '"spotShare": NaN'))).toBe(`FILE spotShare must be a number of dollars, not "NaN"${start}`);
    expect(await refusal(JSON.stringify(own).replace('"logsPerGB":0.5', '"logsPerGB":1e999'))).toBe(`FILE logsPerGB must be a number of dollars, not Infinity${start}`);
    await writeFile(file, JSON.stringify({ ...own, note: 'of the moon: NaN, so far' }));
    expect((await readPrices(file)).note).toBe('of the moon: NaN, so far');
    expect(await changed({ natPerHour: 1e9 })).toBe(`FILE natPerHour must be at most 1000000, not 1000000000${start}`);
    expect(await changed({ spotShar: 0.5 })).toMatch(/^FILE spotShar is not a field of a price table, which has note, date, region, onDemandPerHour, spotShare, /);
    expect(await changed({ onDemandPerHour: { 'g5-xlarge': 1 } })).toBe(`FILE onDemandPerHour["g5-xlarge"] is no instance type such as g5.2xlarge${start}`);
    expect(await changed({ region: undefined })).toBe(`FILE region is missing${start}`);
    expect(await changed({ onDemandPerHour: [1] })).toBe(`FILE onDemandPerHour must be a group of fields, not [1]${start}`);
    expect(await changed({ date: 'today' })).toMatch(/^FILE date: Invalid ISO date/);
    expect(await refusal('[]')).toMatch(/^FILE the file must be a group of fields, not \[\]/);
    expect(await refusal('{')).toMatch(/^FILE .*JSON/);
    await expect(readPrices(path.join(folder, 'none.json'))).rejects.toMatchObject({ code: 'PricesInvalid', message: expect.stringContaining('none.json') as string });
  } finally { await rm(folder, { recursive: true }); }
});
