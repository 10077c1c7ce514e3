import './telemetry.ts';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { GenViewError } from '../errors.ts';
import type { Log } from '../log.ts';
import { executorName } from './executor.ts';

/** Where programs run: the processor, or an NVIDIA GPU by its number among those that this process sees. */
export type Device = 'cpu' | `cuda:${number}`;

/** A device, and why it was chosen. */
export interface ChosenDevice {
  readonly device: Device;
  readonly reason: string;
}

/** Why a GPU cannot be used. */
export interface Problem {
  readonly what: string;
  readonly remedy: string;
}

/** What this machine has of what CUDA needs. */
export interface Machine {
  /** NVIDIA GPUs that this process sees. */
  readonly gpus: number;
  /** Why onnxruntime cannot use GPU `index`, which is one of those; undefined when it can. */
  cudaProblem(index: number): Promise<Problem | undefined>;
}

/**
 * A device as people write it: `cpu`, `cuda` (the first GPU) or `cuda:<n>`; undefined for an empty text or `auto`, which
 * leaves the choice to {@link chooseDevice}.
 * @param source what the text is, for the error message
 * @throws GenViewError `DeviceInvalid`
 */
export function parseDevice(text: string | undefined, source = 'GENVIEW_DEVICE'): Device | undefined {
  if (text === undefined || text === '' || text === 'auto') return undefined;
  if (text === 'cpu') return 'cpu';
  const index = /^cuda(?::(\d{1,3}))?$/.exec(text);
  if (!index) throw new GenViewError('DeviceInvalid', `${source} is "${text}"; give cpu, cuda or cuda:<n>`);
  return `cuda:${Number(index[1] ?? 0)}`;
}

/** Number of the GPU; undefined for the CPU. */
export const gpuIndex = (device: Device): number | undefined => (device === 'cpu' ? undefined : Number(device.slice(5)));

/**
 * The device that was asked for, else the first GPU that onnxruntime can use, else the CPU.
 * @throws GenViewError `DeviceUnavailable` when a GPU was asked for and cannot be had: what is missing, and what to do
 */
export async function chooseDevice(asked: Device | undefined, machine: Machine = thisMachine): Promise<ChosenDevice> {
  if (asked === 'cpu') return { device: 'cpu', reason: 'as asked' };
  const index = asked === undefined ? 0 : gpuIndex(asked)!;
  const problem = await problemOf(index, machine);
  if (problem === undefined) return { device: `cuda:${index}`, reason: asked === undefined ? 'an NVIDIA GPU is visible' : 'as asked' };
  // A GPU that lies idle for want of a library is worth the remedy; a machine without one is not.
  if (asked === undefined) return { device: 'cpu', reason: machine.gpus === 0 ? problem.what : `${problem.what}; ${problem.remedy}` };
  throw unavailable(asked, problem);
}

const unavailable = (asked: Device, { what, remedy }: Problem): GenViewError => new GenViewError('DeviceUnavailable', `device ${asked} cannot be had: ${what}; ${remedy}, or choose the device cpu`);

async function problemOf(index: number, machine: Machine): Promise<Problem | undefined> {
  return hidden(index, machine) ?? machine.cudaProblem(index);
}

/** Why there is no such GPU, whatever may use it. */
function hidden(index: number, machine: Machine): Problem | undefined {
  if (machine.gpus === 0) return { what: 'no NVIDIA GPU is visible', remedy: 'look at nvidia-smi and CUDA_VISIBLE_DEVICES' };
  if (index >= machine.gpus) return { what: machine.gpus === 1 ? 'there is one GPU' : `there are ${machine.gpus} GPUs`, remedy: `choose ${machine.gpus === 1 ? 'cuda:0' : `cuda:0 to cuda:${machine.gpus - 1}`}` };
  return undefined;
}

const chosen = new Map<string, Promise<ChosenDevice>>();

/**
 * The device of this process's programs: the option, else GENVIEW_DEVICE, else chosen; tried once a process.
 * Programs of executor `tensorflow` run where their own library does, see `eagerBackend`.
 */
export function currentDevice(option?: Device, env: NodeJS.ProcessEnv = process.env): Promise<ChosenDevice> {
  const asked = option ?? parseDevice(env['GENVIEW_DEVICE']), key = asked ?? 'auto';
  let device = chosen.get(key);
  if (!device) { device = chooseDevice(asked); chosen.set(key, device); }
  return device;
}

/**
 * One line: what runs the programs of this process, where, and why there.
 * @throws GenViewError `DeviceUnavailable`; of executor `tensorflow` only where there is no such GPU, the rest shows when its library is loaded
 */
export async function describeEngine(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const executor = executorName(undefined, env);
  if (executor === 'tensorflow') {
    const asked = parseDevice(env['GENVIEW_DEVICE']), index = asked && gpuIndex(asked);
    const problem = index === undefined ? undefined : hidden(index, thisMachine);
    if (problem) throw unavailable(asked!, problem);
    return `executor tensorflow, device ${asked === undefined ? "of TensorFlow's choice" : `${asked}: as asked`}`;
  }
  const { device, reason } = await currentDevice(undefined, env);
  return `executor ${executor}, device ${device}: ${reason}`;
}

/** Says {@link describeEngine}; throws as {@link currentDevice} does, so that a command ends before it has begun. */
export async function announceEngine(log: Log): Promise<void> {
  log.info(await describeEngine());
}

/** Where onnxruntime-node keeps its native libraries (its dist/binding.js). */
export const libraryFolder = (): string => path.join(path.dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')), 'bin', 'napi-v6', process.platform, process.arch);

const install = 'install it with ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js';

/** GPUs that the driver shows: its list, or the device files where a container has only those. */
function visibleGpus(env: NodeJS.ProcessEnv): number {
  const entries = (folder: string, pattern: RegExp): number => {
    try { return readdirSync(folder).filter((name) => pattern.test(name)).length; } catch { return 0; }
  };
  const present = entries('/proc/driver/nvidia/gpus', /./) || entries('/dev', /^nvidia\d+$/);
  const shown = env['CUDA_VISIBLE_DEVICES'];
  if (shown === undefined) return present;
  // The list ends where CUDA finds an entry that names nothing.
  const listed = shown.split(',').map((entry) => entry.trim());
  const end = listed.findIndex((entry) => entry === '' || entry.startsWith('-'));
  return Math.min(present, end < 0 ? listed.length : end);
}

/** Shared libraries that `file` needs and the loader does not find; none where there is no `ldd` to ask. */
export async function missingLibraries(file: string): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)('ldd', [file]);
    return [...stdout.matchAll(/^\s*(\S+) => not found/gm)].map((match) => match[1]!);
  } catch {
    return [];
  }
}

/** The driver's library, which comes with the driver and not with CUDA; in a container, from the host. */
const driver = 'libcuda.so.1';
const cudnn = 'libcudnn.so.9';

/** What to do when onnxruntime's CUDA library lacks some others. */
export function needs(missing: readonly string[]): Problem {
  const remedy = missing.every((name) => name === driver)
    ? "it belongs to NVIDIA's driver: start the container with the NVIDIA Container Toolkit (--gpus) and NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    : 'install the CUDA version that it was built for, and cuDNN 9, where the loader finds them (LD_LIBRARY_PATH)';
  return { what: `onnxruntime's CUDA library needs ${missing.join(', ')}`, remedy };
}

/** What CUDA says in onnxruntime's message, which has the place in its source before and after it; else the message's first line. */
export function cudaFailure(message: string): string {
  return /CUDA failure \d+: [^;\n]*[^;\s]/.exec(message)?.[0] ?? message.split('\n')[0]!;
}

/** Whether the loader finds a shared library; true where there is no way to ask. */
async function loads(name: string): Promise<boolean> {
  const koffi = await import('koffi').then((module) => module.default, () => undefined);
  if (koffi === undefined) return true;
  try { koffi.load(name); return true; } catch { return false; }
}

const thisMachine: Machine = {
  get gpus() { return process.platform === 'linux' ? visibleGpus(process.env) : 0; },
  async cudaProblem(index) {
    const libraries = libraryFolder(), names = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'];
    const absent = names.find((name) => !existsSync(path.join(libraries, name)));
    if (absent !== undefined) return { what: `${absent} is not in ${libraries}`, remedy: install };
    const missing = await missingLibraries(path.join(libraries, names[1]!));
    if (missing.length > 0) return needs(missing);
    try {
      applyTensorFloat32();
      // Not linked but loaded when it is needed: without it a session is made all the same, and convolutions fail.
      if (!await loads(cudnn)) return needs([cudnn]);
      // Loaded here, since a program that only says what it runs on should start at once.
      const [ort, { emit }, { Graph }] = await Promise.all([import('onnxruntime-node'), import('../compiler/emit.ts'), import('../compiler/graph.ts')]);
      const graph = new Graph(), x = graph.input('x', [1], 'float32');
      const session = await ort.InferenceSession.create(emit('probe', { y: graph.node('Neg', [x], {}, [1]) }).bytes, { executionProviders: [{ name: 'cuda', deviceId: index }], logSeverityLevel: 4 });
      await session.run({ x: new ort.Tensor('float32', Float32Array.of(1), [1]) });
      await session.release();
      return undefined;
    } catch (error) {
      return { what: `onnxruntime cannot use GPU ${index} (${cudaFailure((error as Error).message)})`, remedy: 'look at nvidia-smi' };
    }
  },
};

/**
 * TensorFloat-32 (10 bits of mantissa) in matrix products and convolutions on the GPU: on unless GENVIEW_TF32=0.
 * onnxruntime-node passes no option of the CUDA provider but the device, so this goes by the variable that cuBLAS and cuDNN read
 * themselves, which has to be set before they are loaded.
 */
export function applyTensorFloat32(env: NodeJS.ProcessEnv = process.env): void {
  if (env['GENVIEW_TF32'] === '0') env['NVIDIA_TF32_OVERRIDE'] = '0';
}
