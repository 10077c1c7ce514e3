import { createRequire } from 'node:module';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { completeGradients } from '../compiler/gradients/index.ts';
import { withBackend } from '../compiler/record.ts';
import { GenViewError } from '../errors.ts';
import { createLog } from '../log.ts';
import type { DataType, HostTensor, NamedTensors } from '../tensor.ts';
import { gpuIndex, parseDevice, type Device } from './device.ts';
import { supportExplicitPadding } from './explicitPadding.ts';
import { checkInputs } from './inputs.ts';
import type { Program, StepFunction, TensorSpec } from './program.ts';
import type { MemoryState } from './state.ts';

let engine: Promise<string> | undefined;

/**
 * Selects the eager engine once a process. Resolves with the name of its tf.js backend.
 *
 * GENVIEW_TFJS_NODE, when set, is the folder of the `@tensorflow/tfjs-node` or `-gpu` package to load, wherever it was
 * built; its `@tensorflow/tfjs` must resolve to ours (a link will do), since a backend registers with the copy it finds.
 * Otherwise `@tensorflow/tfjs-node-gpu`, else `@tensorflow/tfjs-node`, else tf.js's own `cpu` backend.
 * GENVIEW_DEVICE hides the other GPUs from TensorFlow, which otherwise takes what it sees; a GPU that is asked for needs the `-gpu` package.
 * @throws GenViewError `EngineUnavailable` when the package in GENVIEW_TFJS_NODE cannot be used; `DeviceUnavailable`
 */
async function eagerBackend(): Promise<string> {
  engine ??= (async () => {
    const device = parseDevice(process.env['GENVIEW_DEVICE']), gpu = device && gpuIndex(device);
    if (device === 'cpu') process.env['CUDA_VISIBLE_DEVICES'] = '-1';
    if (gpu !== undefined) process.env['CUDA_VISIBLE_DEVICES'] = process.env['CUDA_VISIBLE_DEVICES']?.split(',')[gpu] ?? String(gpu);
    const folder = process.env['GENVIEW_TFJS_NODE'];
    if (folder) {
      const unusable = (reason: string, cause?: unknown): GenViewError => new GenViewError('EngineUnavailable', `GENVIEW_TFJS_NODE is "${folder}", which ${reason}; give the folder of @tensorflow/tfjs-node or @tensorflow/tfjs-node-gpu`, { cause });
      if (gpu !== undefined && !path.resolve(folder).endsWith('tfjs-node-gpu')) {
        throw new GenViewError('DeviceUnavailable', `device ${device} cannot be had by executor tensorflow: GENVIEW_TFJS_NODE is "${folder}", no tfjs-node-gpu; give the folder of that package, or choose the device cpu`);
      }
      try {
        createRequire(import.meta.url)(path.resolve(folder));
      } catch (error) {
        throw unusable(`does not load (${(error as Error).message.split('\n')[0]})`, error);
      }
      if (!tf.findBackend('tensorflow')) throw unusable('registers no backend with the tf.js that genview uses');
      return libtensorflow(folder, device);
    }
    for (const name of ['@tensorflow/tfjs-node-gpu', ...(gpu === undefined ? ['@tensorflow/tfjs-node'] : [])]) {
      try {
        await import(name);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') createLog().warn(`${name} is installed but does not load: ${(error as Error).message.split('\n')[0]}`);
        continue;
      }
      // The package brings its own copy of tf.js unless npm shares ours; its backend registers with the copy it found.
      if (tf.findBackend('tensorflow')) return libtensorflow(name, device);
    }
    if (gpu !== undefined) throw new GenViewError('DeviceUnavailable', `device ${device} cannot be had by executor tensorflow: @tensorflow/tfjs-node-gpu does not load; install it, or choose the device cpu or the executor onnxruntime`);
    createLog().info('tensorflow executor: tf.js on the CPU (slow; install @tensorflow/tfjs-node-gpu or @tensorflow/tfjs-node)');
    return 'cpu';
  })();
  return engine;
}

/** Takes the backend that a package has registered. Without a GPU that it can use, libtensorflow computes on the CPU and says so to nobody but stderr. */
function libtensorflow(name: string, device: Device | undefined): string {
  const { isUsingGpuDevice: gpu = false } = tf.findBackend('tensorflow') as { readonly isUsingGpuDevice?: boolean };
  if (!gpu && device !== undefined && device !== 'cpu') {
    throw new GenViewError('DeviceUnavailable', `device ${device} cannot be had by executor tensorflow: libtensorflow finds no GPU that it can use, and says above why; see to CUDA 11 with cuDNN 8 and a driver, or choose the device cpu or the executor onnxruntime`);
  }
  supportExplicitPadding();
  createLog().info(`tensorflow executor: ${name}, on the ${gpu ? 'GPU' : 'CPU'}`);
  return 'tensorflow';
}

const upload = ({ data, shape, dtype }: HostTensor): tf.Tensor => tf.tensor(data, [...shape], dtype);

class EagerProgram implements Program {
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly state: MemoryState;
  readonly #name: string;
  readonly #fn: StepFunction;
  readonly #backend: string;

  constructor(name: string, fn: StepFunction, inputs: Readonly<Record<string, TensorSpec>>, state: MemoryState, backend: string) {
    this.#name = name; this.#fn = fn; this.inputs = inputs; this.state = state; this.#backend = backend;
  }

  async run(inputs: NamedTensors): Promise<NamedTensors> {
    checkInputs(this.#name, this.inputs, inputs);
    return this.state.exclusive(async () => {
      const outputs = withBackend(this.#backend, () => this.#step(inputs));
      return Object.fromEntries(await Promise.all(Object.entries(outputs).map(async ([name, tensor]) => {
        const value = { shape: [...tensor.shape], dtype: tensor.dtype as DataType, data: await tensor.data() } as HostTensor;
        tensor.dispose();
        return [name, value] as const;
      })));
    });
  }

  /** One synchronous step; returns kept outputs. */
  #step(inputs: NamedTensors): Record<string, tf.Tensor> {
    const variables: Record<string, tf.Variable> = {};
    const initial = new Map<string, object>();
    try {
      return tf.tidy(() => {
        const given = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, upload(tensor)]));
        for (const name of this.state.names()) {
          const variable = tf.variable(this.state.onDevice(name, (value) => tf.keep(upload(value))), true, name);
          variables[name] = variable;
          initial.set(name, variable.dataId);
        }
        const outputs = this.#fn(given, { ...variables });
        for (const [name, tensor] of Object.entries(outputs)) {
          if (!(tensor instanceof tf.Tensor)) throw new GenViewError('UnsupportedOperation', `${this.#name}: output "${name}" is not a tensor; return a record of tensors`);
        }
        const kept = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tf.keep(tensor.clone())]));
        for (const [name, variable] of Object.entries(variables)) {
          if (variable.dataId !== initial.get(name)) this.state.commitDevice(name, tf.keep(variable.clone()));
        }
        return kept;
      });
    } finally {
      for (const variable of Object.values(variables)) variable.dispose();
    }
  }

  toOnnx(): Uint8Array { throw this.#noOnnx(); }

  async save(): Promise<void> { return Promise.reject(this.#noOnnx()); }

  #noOnnx(): GenViewError {
    return new GenViewError('UnsupportedOperation', `${this.#name}: a program of executor "tensorflow" has no ONNX form; compile it with executor "onnxruntime"`);
  }

  async dispose(): Promise<void> {
    await this.state.exclusive(async () => { this.state.releaseDevice(); });
  }
}

/** A program that calls the function eagerly in every run; state stays on the device between runs. */
export async function createEagerProgram(name: string, fn: StepFunction, inputs: Readonly<Record<string, TensorSpec>>, state: MemoryState): Promise<Program> {
  completeGradients();
  return new EagerProgram(name, fn, inputs, state, await eagerBackend());
}
