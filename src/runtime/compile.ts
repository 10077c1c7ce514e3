import * as tf from '@tensorflow/tfjs';
import { emit, largestModel } from '../compiler/emit.ts';
import type { Value } from '../compiler/graph.ts';
import { record, type Recording } from '../compiler/record.ts';
import { GenViewError } from '../errors.ts';
import type { HostTensor, NamedTensors } from '../tensor.ts';
import { channelBlock } from './channelBlock.ts';
import { currentDevice, type Device } from './device.ts';
import { executorName } from './executor.ts';
import { checkInputs } from './inputs.ts';
import { saveModel } from './modelFile.ts';
import { constantsFile, createSession, mappedAbove, threadCount, type Session } from './onnxruntime.ts';
import type { CompileOptions, Program, State, StepFunction, TensorSpec } from './program.ts';
import { createState, MemoryState } from './state.ts';
import { createEagerProgram } from './tensorflow.ts';

export { createState } from './state.ts';

/** A forward pass whose weights are constants of the program. */
export type InferenceFunction = (inputs: Record<string, tf.Tensor>, weights: Record<string, tf.Tensor>) => Record<string, tf.Tensor>;

type Inputs = Readonly<Record<string, TensorSpec>>;

function memoryState(state: State): MemoryState {
  if (state instanceof MemoryState) return state;
  throw new GenViewError('StateMismatch', 'state must come from createState()');
}

/** Name of the output that holds the new value of state tensor `name`; the input is `state/<name>`. */
const nextName = (name: string): string => `state/${name}:next`;

class OnnxProgram implements Program {
  readonly inputs: Inputs;
  readonly state: MemoryState;
  readonly #name: string;
  /** Names of the inputs that the model really reads. */
  readonly #reads: readonly string[];
  readonly #values: Readonly<Record<string, Value>>;
  readonly #session: Session;
  readonly #recording: Recording;
  /** Output name of the program -> output name of the model. */
  readonly #outputs: ReadonlyMap<string, string>;

  constructor(name: string, inputs: Inputs, state: MemoryState, recording: Recording, outputs: ReadonlyMap<string, string>, reads: readonly string[], values: Readonly<Record<string, Value>>, session: Session) {
    this.#name = name; this.inputs = inputs; this.state = state; this.#recording = recording; this.#outputs = outputs; this.#reads = reads; this.#values = values; this.#session = session;
  }

  async run(inputs: NamedTensors): Promise<NamedTensors> {
    checkInputs(this.#name, this.inputs, inputs);
    return this.state.exclusive(async () => {
      const feeds: Record<string, HostTensor> = {};
      for (const name of this.#reads) feeds[name] = name.startsWith('state/') ? this.state.get(name.slice(6)) : inputs[name]!;
      const results = await this.#session.run(feeds);
      for (const name of Object.keys(this.#recording.nextState)) this.state.commit(name, results[nextName(name)]!);
      return Object.fromEntries([...this.#outputs].map(([name, modelName]) => {
        const { shape, type } = this.#recording.outputs[name]!;
        return [name, { shape: [...shape], dtype: type, data: results[modelName]! } as HostTensor];
      }));
    });
  }

  toOnnx(): Uint8Array { return emit(this.#name, this.#values).bytes; }

  async save(file: string, { externalAbove = largestModel }: { readonly externalAbove?: number } = {}): Promise<void> {
    await saveModel(file, (external) => emit(this.#name, this.#values, 0, external), externalAbove);
  }

  async dispose(): Promise<void> { await this.#session.dispose(); }
}

async function build(name: string, inputs: Inputs, state: MemoryState, recording: Recording, options: { readonly threads?: number; readonly device?: Device }): Promise<Program> {
  const outputs = new Map(Object.keys(recording.outputs).map((key) => [key, key in inputs ? `${key}:out` : key]));
  const values = Object.fromEntries([
    ...[...outputs].map(([key, modelName]) => [modelName, recording.outputs[key]!] as const),
    ...Object.entries(recording.nextState).map(([key, value]) => [nextName(key), value] as const),
  ]);
  if (Object.keys(values).length === 0) throw new GenViewError('UnsupportedOperation', `${name}: the function returns nothing and changes no state; return at least one tensor`);
  const { device } = await currentDevice(options.device);
  const model = emit(name, values, device === 'cpu' ? await channelBlock() : 0, { location: constantsFile, above: mappedAbove });
  const session = await createSession(model, name, threadCount(options.threads), device);
  return new OnnxProgram(name, inputs, state, recording, outputs, model.inputs, values, session);
}

function checkNames(name: string, inputs: Inputs): void {
  const reserved = Object.keys(inputs).find((key) => key.startsWith('state/') || key.includes(':'));
  if (reserved !== undefined) throw new GenViewError('ProgramInput', `${name}: input name "${reserved}" is reserved; do not begin with "state/" or use ":"`);
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
  if (executorName(options.executor) === 'tensorflow') return createEagerProgram(name, fn, inputs, state);
  const recording = record(fn, { name, inputs, state: Object.fromEntries(state.names().map((key) => [key, state.spec(key)])) });
  return build(name, inputs, state, recording, options);
}

/**
 * Compiles a forward pass with fixed weights: they become constants of the graph, which onnxruntime re-orders for its
 * fastest kernels and folds (batch normalization into convolutions) when the program is loaded.
 */
export async function compileInference(fn: InferenceFunction, inputs: Inputs, weights: NamedTensors, options: Omit<CompileOptions, 'state'> = {}): Promise<Program> {
  const name = options.name ?? 'program';
  checkNames(name, inputs);
  if (executorName(options.executor) === 'tensorflow') {
    return createEagerProgram(name, (given, state) => fn(given, state), inputs, memoryState(createState(weights)));
  }
  const recording = record((given, _state, constants) => fn(given, constants), { name, inputs, weights });
  return build(name, inputs, new MemoryState({}), recording, options);
}
