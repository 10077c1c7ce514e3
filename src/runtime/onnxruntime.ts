import './telemetry.ts';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { GenViewError } from '../errors.ts';
import type { HostTensor, NamedTensors } from '../tensor.ts';
import { large, type ExternalConstant, type Model } from '../compiler/emit.ts';
import { gpuIndex, type Device } from './device.ts';
import { writeExternal } from './modelFile.ts';
import { loadApi, type Api } from './native/api.ts';
import { configuration, NativeSession } from './native/session.ts';

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
export interface Session {
  /**
   * Computes `results`, whose arrays are written to, from `feeds`. A result may be the array of a feed that the model reads before it writes
   * the result. After an error the results are undefined.
   */
  run(feeds: NamedTensors, results: NamedTensors): Promise<void>;
  dispose(): Promise<void>;
}

/** Through onnxruntime-node's binding, which copies every output twice: out of onnxruntime, and by us to where it belongs. */
class BindingSession implements Session {
  readonly #session: ort.InferenceSession;
  readonly #profiled: boolean;

  constructor(session: ort.InferenceSession, profiled: boolean) { this.#session = session; this.#profiled = profiled; }

  async run(feeds: NamedTensors, results: NamedTensors): Promise<void> {
    const computed = await this.#session.run(Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toOrt(tensor)])), Object.keys(results));
    for (const [name, { data }] of Object.entries(results)) data.set(computed[name]!.data as typeof data);
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
      ...Object.fromEntries(Object.entries(configuration)),
      // Weights get memory of their own size; the arena, which grows by powers of two, is for what a run needs.
      ...(gpu !== undefined && { 'session.use_device_allocator_for_initializers': '1' }),
    },
  };
}

/** Constants above this size (bytes, altogether) are loaded from a file, which onnxruntime maps: in the model they would be copied three times. */
export const mappedAbove = 64 * 2 ** 20;

/** Name that a model gives the file of its constants when it is loaded right away. */
export const constantsFile = 'constants.data';

let api: Promise<Api | undefined> | undefined;

/** The C API; undefined where it cannot be called (no koffi for this platform) or GENVIEW_BINDING=node says not to. */
function nativeApi(): Promise<Api | undefined> {
  api ??= process.env['GENVIEW_BINDING'] === 'node' ? Promise.resolve(undefined) : loadApi().catch((error: unknown) => {
    process.emitWarning(`onnxruntime's C API cannot be called (${error instanceof Error ? error.message : String(error)}): programs run through onnxruntime-node, which copies what they return`);
    return undefined;
  });
  return api;
}

/**
 * Loads a model whose external constants are named {@link constantsFile}. On the CPU through onnxruntime's C API, which copies nothing (the constants have to
 * stay as they are), elsewhere through onnxruntime-node's binding and a file.
 * @param profile beginning of the name of a file for onnxruntime's own profile, which is complete when the session is disposed of
 */
export async function createSession(model: Model, name: string, threads: number, device: Device, profile?: string): Promise<Session> {
  const native = device === 'cpu' ? await nativeApi() : undefined;
  const { bytes, external } = model;
  try {
    if (native) {
      const size = (external ?? []).reduce((sum, { data }) => sum + data.byteLength, 0);
      if (!external || size <= large) return NativeSession.create(native, bytes, threads, { profile, constants: external });
      return await withFolder(external, async (folder) => NativeSession.create(native, bytes, threads, { profile, constants: external, folder }));
    }
    const options = { ...sessionOptions(threads, device), ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }) };
    const session = external ? await withFolder(external, async (folder) => {
      const file = path.join(folder, 'model.onnx');
      await writeFile(file, bytes);
      return ort.InferenceSession.create(file, options);
    }) : await ort.InferenceSession.create(bytes, options);
    return new BindingSession(session, profile !== undefined);
  } catch (error) {
    throw new Error(`onnxruntime rejects program "${name}": ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** Runs `body` with a folder that holds the constants, while it runs: what is mapped stays readable without its name. */
async function withFolder<Result>(constants: readonly ExternalConstant[], body: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = await mkdtemp(path.join(tmpdir(), 'genview-'));
  try {
    await writeExternal(path.join(folder, constantsFile), constants);
    return await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
