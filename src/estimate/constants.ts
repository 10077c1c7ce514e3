import type { ProgramName } from '../workflow/stages.ts';

/**
 * Every assumption of the cost model that is neither a property of a network (`flops.ts`) nor a price (`prices.json`). They are
 * assumptions: none was measured on the instance types named here. `docs/aws.md` explains the model.
 */

/** A GPU instance type: one GPU each, since a job asks for one. */
export interface Machine {
  readonly gpu: string;
  readonly vcpus: number;
  /** Dense peak of the tensor cores in TFLOP/s (the makers' data sheets): half precision, and float32 as TF32 where there is TF32. */
  readonly peakHalf: number;
  readonly peakFloat32: number;
}

const t4 = { gpu: 'T4', peakHalf: 65, peakFloat32: 8.1 } as const;
const a10g = { gpu: 'A10G', peakHalf: 70, peakFloat32: 35 } as const;
const l4 = { gpu: 'L4', peakHalf: 121, peakFloat32: 60 } as const;
const l40s = { gpu: 'L40S', peakHalf: 362, peakFloat32: 183 } as const;

export const machines: Readonly<Record<string, Machine>> = {
  'g4dn.xlarge': { ...t4, vcpus: 4 },
  'g4dn.2xlarge': { ...t4, vcpus: 8 },
  'g5.xlarge': { ...a10g, vcpus: 4 },
  'g5.2xlarge': { ...a10g, vcpus: 8 },
  'g6.xlarge': { ...l4, vcpus: 4 },
  'g6.2xlarge': { ...l4, vcpus: 8 },
  'g6e.xlarge': { ...l40s, vcpus: 4 },
  'g6e.2xlarge': { ...l40s, vcpus: 8 },
};

/**
 * Share of the peak that a network reaches. Inference of the published models is counted in half precision, training in float32.
 * L4 and L40S have little memory bandwidth for their peak, the L4 300 GB/s for 121 TFLOP/s.
 */
export const utilisation: Readonly<Record<string, { readonly inference: number; readonly training: number }>> = {
  T4: { inference: 0.3, training: 0.4 },
  A10G: { inference: 0.4, training: 0.25 },
  L4: { inference: 0.2, training: 0.12 },
  L40S: { inference: 0.25, training: 0.12 },
};

/** What the deployment uses unless its options say otherwise: array and single jobs on spot, multi-node jobs on demand. */
export const defaultMachines = { gpu: 'g5.xlarge', training: 'g5.2xlarge' } as const;

/** Stages without a GPU, on Fargate, and what one job has there. */
export const cpuStages: ReadonlySet<ProgramName> = new Set<ProgramName>(['nearest-neighbours']);
export const fargate = { vcpus: 16, memoryGB: 64 } as const;
/** float32 operations a second of one Fargate vCPU, half a core, in onnxruntime. */
export const flopPerVcpu = 30e9;

/** Bytes of compressed image that one core decodes in a second, resizing included (sharp: some 4 ms for a photograph of 110 kB). */
export const decodedBytesPerSecond = 25e6;
/** A generated PNG holds more pixels a byte than a JPEG takes time for. */
export const decodedPngBytesPerSecond = 60e6;
/** Seconds of one core for a crop of `side` pixels, with its share of everything that is done once for an image. */
export const cropSeconds = (side: number): number => 1e-4 + side ** 2 / 1.5e8;
/** Bytes of a generated PNG for each byte of its pixels. */
export const pngRatio = 0.6;

/** Seconds that an instance is paid for before its first job starts and after its last one ended: boot, image, scale-in. On Fargate only the image. */
export const instanceOverheadSeconds = 420;
export const fargateOverheadSeconds = 60;
/** Seconds that every job and array child spends before its first image: container, engine, weights. */
export const jobOverheadSeconds = { demo: 15, published: 60 } as const;
/** Instances of the `gpu` queue that work at a time: 256 vCPUs of four each. */
export const defaultParallel = 64;
/** GB of the root volume, and of log lines a GPU hour. */
export const volumeGB = 200;
export const logGBPerHour = 0.002;
/** Lambda GB-seconds of one run beside the listing, and seconds of one core to list and plan a thousand images. */
export const lambdaGBSecondsPerRun = 600;
export const lambdaSecondsPerThousandImages = 0.2;

/** Mean bytes of an image where nothing is known: the training images of ImageNet-1K. */
export const defaultImageBytes = 110_000;
