import * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../errors.ts';
import { sizeOf, type DataType } from '../tensor.ts';
import type { ConstantData, Graph, Value } from './graph.ts';
import { kernels } from './kernels/index.ts';
import type { AnyKernel } from './kernels/kernel.ts';
import { identity, logicalShape, plain, type Recorded } from './layout.ts';
import { insteadOfKernel } from './unsupported.ts';

/** Name of the tf.js backend that records instead of computing. */
export const backendName = 'onnx';

interface Entry {
  references: number;
  /** A tensor with known contents: belongs to no graph. */
  constant?: { data: ConstantData; shape: readonly number[]; dtype: DataType };
  /** A tensor computed by the graph it belongs to. */
  recorded?: Recorded & { graph: Graph };
}

const describe = (info: tf.TensorInfo): string => `${info.dtype}[${info.shape.join(', ')}]`;

function unsupported(message: string): GenViewError {
  return new GenViewError('UnsupportedOperation', message);
}

/** tf.js backend whose kernels add nodes to the graph being recorded. */
class OnnxBackend extends tf.KernelBackend {
  readonly data = new tf.DataStorage<Entry>(this, tf.engine());
  graph: Graph | undefined;
  program = 'program';
  #values = new WeakMap<Entry, Value>();

  begin(graph: Graph, program: string): void {
    this.graph = graph;
    this.program = program;
    this.#values = new WeakMap();
  }

  end(): void {
    this.graph = undefined;
    this.#values = new WeakMap();
  }

  #store(entry: Omit<Entry, 'references'>): object {
    const dataId = {};
    this.data.set(dataId, { ...entry, references: 1 });
    return dataId;
  }

  /** The tf.js view of a recorded tensor. */
  register(recorded: Recorded): tf.TensorInfo {
    if (recorded.value.type === 'int64') throw new Error('int64 values do not leave the graph');
    return { dataId: this.#store({ recorded: { ...recorded, graph: this.graph! } }), shape: logicalShape(recorded), dtype: recorded.value.type };
  }

  /** The recorded tensor behind a tf.js one; constants become constants of the graph. */
  resolve(info: tf.TensorInfo): Recorded {
    const entry = this.data.get(info.dataId);
    if (entry.recorded) {
      if (entry.recorded.graph !== this.graph) {
        throw unsupported(`${this.program}: a tensor ${describe(info)} recorded by another program is used here; pass it as an input or as state`);
      }
      return entry.recorded;
    }
    let value = this.#values.get(entry);
    if (!value) {
      const { data, shape, dtype } = entry.constant!;
      value = this.graph!.constant(data, shape, dtype);
      this.#values.set(entry, value);
    }
    return plain(value);
  }

  override write(values: tf.backend_util.BackendValues, shape: number[], dtype: tf.DataType): object {
    if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') {
      throw unsupported(`${this.program}: a tensor ${dtype}[${shape.join(', ')}] cannot be compiled; use float32, int32 or bool`);
    }
    return this.#store({ constant: { data: toArray(values as ArrayLike<number>, sizeOf(shape), dtype), shape: [...shape], dtype } });
  }

  override move(dataId: object, values: tf.backend_util.BackendValues, shape: number[], dtype: tf.DataType, references: number): void {
    if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') {
      throw unsupported(`${this.program}: a tensor ${dtype}[${shape.join(', ')}] cannot be compiled; use float32, int32 or bool`);
    }
    this.data.set(dataId, { references, constant: { data: toArray(values as ArrayLike<number>, sizeOf(shape), dtype), shape: [...shape], dtype } });
  }

  override readSync(dataId: object): tf.backend_util.BackendValues {
    const entry = this.data.get(dataId);
    if (entry.constant) return entry.constant.data as tf.backend_util.BackendValues;
    const { value } = entry.recorded!;
    throw unsupported(`${this.program}: the values of ${value.type}[${logicalShape(entry.recorded!).join(', ')}] are read (data, dataSync, array, print) while the program is compiled; `
      + 'they exist only when it runs. Return the tensor as an output, or compute with it in tf.js');
  }

  // Asynchronous like the contract says, so that the error above becomes a rejection.
  override async read(dataId: object): Promise<tf.backend_util.BackendValues> {
    return Promise.resolve().then(() => this.readSync(dataId));
  }

  override refCount(dataId: object): number {
    return this.data.has(dataId) ? this.data.get(dataId).references : 0;
  }

  override incRef(dataId: object): void {
    this.data.get(dataId).references++;
  }

  override disposeData(dataId: object, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const entry = this.data.get(dataId);
    entry.references--;
    if (!force && entry.references > 0) return false;
    this.data.delete(dataId);
    return true;
  }

  override numDataIds(): number { return this.data.numDataIds(); }
  override memory(): { unreliable: boolean } { return { unreliable: false }; }
  override floatPrecision(): 32 { return 32; }
  override epsilon(): number { return 1e-7; }
  override timerAvailable(): boolean { return false; }
  override dispose(): void {}
}

function toArray(values: ArrayLike<number>, size: number, dtype: DataType): ConstantData {
  if (values.length !== size) throw new RangeError(`${values.length} values for ${size} elements`);
  // Copied: tf.js hands over the caller's array, which may change before the program is built.
  switch (dtype) {
    case 'float32': return Float32Array.from(values);
    case 'int32': return Int32Array.from(values);
    case 'bool': return Uint8Array.from(values);
  }
}

let backend: OnnxBackend | undefined;

/** Registers the backend and its kernels on first use. */
export function onnxBackend(): OnnxBackend {
  if (backend) return backend;
  const created = new OnnxBackend();
  backend = created;
  // Priority 0: never chosen by tf.js itself.
  tf.registerBackend(backendName, () => created, 0);
  for (const [kernelName, kernel] of Object.entries(kernels)) {
    tf.registerKernel({ kernelName, backendName, kernelFunc: (call) => record(created, kernelName, kernel, call) });
  }
  // A clone is the same data, as on every tf.js backend: gradients of tf.js (logSigmoid) read a clone after it was disposed of.
  tf.registerKernel({
    kernelName: 'Identity', backendName,
    kernelFunc: ({ inputs }) => {
      const { dataId, shape, dtype } = inputs['x']!;
      created.incRef(dataId);
      return { dataId, shape, dtype };
    },
  });
  for (const { kernelName } of tf.getKernelsForBackend('cpu')) {
    if (kernelName in kernels || kernelName === 'Identity') continue;
    tf.registerKernel({
      kernelName, backendName,
      kernelFunc: ({ inputs }) => {
        const shapes = given(inputs).map(([, x]) => describe(x)).join(', ');
        throw unsupported(`${created.program}: the operation ${kernelName}(${shapes}) cannot be compiled; use ${insteadOfKernel(kernelName)}`);
      },
    });
  }
  return created;
}

type KernelCall = Parameters<tf.KernelFunc>[0];

/** Inputs by name, without the optional ones that are absent. */
const given = (inputs: KernelCall['inputs']): [string, tf.TensorInfo][] =>
  Object.entries(inputs as Record<string, unknown>).filter(([, info]) => info !== undefined && info !== null) as [string, tf.TensorInfo][];

function record(owner: OnnxBackend, name: string, kernel: AnyKernel, { inputs, attrs }: KernelCall): tf.TensorInfo | tf.TensorInfo[] {
  const graph = owner.graph;
  if (!graph) throw new Error(`tf.js backend '${backendName}' records programs only: call compile(), do not select it with tf.setBackend()`);
  const infos = given(inputs);
  try {
    const recorded = Object.fromEntries(infos.map(([key, info]) => [key, owner.resolve(info)]));
    const result = kernel(graph, recorded as never, (attrs ?? {}) as never);
    return Array.isArray(result) ? result.map((r) => owner.register(r)) : owner.register(result as Recorded);
  } catch (error) {
    if (error instanceof GenViewError) throw error;
    const shapes = infos.map(([key, info]) => `${key}: ${describe(info)}`).join(', ');
    throw new GenViewError('UnsupportedOperation', `${owner.program}: ${name}(${shapes}): ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** A tensor in the order tf.js sees, for a value stored in that order. */
export function tensorOf(owner: OnnxBackend, value: Value): tf.Tensor {
  return tf.engine().makeTensorFromTensorInfo(owner.register({ value, perm: identity(value.shape.length) }), owner);
}
