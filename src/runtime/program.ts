import type * as tf from '@tensorflow/tfjs';
import type { Precision } from '../compiler/precision.ts';
import type { DataType, HostTensor, NamedTensors } from '../tensor.ts';
import type { Device } from './device.ts';
import type { Executor } from './executor.ts';

/** Shape and element type of one input; shapes are static. */
export interface TensorSpec {
  readonly shape: readonly number[];
  /** @default 'float32' */
  readonly dtype?: DataType;
}

/**
 * What a program keeps between runs: parameters, momentum, EMA weights, queues. Several programs may share one State
 * (for example a gradient program and an update program).
 */
export interface State {
  names(): string[];
  get(name: string): HostTensor;
  set(name: string, value: HostTensor): void;
  /** Deep copy of everything. */
  snapshot(): NamedTensors;
  /** Replaces every tensor; throws when names or shapes differ from what the state holds. */
  restore(tensors: NamedTensors): void;
}

/**
 * A step in plain tf.js. `state` holds one tf.Variable a name: read it like a tensor, `assign` to change it; the final
 * values become the state after the run. Everything random or scheduled is an input, so a step is a pure function.
 */
export type StepFunction = (inputs: Record<string, tf.Tensor>, state: Record<string, tf.Variable>) => Record<string, tf.Tensor>;

export interface CompileOptions {
  /** Shared state; names, shapes and types are read from it at compile time. @default an empty state */
  readonly state?: State;
  /** @default GENVIEW_EXECUTOR, else 'onnxruntime' */
  readonly executor?: Executor;
  /** Of executor onnxruntime. @default GENVIEW_DEVICE, else the first GPU that can be used, else 'cpu' */
  readonly device?: Device;
  /**
   * Of executor onnxruntime: what matrix products and convolutions are computed in; the state stays float32. Half precision is meant for GPUs: the CPU
   * has float16 by rounding only, which is slower, and no bfloat16. Training in float16 needs `withLossScaling`. @default 'float32'
   */
  readonly precision?: Precision;
  /** Threads of the engine. @default GENVIEW_THREADS, else the number of cores */
  readonly threads?: number;
  /** Beginning of the name of a file for onnxruntime's own profile (Chrome trace format), written by `dispose`. @default none */
  readonly profile?: string;
  /** Shown in errors and profiles. @default 'program' */
  readonly name?: string;
}

export interface Program {
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly state: State;
  /** Runs once, updates the state, returns the function's outputs. Inputs are checked against the signature. */
  run(inputs: NamedTensors): Promise<NamedTensors>;
  /** The program as a self-contained .onnx file (executor onnxruntime only). A state tensor is the input `state/<name>` (when read) and the output `state/<name>:next` (when assigned). */
  toOnnx(): Uint8Array;
  /**
   * Writes the program (see `toOnnx`) to `<name>.onnx`, whole or not at all. Constants above `externalAbove` bytes altogether go into
   * one file beside it, `<name>.<hash>.data`, as ONNX external data; any ONNX tool opens both by the first name.
   * @param options.externalAbove default 2 GB less a margin: the largest file that protobuf can read
   */
  save(file: string, options?: { readonly externalAbove?: number }): Promise<void>;
  dispose(): Promise<void>;
}
