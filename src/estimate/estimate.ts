import type { Recipe } from '../recipe/recipe.ts';
import { defaultMachines, type DeployedMachines } from '../workflow/deployedMachines.ts';
import type { ProgramName } from '../workflow/stages.ts';
import { fargate, flopPerVcpu, keptByDoubling, lambdaGBSecondsPerRun, lambdaSecondsPerThousandImages, logGBPerHour, utilisation, volumeGB } from './constants.ts';
import type { Gpu } from './instanceTypes.ts';
import { notesOn } from './notes.ts';
import { endsInTurn, type Placement, placementOf } from './placement.ts';
import type { Prices } from './prices.ts';
import { type DatasetSize, type Models, modelsOf, type StageWork, storeWork, workOf } from './work.ts';

export interface EstimateOptions {
  readonly prices: Prices;
  /** What the deployment has. @default what one without options has */
  readonly machines?: DeployedMachines;
  /** @default those of the recipe */
  readonly models?: Models;
}

export interface StageEstimate {
  readonly stage: ProgramName;
  readonly variant?: string;
  readonly images: number;
  /** Hours of the GPUs of all instances, those included that have nothing to do, and the instances' start; 0 on Fargate. */
  readonly gpuHours: number;
  /** Of these, hours in which machines, containers and models start. */
  readonly startHours: number;
  /** From the first job's start to the last one's end, with as many instances as there may be. */
  readonly hours: number;
  /** Of the one job, all its nodes together, or of a child of an array job. */
  readonly jobHours: number;
  /** What the images wait for. */
  readonly limit: 'GPU' | 'CPU';
  /** Instance type, or `Fargate`. */
  readonly machine: string;
  /** At a time; part of one where jobs of several variants share it. */
  readonly instances: number;
  readonly gpusPerInstance: number;
  /** Pretraining processes, one for each GPU in use. */
  readonly processes: number;
  readonly spot: boolean;
  readonly dollars: number;
  /** False where the instance type has no price: `dollars` is then 0. */
  readonly priced: boolean;
}

export interface Estimate {
  readonly images: { readonly train: number; readonly val: number };
  readonly models: Models;
  readonly stages: readonly StageEstimate[];
  readonly gpuHours: number;
  /** Of the whole run when capacity is there at once. */
  readonly hours: number;
  readonly dollars: {
    /** Without the instance types of `unpriced`. */
    readonly compute: number;
    /** Functions, requests, gateway, logs. */
    readonly other: number;
    /** What is paid for the run. */
    readonly total: number;
    /** What the results cost in each month that they are kept. */
    readonly storageMonth: number;
  };
  readonly prices: { readonly date: string; readonly region: string };
  readonly machines: DeployedMachines;
  /** Instance types that the run uses and the price file does not have. */
  readonly unpriced: readonly string[];
  /** What a person should know of this estimate, or do about it; a sentence each. */
  readonly notes: readonly string[];
}

/**
 * What a run costs that finds nothing in its store. A stage's images take the longer of the GPU's time, operations by
 * `peak x utilisation`, and the CPU's, decoding and cropping by the cores that its job
 * is given, not all of the instance's; each job adds its start, each instance its boot. What is paid for is instances, whatever their GPUs do. Assumptions: `constants.ts`; GPUs: `instanceTypes.ts`; networks: `flops.ts`.
 *
 * An instance type without a price costs nothing and is said in `unpriced` and `notes`.
 */
export function estimate(recipe: Recipe, dataset: DatasetSize, options: EstimateOptions): Estimate {
  const { prices, machines = defaultMachines, models = modelsOf(recipe) } = options;
  const works = workOf(recipe, dataset, models);
  const placements = works.map((work) => placementOf(work, works, machines, prices));
  const stages = works.map((work, i) => estimateStage(work, placements[i]!, prices));

  const gpuHours = sum(stages.map((stage) => stage.gpuHours)), compute = sum(stages.map((stage) => stage.dollars));
  const hours = longestPath(stages, placements);
  const store = storeWork(recipe, dataset, models);
  const lambda = (lambdaGBSecondsPerRun + (dataset.train + dataset.val) / 1000 * lambdaSecondsPerThousandImages) * prices.lambdaGBSecond;
  const other = lambda + hours * prices.natPerHour + gpuHours * logGBPerHour * prices.logsPerGB + store.puts / 1000 * prices.putsPerThousand + store.gets / 1000 * prices.getsPerThousand;
  const unpriced = [...new Set(stages.filter(({ priced }) => !priced).map(({ machine }) => machine))];
  return {
    images: { train: dataset.train, val: dataset.val }, models, stages, gpuHours, hours,
    dollars: { compute, other, total: compute + other, storageMonth: store.bytes / 1e9 * prices.storageGBMonth },
    prices: { date: prices.date, region: prices.region },
    machines, unpriced, notes: notesOn({ stages, hours, unpriced }, machines, prices),
  };
}

function estimateStage(work: StageWork, { queue, machine, type, cores, spot, processes, instances, jobSeconds, machineSeconds }: Placement, prices: Prices): StageEstimate {
  const { busy, limit } = queue === 'cpu' ? { busy: busyOnFargate(work), limit: 'CPU' as const }
    : busySeconds(work, { gpu: type.gpu, cores }, work.nodes > 1 ? keptByDoubling ** Math.log2(work.nodes) : 1);
  const children = work.jobs * work.nodes, starting = children * jobSeconds / processes + machineSeconds, hours = (busy / processes + starting) / 3600;
  const listed = prices.onDemandPerHour[machine];
  const perHour = queue === 'cpu' ? fargate.vcpus * prices.fargateVcpuHour + fargate.memoryGB * prices.fargateGBHour
    : listed === undefined ? undefined : listed * (spot ? prices.spotShare : 1) + prices.volumeGBMonth * volumeGB / 730;
  return {
    stage: work.stage, ...(work.variant !== undefined && { variant: work.variant }), images: work.images,
    gpuHours: hours * instances * type.gpus, startHours: starting / 3600 * instances * type.gpus, hours, jobHours: (busy / children + jobSeconds) / 3600, limit,
    machine, instances, gpusPerInstance: type.gpus, processes: work.nodes, spot,
    dollars: perHour === undefined ? 0 : hours * instances * perHour, priced: perHour !== undefined,
  };
}

/** Seconds of one process for all images themselves. @param kept share of the GPUs' speed that several processes together keep */
export function busySeconds({ inferenceFlop, trainingFlop, cpuSeconds }: StageWork, { gpu, cores }: { readonly gpu: Gpu; readonly cores: number }, kept = 1): { readonly busy: number; readonly limit: 'GPU' | 'CPU' } {
  const share = utilisation[gpu.name]!;
  const onGpu = (inferenceFlop / (gpu.peakHalf * 1e12 * share.inference) + trainingFlop / (gpu.peakFloat32 * 1e12 * share.training)) / kept;
  const onCpu = cpuSeconds / cores;
  return onGpu >= onCpu ? { busy: onGpu, limit: 'GPU' } : { busy: onCpu, limit: 'CPU' };
}

/** There the networks and the decoding share the cores. */
export function busyOnFargate({ inferenceFlop, trainingFlop, cpuSeconds }: StageWork): number {
  return ((inferenceFlop + trainingFlop) / flopPerVcpu + cpuSeconds) / fargate.vcpus;
}

/** The stages up to the views one after the other; then the variants side by side as far as there are machines, each with its probes side by side. */
function longestPath(stages: readonly StageEstimate[], placements: readonly Placement[]): number {
  const before = sum(stages.filter(({ stage }) => stage === 'fit-foreground' || stage === 'analyze-foreground' || stage === 'generate-views').map(({ hours }) => hours));
  const trainings = stages.map((stage, i) => ({ ...stage, ...placements[i]! })).filter(({ stage }) => stage === 'pretrain');
  const trained = new Map<string, number>();
  for (const queue of new Set(trainings.map((training) => training.queue))) {
    const jobs = trainings.filter((training) => training.queue === queue), ends = endsInTurn(jobs, Math.max(...jobs.map(({ capacity }) => capacity)));
    for (const [i, { variant }] of jobs.entries()) trained.set(variant!, ends[i]!);
  }
  const branches = [...new Set(stages.flatMap(({ variant }) => variant ?? []))].map((name) =>
    (trained.get(name) ?? 0) + Math.max(0, ...stages.filter(({ variant, stage }) => variant === name && stage !== 'pretrain').map(({ hours }) => hours)));
  return before + Math.max(0, ...branches, ...stages.filter(({ stage }) => stage === 'pair-similarity').map(({ hours }) => hours));
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
