/**
 * Every assumption of the cost model that is not a property of a network (`flops.ts`), of a GPU (`instanceTypes.ts`) or a price (`prices.json`).
 * None was measured on the instance types named here. `docs/aws.md` explains the model.
 */

/**
 * Share of the peak that a network reaches. Inference of the published models is counted in half precision, training in float32.
 * L4 and L40S have little memory bandwidth for their peak, the L4 300 GB/s for 121 TFLOP/s.
 */
export const utilisation: Readonly<Record<string, { readonly inference: number; readonly training: number }>> = {
  T4: { inference: 0.3, training: 0.4 },
  A10G: { inference: 0.4, training: 0.25 },
  L4: { inference: 0.2, training: 0.12 },
  L40S: { inference: 0.25, training: 0.12 },
  A100: { inference: 0.35, training: 0.15 },
  H100: { inference: 0.3, training: 0.1 },
  H200: { inference: 0.3, training: 0.1 },
};

/**
 * What training keeps of its GPUs' speed with each doubling of its processes, on one machine or on several: gradients are summed over all of
 * them after every batch. 0.95 for two, 0.86 for eight, 0.81 for sixteen. Decoding and cropping lose nothing.
 */
export const keptByDoubling = 0.95;

/** What one job has on Fargate. */
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
/** GB of the root volume, and of log lines a GPU hour. */
export const volumeGB = 200;
export const logGBPerHour = 0.002;
/** Lambda GB-seconds of one run beside the listing, and seconds of one core to list and plan a thousand images. */
export const lambdaGBSecondsPerRun = 600;
export const lambdaSecondsPerThousandImages = 0.2;

/** Mean bytes of an image where nothing is known: the training images of ImageNet-1K. */
export const defaultImageBytes = 110_000;
