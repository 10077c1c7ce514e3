import * as tf from '@tensorflow/tfjs';
import { emit, largestModel, type EmitOptions, type Model } from '../compiler/emit.ts';
import type { Value } from '../compiler/graph.ts';
import { emitLoop } from '../compiler/loop.ts';
import { overwritable } from '../compiler/overwriting.ts';
import type { Precision } from '../compiler/precision.ts';
import { record, type Recording } from '../compiler/record.ts';
import { GenViewError } from '../errors.ts';
import { emptyTensor, type DataType, type HostTensor, type NamedTensors } from '../tensor.ts';
import { channelBlock } from './channelBlock.ts';
import { currentDevice } from './device.ts';
import { executorName } from './executor.ts';
import { checkInputs } from './inputs.ts';
import { saveModel } from './modelFile.ts';
import { constantsFile, createSession, mappedAbove, threadCount, type Session } from './onnxruntime.ts';
import type { CompileOptions, Program, State, StepFunction, TensorSpec } from './program.ts';
import { repeated, stackedInputs } from './repeated.ts';
import { createState, MemoryState } from './state.ts';
import { createEagerProgram } from './tensorflow.ts';

export { createState } from './state.ts';

/** A forward pass whose weights are constants of the program. */
export type InferenceFunction = (inputs: Record<string, tf.Tensor>, weights: Record<string, tf.Tensor>) => Record<string, tf.Tensor>;

type Inputs = Readonly<Record<string, TensorSpec>>;

/** Whether programs are run eagerly. */
function isEager(name: string, { executor, precision = 'float32' }: CompileOptions): boolean {
  if (executorName(executor) === 'onnxruntime') return false;
  if (precision !== 'float32') throw new GenViewError('PrecisionUnsupported', `${name}: executor "tensorflow" computes in float32 only, not in ${precision}`);
  return true;
}

function memoryState(state: State): MemoryState {
  if (state instanceof MemoryState) return state;
  throw new GenViewError('StateMismatch', 'state must come from createState()');
}

/** Name of the output that holds the new value of state tensor `name`; the input is `state/<name>`. */
const nextName = (name: string): string => `state/${name}:next`;

/** What a program returns under a name: the model's output of that other name. */
interface Output {
  readonly modelName: string;
  readonly shape: readonly number[];
  readonly dtype: DataType;
}

/** A recorded function, ready to be written as a model. */
interface Design {
  readonly name: string;
  readonly inputs: Inputs;
  readonly outputs: Readonly<Record<string, Output>>;
  /** Names of the state tensors that a run changes. */
  readonly changes: readonly string[];
  /** Those of them whose new value may be written where the old one lies. */
  readonly overwrites: ReadonlySet<string>;
  emit(options: EmitOptions): Model;
}

class OnnxProgram implements Program {
  readonly state: MemoryState;
  readonly #design: Design;
  /** Names of the inputs that the model really reads. */
  readonly #reads: readonly string[];
  readonly #session: Session;

  constructor(design: Design, state: MemoryState, reads: readonly string[], session: Session) {
    this.#design = design; this.state = state; this.#reads = reads; this.#session = session;
  }

  get inputs(): Inputs { return this.#design.inputs; }

  async run(inputs: NamedTensors): Promise<NamedTensors> {
    const { name: program, outputs, changes, overwrites } = this.#design;
    checkInputs(program, this.inputs, inputs);
    return this.state.exclusive(async () => {
      const feeds: Record<string, HostTensor> = {};
      for (const name of this.#reads) feeds[name] = name.startsWith('state/') ? this.state.current(name.slice(6)) : inputs[name]!;
      const returned = Object.fromEntries(Object.entries(outputs).map(([key, { shape, dtype }]) => [key, emptyTensor(dtype, shape)]));
      const next = Object.fromEntries(changes.map((key) => [key, overwrites.has(key) ? this.state.current(key) : this.state.spare(key)]));
      await this.#session.run(feeds, {
        ...Object.fromEntries(Object.entries(outputs).map(([key, { modelName }]) => [modelName, returned[key]!])),
        ...Object.fromEntries(changes.map((key) => [nextName(key), next[key]!])),
      });
      for (const key of changes) this.state.commit(key, next[key]!.data);
      return returned;
    });
  }

  toOnnx(): Uint8Array { return this.#design.emit({}).bytes; }

  async save(file: string, { externalAbove = largestModel }: { readonly externalAbove?: number } = {}): Promise<void> {
    await saveModel(file, (external) => this.#design.emit({ external }), externalAbove);
  }

  async dispose(): Promise<void> { await this.#session.dispose(); }
}

/** Outputs by the names that the model gives them: one that is called like an input or a weight gets another. */
function outputsOf(recording: Recording, inputs: Inputs): { outputs: Record<string, Output>; values: Record<string, Value> } {
  const outputs: Record<string, Output> = {}, values: Record<string, Value> = {};
  const reserved = Object.keys(recording.outputs).find(isReserved);
  if (reserved !== undefined) throw new GenViewError('ProgramOutput', `the name "${reserved}" of an output is reserved; do not begin with "state/" or use ":" or "#"`);
  for (const [key, value] of Object.entries(recording.outputs)) {
    const modelName = key in inputs ? `${key}:out` : key;
    outputs[key] = { modelName, shape: value.shape, dtype: value.type as DataType };
    values[modelName] = value;
  }
  return { outputs, values };
}

/** One run is one call of the function. */
function designStep(name: string, inputs: Inputs, recording: Recording, precision: Precision = 'float32', weights: NamedTensors = {}): Design {
  const { outputs, values } = outputsOf(recording, { ...inputs, ...weights }), changes = Object.keys(recording.nextState);
  const all = { ...values, ...Object.fromEntries(Object.entries(recording.nextState).map(([key, value]) => [nextName(key), value])) };
  const pairs = Object.fromEntries(Object.entries(recording.nextState).map(([key, next]) => [key, { input: recording.state[key]!, next }]));
  return { name, inputs, outputs, changes, overwrites: overwritable(Object.values(all), pairs), emit: (options) => emit(name, all, { ...options, precision }) };
}

/** One run is `steps` calls of the function. */
function designLoop(name: string, inputs: Inputs, recording: Recording, steps: number, precision: Precision = 'float32'): Design {
  const { outputs, values } = outputsOf(recording, inputs), changes = Object.keys(recording.nextState);
  const carried = Object.fromEntries(Object.entries(recording.nextState).map(([key, next]) => [nextName(key), { first: recording.state[key]!, next }]));
  return {
    name, changes, overwrites: new Set(), inputs: stackedInputs(inputs, steps),
    outputs: Object.fromEntries(Object.entries(outputs).map(([key, output]) => [key, { ...output, shape: [steps, ...output.shape] }])),
    emit: (options) => emitLoop(name, { steps, inputs: recording.inputs, outputs: values, carried }, { ...options, precision }),
  };
}

async function build(design: Design, state: MemoryState, options: Pick<CompileOptions, 'threads' | 'device' | 'precision' | 'profile'>): Promise<Program> {
  const { name } = design;
  if (Object.keys(design.outputs).length + design.changes.length === 0) {
    throw new GenViewError('UnsupportedOperation', `${name}: the function returns nothing and changes no state; return at least one tensor`);
  }
  const { device } = await currentDevice(options.device);
  if (device === 'cpu' && options.precision === 'bfloat16') {
    throw new GenViewError('PrecisionUnsupported', `${name}: the CPU computes nothing in bfloat16; choose float32, or a GPU`);
  }
  const model = design.emit({ block: device === 'cpu' ? await channelBlock() : 0, fused: device === 'cpu', external: { location: constantsFile, above: mappedAbove } });
  const session = await createSession(model, name, threadCount(options.threads), device, options.profile);
  return new OnnxProgram(design, state, model.inputs, session);
}

const isReserved = (key: string): boolean => key.startsWith('state/') || /[:#]/.test(key);

function checkNames(name: string, inputs: Inputs): void {
  const reserved = Object.keys(inputs).find(isReserved);
  if (reserved !== undefined) throw new GenViewError('ProgramInput', `${name}: input name "${reserved}" is reserved; do not begin with "state/" or use ":" or "#"`);
}

/**
 * Compiles a step written in tf.js: forward pass, gradients and updates become one graph.
 *
 * The function runs once, on tensors without values. Numbers it draws itself (tf.randomNormal, Math.random) and
 * decisions it takes in JavaScript are fixed at that moment: pass what changes from run to run as an input.
 * State variables are named as the state is, so `tf.variableGrads(loss, Object.values(state))` returns gradients by
 * state name. Executor `tensorflow` calls the function in every run instead.
 *
 * @throws GenViewError `UnsupportedOperation` naming the operation and its shapes when something cannot be compiled;
 * `ExecutorInvalid` when GENVIEW_EXECUTOR names no executor; `DeviceInvalid`, `DeviceUnavailable` for the device that was asked for.
 */
export async function compile(fn: StepFunction, inputs: Inputs, options: CompileOptions = {}): Promise<Program> {
  const name = options.name ?? 'program';
  const state = memoryState(options.state ?? createState({}));
  checkNames(name, inputs);
  if (isEager(name, options)) return createEagerProgram(name, fn, inputs, state);
  return build(designStep(name, inputs, recordStep(fn, name, inputs, state), options.precision), state, options);
}

const recordStep = (fn: StepFunction, name: string, inputs: Inputs, state: MemoryState): Recording =>
  record(fn, { name, inputs, state: Object.fromEntries(state.names().map((key) => [key, state.spec(key)])) });

/**
 * Compiles `steps` runs of a step into one: inputs and outputs are those of all steps, stacked along a new first axis, and the state goes
 * from step to step inside the graph. Equal to as many single steps, bit for bit on the CPU. On a GPU the state then crosses to
 * main memory once for all of them; on the CPU it gains nothing.
 *
 * @throws GenViewError as {@link compile}; `ProgramInput` when `steps` is no whole number of at least 1
 */
export async function compileLoop(fn: StepFunction, inputs: Inputs, options: CompileOptions & { readonly steps: number }): Promise<Program> {
  const name = options.name ?? 'program', { steps } = options;
  if (!Number.isInteger(steps) || steps < 1) throw new GenViewError('ProgramInput', `${name}: steps is ${steps}; give a whole number of at least 1`);
  const state = memoryState(options.state ?? createState({}));
  checkNames(name, inputs);
  if (isEager(name, options)) return repeated(await createEagerProgram(name, fn, inputs, state), name, steps);
  return build(designLoop(name, inputs, recordStep(fn, name, inputs, state), steps, options.precision), state, options);
}

export interface WriteOptions {
  /** Names, shapes and types of the state; its values are not written. @default an empty state */
  readonly state?: State;
  /** Steps in one run, as of {@link compileLoop}. @default one step, without a loop */
  readonly steps?: number;
  /** @default 'float32' */
  readonly precision?: Precision;
  /** @default 'program' */
  readonly name?: string;
  /** @default see `Program.save` */
  readonly externalAbove?: number;
}

/** Writes a step as an .onnx file (see `Program.save`) for another machine: nothing of it is loaded or run here. */
export async function writeProgram(file: string, fn: StepFunction, inputs: Inputs, options: WriteOptions = {}): Promise<void> {
  const { name = 'program', steps, precision } = options;
  checkNames(name, inputs);
  const recording = recordStep(fn, name, inputs, memoryState(options.state ?? createState({})));
  const design = steps === undefined ? designStep(name, inputs, recording, precision) : designLoop(name, inputs, recording, steps, precision);
  await saveModel(file, (external) => design.emit({ external }), options.externalAbove ?? largestModel);
}

/**
 * Compiles a forward pass with fixed weights: they become constants of the graph, which onnxruntime re-orders for its
 * fastest kernels and folds (batch normalization into convolutions) when the program is loaded.
 */
export async function compileInference(fn: InferenceFunction, inputs: Inputs, weights: NamedTensors, options: Omit<CompileOptions, 'state'> = {}): Promise<Program> {
  const name = options.name ?? 'program';
  checkNames(name, inputs);
  if (isEager(name, options)) {
    return createEagerProgram(name, (given, state) => fn(given, state), inputs, memoryState(createState(weights)));
  }
  const unusable = Object.keys(weights).find((key) => isReserved(key) || key in inputs);
  if (unusable !== undefined) throw new GenViewError('ProgramInput', `${name}: the name "${unusable}" of a weight is that of an input, or reserved; do not begin with "state/" or use ":" or "#"`);
  const recording = record((given, _state, constants) => fn(given, constants), { name, inputs, weights });
  return build(designStep(name, inputs, recording, options.precision, weights), new MemoryState({}), options);
}
