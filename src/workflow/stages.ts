/**
 * The stages of the workflow as machines see them: which kind of compute runs each, with how much of it, how long, and
 * how often. The state machine, the local Batch and the CDK app all read this one table.
 */

export type LambdaName = 'resolve-recipe' | 'shard-dataset' | 'plan-views' | 'report' | 'record-failure';
export type ProgramName = 'fit-foreground' | 'analyze-foreground' | 'generate-views' | 'pair-similarity' | 'pretrain' | 'linear-probe' | 'nearest-neighbours' | 'semi-supervised';
export type ImageName = 'foreground' | 'generation' | 'pretraining' | 'evaluation';
/**
 * `gpu`: spot, then on demand. `training`: on demand, one instance type, close together: multi-node jobs need that.
 * `cpu`: Fargate, no GPU.
 */
export type QueueName = 'gpu' | 'training' | 'cpu';
/** Pretraining has two: Batch keeps single and multi-node jobs apart. */
export type JobDefinitionName = ProgramName | 'pretrain-nodes';

export interface LambdaStage {
  readonly kind: 'lambda';
  readonly memoryMiB: number;
  readonly timeoutSeconds: number;
  /**
   * `bundle`: plain JavaScript. `image`: needs packages with native code (sharp, onnxruntime; together above the 250 MB that a bundle
   * may have) or files of this package (models, artwork).
   */
  readonly packaging: 'bundle' | 'image';
}

export interface BatchStage {
  readonly kind: 'batch';
  /** Folder in `containers/`; its `main.ts` runs the stage by name. */
  readonly image: ImageName;
  /** `array`: one child job a shard. */
  readonly shape: 'single' | 'array';
  /** Whether the program takes `--variant`. */
  readonly perVariant: boolean;
  /** Where its jobs wait for a machine; several nodes of one job always use `training`. */
  readonly queue: 'gpu' | 'cpu';
  readonly vcpus: number;
  readonly gpus: number;
  readonly memoryMiB: number;
  /** Size of /dev/shm, part of the memory: MPI and CUDA exchange there. Fargate has none to give. */
  readonly sharedMemoryMiB: number;
  /** Of one attempt: a child of an array job, or all nodes together. */
  readonly timeoutSeconds: number;
  readonly retry: RetryStrategy;
  /** What runs at the same time on one machine; decides the threads of a local process, see `localThreads`. */
  readonly beside: 'nothing' | 'shards' | 'variants' | 'probes';
}

/** Batch's retry strategy. The first rule that matches decides, and without a match Batch retries: the last rule matches everything. */
export interface RetryStrategy {
  /** 1 to 10, the first included. */
  readonly attempts: number;
  readonly evaluateOnExit: readonly {
    readonly action: 'RETRY' | 'EXIT';
    /** Glob patterns, `*` at the end only. */
    readonly onStatusReason?: string;
    readonly onReason?: string;
    readonly onExitCode?: string;
  }[];
}

/**
 * Repeats what asks for it with exit code 75, and whatever went wrong but by the program's own end: a lost host, a spot machine or Fargate
 * task that was taken away, an image that could not be pulled, a task that did not start. What a program ends by itself gets no better.
 * Batch itself repeats nothing that was terminated or ran into its timeout.
 */
const retry: RetryStrategy = {
  attempts: 5,
  evaluateOnExit: [
    { action: 'RETRY', onExitCode: '75' },
    { action: 'EXIT', onStatusReason: 'Essential container in task exited*' },
    { action: 'RETRY', onStatusReason: '*' },
    { action: 'EXIT', onReason: '*' },
  ],
};

const hour = 3600;
/** Days on spot machines may be interrupted often, and each attempt goes on from a checkpoint. */
const patient: RetryStrategy = { ...retry, attempts: 10 };
const single = { kind: 'batch', shape: 'single', perVariant: false, retry } as const;
/** What fits the smallest GPU instances (4 vCPUs, 16 GiB) beside what the machine itself needs. */
const gpu = { ...single, queue: 'gpu', vcpus: 4, gpus: 1, memoryMiB: 15_000, sharedMemoryMiB: 1024 } as const;
/** A size that Fargate has; one job's share of the queue's vCPUs. */
export const cpuResources = { queue: 'cpu', vcpus: 16, gpus: 0, memoryMiB: 65_536, sharedMemoryMiB: 0 } as const;

export const lambdaStages: Readonly<Record<LambdaName, LambdaStage>> = {
  'resolve-recipe': { kind: 'lambda', memoryMiB: 2048, timeoutSeconds: 900, packaging: 'image' },
  'shard-dataset': { kind: 'lambda', memoryMiB: 2048, timeoutSeconds: 900, packaging: 'bundle' },
  'plan-views': { kind: 'lambda', memoryMiB: 2048, timeoutSeconds: 900, packaging: 'bundle' },
  'report': { kind: 'lambda', memoryMiB: 3008, timeoutSeconds: 900, packaging: 'image' },
  'record-failure': { kind: 'lambda', memoryMiB: 512, timeoutSeconds: 60, packaging: 'bundle' },
};

export const batchStages: Readonly<Record<ProgramName, BatchStage>> = {
  'fit-foreground': { ...gpu, image: 'foreground', timeoutSeconds: 6 * hour, beside: 'nothing' },
  'analyze-foreground': { ...gpu, image: 'foreground', shape: 'array', timeoutSeconds: 2 * hour, beside: 'shards' },
  'generate-views': { ...gpu, image: 'generation', shape: 'array', timeoutSeconds: 12 * hour, beside: 'shards' },
  'pair-similarity': { ...gpu, image: 'generation', timeoutSeconds: 6 * hour, beside: 'shards' },
  'pretrain': { ...gpu, image: 'pretraining', perVariant: true, retry: patient, sharedMemoryMiB: 4096, timeoutSeconds: 14 * 24 * hour, beside: 'variants' },
  // Features above 1 GiB are in a temporary file. The memory is for its pages: every epoch reads them in random order, ImageNet's 21 GB too.
  'linear-probe': { ...gpu, image: 'evaluation', perVariant: true, vcpus: 8, memoryMiB: 30_000, timeoutSeconds: 24 * hour, beside: 'probes' },
  // One pass over the images, whose features are compared with those of all validation images as they come: that asks for cores, and nothing waits for it.
  'nearest-neighbours': { ...single, ...cpuResources, image: 'evaluation', perVariant: true, timeoutSeconds: 12 * hour, beside: 'probes' },
  'semi-supervised': { ...gpu, image: 'evaluation', perVariant: true, timeoutSeconds: 24 * hour, beside: 'probes' },
};

export const lambdaNames = Object.keys(lambdaStages) as readonly LambdaName[];
export const programNames = Object.keys(batchStages) as readonly ProgramName[];
export const jobDefinitionNames: readonly JobDefinitionName[] = [...programNames, 'pretrain-nodes'];

export function isProgramName(name: string): name is ProgramName {
  return Object.hasOwn(batchStages, name);
}

export function programOf(definition: JobDefinitionName): ProgramName {
  return definition === 'pretrain-nodes' ? 'pretrain' : definition;
}

export function queueOf(definition: JobDefinitionName): QueueName {
  return definition === 'pretrain-nodes' ? 'training' : batchStages[definition].queue;
}

/**
 * Threads of one process of a stage on a machine with `cores` cores, at least 1. Depends on the recipe and the machine
 * only, never on what happens to be running: a repeated run must compute with the same threads to write the same bytes.
 *
 * @param variants processes of each variant (its nodes)
 */
export function localThreads(program: ProgramName, cores: number, variants: readonly number[]): number {
  const { beside } = batchStages[program];
  const processes = beside === 'nothing' ? 1
    : beside === 'shards' ? cores
      : beside === 'variants' ? variants.reduce((sum, nodes) => sum + nodes, 0)
        : variants.length * Object.values(batchStages).filter((stage) => stage.beside === 'probes').length;
  return Math.max(1, Math.floor(cores / Math.max(1, processes)));
}
