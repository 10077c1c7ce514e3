import { GenViewError } from '../errors.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { ProgramName } from '../workflow/stages.ts';
import { cpuStages, defaultMachines, defaultParallel, fargate, fargateOverheadSeconds, flopPerVcpu, instanceOverheadSeconds, jobOverheadSeconds, lambdaGBSecondsPerRun, lambdaSecondsPerThousandImages, logGBPerHour, machines, utilisation, volumeGB, type Machine } from './constants.ts';
import type { Prices } from './prices.ts';
import { type DatasetSize, type Models, modelsOf, type StageWork, storeWork, workOf } from './work.ts';

export interface EstimateOptions {
  readonly prices: Prices;
  /** Instance type of single and array jobs. @default g5.xlarge */
  readonly gpu?: string;
  /** Of multi-node jobs, on demand. @default g5.2xlarge */
  readonly training?: string;
  /** Whether single and array jobs run on spot. @default true */
  readonly spot?: boolean;
  /** Instances of the `gpu` queue at a time. @default 64 */
  readonly parallel?: number;
  /** @default those of the recipe */
  readonly models?: Models;
}

export interface StageEstimate {
  readonly stage: ProgramName;
  readonly variant?: string;
  readonly images: number;
  /** Hours of instances with one GPU, their start included; 0 on Fargate. */
  readonly gpuHours: number;
  /** Of these, hours in which machines, containers and models start. */
  readonly startHours: number;
  /** From the first job's start to the last one's end, with as many instances as there may be. */
  readonly hours: number;
  /** What the images wait for. */
  readonly limit: 'GPU' | 'CPU';
  readonly machine: string;
  readonly spot: boolean;
  readonly dollars: number;
}

export interface Estimate {
  readonly images: { readonly train: number; readonly val: number };
  readonly models: Models;
  readonly stages: readonly StageEstimate[];
  readonly gpuHours: number;
  /** Of the whole run when capacity is there at once. */
  readonly hours: number;
  readonly dollars: {
    readonly compute: number;
    /** Functions, requests, gateway, logs. */
    readonly other: number;
    /** What is paid for the run. */
    readonly total: number;
    /** What the results cost in each month that they are kept. */
    readonly storageMonth: number;
  };
  readonly prices: { readonly date: string; readonly region: string };
}

/**
 * What a run costs that finds nothing in its store. A stage's images take the longer of the GPU's time, operations by
 * `peak x utilisation`, and the CPU's, decoding and cropping by the instance's cores; each job adds its start, each
 * instance its boot. Assumptions: `constants.ts`; networks: `flops.ts`.
 *
 * Throws `InstanceTypeUnknown`.
 */
export function estimate(recipe: Recipe, dataset: DatasetSize, options: EstimateOptions): Estimate {
  const { prices, spot = true, parallel = defaultParallel, models = modelsOf(recipe) } = options;
  const types = { gpu: options.gpu ?? defaultMachines.gpu, training: options.training ?? defaultMachines.training };
  const machine = (type: string): Machine => {
    const known = machines[type];
    if (known === undefined || prices.onDemandPerHour[type] === undefined) {
      throw new GenViewError('InstanceTypeUnknown', `the estimate does not know ${type}: it knows ${Object.keys(machines).filter((name) => prices.onDemandPerHour[name] !== undefined).join(', ')}`);
    }
    return known;
  };

  const stages = workOf(recipe, dataset, models).map((work): StageEstimate => {
    const common = { stage: work.stage, ...(work.variant !== undefined && { variant: work.variant }), images: work.images };
    if (cpuStages.has(work.stage)) {
      const hours = (busyOnFargate(work) + jobOverheadSeconds.demo + fargateOverheadSeconds) / 3600;
      const perHour = fargate.vcpus * prices.fargateVcpuHour + fargate.memoryGB * prices.fargateGBHour;
      return { ...common, gpuHours: 0, startHours: 0, hours, limit: 'CPU', machine: 'Fargate', spot: false, dollars: hours * perHour };
    }
    const type = work.nodes > 1 ? types.training : types.gpu, onSpot = work.nodes === 1 && spot;
    const { busy, limit } = busySeconds(work, machine(type));
    const instances = work.nodes > 1 ? work.nodes : Math.min(work.jobs, parallel);
    const started = work.nodes > 1 ? work.nodes : work.jobs;
    const starts = started * (work.published ? jobOverheadSeconds.published : jobOverheadSeconds.demo);
    const startHours = (starts + instances * instanceOverheadSeconds) / 3600, machineHours = busy / 3600 + startHours;
    const perHour = prices.onDemandPerHour[type]! * (onSpot ? prices.spotShare : 1) + prices.volumeGBMonth * volumeGB / 730;
    return { ...common, gpuHours: machineHours, startHours, hours: machineHours / instances, limit, machine: type, spot: onSpot, dollars: machineHours * perHour };
  });

  const gpuHours = sum(stages.map((stage) => stage.gpuHours)), compute = sum(stages.map((stage) => stage.dollars));
  const hours = longestPath(stages);
  const store = storeWork(recipe, dataset, models);
  const lambda = (lambdaGBSecondsPerRun + (dataset.train + dataset.val) / 1000 * lambdaSecondsPerThousandImages) * prices.lambdaGBSecond;
  const other = lambda + hours * prices.natPerHour + gpuHours * logGBPerHour * prices.logsPerGB + store.puts / 1000 * prices.putsPerThousand + store.gets / 1000 * prices.getsPerThousand;
  return {
    images: { train: dataset.train, val: dataset.val }, models, stages, gpuHours, hours,
    dollars: { compute, other, total: compute + other, storageMonth: store.bytes / 1e9 * prices.storageGBMonth },
    prices: { date: prices.date, region: prices.region },
  };
}

/** Seconds of one instance for the images themselves. */
export function busySeconds({ inferenceFlop, trainingFlop, cpuSeconds }: StageWork, { gpu, vcpus, peakHalf, peakFloat32 }: Machine): { readonly busy: number; readonly limit: 'GPU' | 'CPU' } {
  const share = utilisation[gpu]!;
  const onGpu = inferenceFlop / (peakHalf * 1e12 * share.inference) + trainingFlop / (peakFloat32 * 1e12 * share.training);
  const onCpu = cpuSeconds / vcpus;
  return onGpu >= onCpu ? { busy: onGpu, limit: 'GPU' } : { busy: onCpu, limit: 'CPU' };
}

/** There the networks and the decoding share the cores. */
export function busyOnFargate({ inferenceFlop, trainingFlop, cpuSeconds }: StageWork): number {
  return ((inferenceFlop + trainingFlop) / flopPerVcpu + cpuSeconds) / fargate.vcpus;
}

/** The stages up to the views one after the other; then the variants side by side, each with its probes side by side. */
function longestPath(stages: readonly StageEstimate[]): number {
  const before = sum(stages.filter(({ stage }) => stage === 'fit-foreground' || stage === 'analyze-foreground' || stage === 'generate-views').map(({ hours }) => hours));
  const variants = new Set(stages.flatMap(({ variant }) => variant ?? []));
  const branches = [...variants].map((name) => {
    const own = stages.filter(({ variant }) => variant === name);
    return sum(own.filter(({ stage }) => stage === 'pretrain').map(({ hours }) => hours)) + Math.max(0, ...own.filter(({ stage }) => stage !== 'pretrain').map(({ hours }) => hours));
  });
  return before + Math.max(0, ...branches, ...stages.filter(({ stage }) => stage === 'pair-similarity').map(({ hours }) => hours));
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
