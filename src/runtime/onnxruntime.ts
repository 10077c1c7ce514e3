import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { GenViewError } from '../errors.ts';
import type { DataOf, DataType, HostTensor, NamedTensors } from '../tensor.ts';
import type { Model } from '../compiler/emit.ts';
import { gpuIndex, type Device } from './device.ts';
import { writeExternal } from './modelFile.ts';

/** Threads of an engine: the option, else GENVIEW_THREADS, else the number of cores. */
export function threadCount(option?: number): number {
  const text = process.env['GENVIEW_THREADS'];
  const threads = option ?? (text ? Number(text) : availableParallelism());
  if (!Number.isInteger(threads) || threads < 1) {
    throw new GenViewError('ThreadsInvalid', `${option === undefined ? 'GENVIEW_THREADS' : 'threads'} is "${option ?? text}"; give a whole number of at least 1`);
  }
  return threads;
}

/** A model loaded into onnxruntime. */
export class Session {
  readonly #session: ort.InferenceSession;
  readonly #profiled: boolean;

  constructor(session: ort.InferenceSession, profiled = false) { this.#session = session; this.#profiled = profiled; }

  /** Runs the model; every output is a new array. (onnxruntime-node copies outputs even when it is given arrays to write them into.) */
  async run(feeds: NamedTensors): Promise<Record<string, DataOf[DataType]>> {
    const results = await this.#session.run(Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toOrt(tensor)])));
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor.data as DataOf[DataType]]));
  }

  async dispose(): Promise<void> {
    if (this.#profiled) this.#session.endProfiling();
    await this.#session.release();
  }
}

const toOrt = ({ dtype, data, shape }: HostTensor): ort.Tensor => new ort.Tensor(dtype, data, shape);

/**
 * `threads` inside an operator, one operator at a time, so that every run gives the same bytes on the CPU. On a GPU what has no
 * CUDA kernel runs on the CPU.
 */
export function sessionOptions(threads: number, device: Device = 'cpu'): ort.InferenceSession.SessionOptions {
  const gpu = gpuIndex(device);
  return {
    executionProviders: gpu === undefined ? ['cpu'] : [{ name: 'cuda', deviceId: gpu }, 'cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    extra: {
      session: {
        // Denormals (decaying momentum and moving averages) cost a hundredfold and change nothing.
        set_denormal_as_zero: '1',
        // Weights get memory of their own size; the arena, which grows by powers of two, is for what a run needs.
        ...(gpu !== undefined && { use_device_allocator_for_initializers: '1' }),
        // Idle threads sleep instead of spinning: image decoding and other processes need the cores.
        intra_op: { allow_spinning: '0' },
      },
    },
  };
}

/** Constants above this size (bytes, altogether) are loaded from a file, which onnxruntime maps: in the model they would be copied three times. */
export const mappedAbove = 64 * 2 ** 20;

/** Name that a model gives the file of its constants when it is loaded right away. */
export const constantsFile = 'constants.data';

/**
 * Loads a model with {@link sessionOptions}; its external constants are in {@link constantsFile}.
 * @param profile beginning of the name of a file for onnxruntime's own profile, which is complete when the session is disposed of
 */
export async function createSession(model: Model, name: string, threads: number, device: Device, profile?: string): Promise<Session> {
  const options = { ...sessionOptions(threads, device), ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }) };
  try {
    return new Session(await (model.external ? createFromFiles(model, model.external, options) : ort.InferenceSession.create(model.bytes, options)), profile !== undefined);
  } catch (error) {
    throw new Error(`onnxruntime rejects program "${name}": ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

async function createFromFiles(model: Model, external: readonly Uint8Array[], options: ort.InferenceSession.SessionOptions): Promise<ort.InferenceSession> {
  const folder = await mkdtemp(path.join(tmpdir(), 'genview-'));
  try {
    const file = path.join(folder, 'model.onnx');
    await Promise.all([writeFile(file, model.bytes), writeExternal(path.join(folder, constantsFile), external)]);
    return await ort.InferenceSession.create(file, options);
  } finally {
    // What is mapped stays readable without its name.
    await rm(folder, { recursive: true, force: true });
  }
}
