import * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../errors.ts';
import type { NamedTensors } from '../tensor.ts';
import type { TensorSpec } from '../runtime/program.ts';
import { backendName, onnxBackend, tensorOf } from './backend.ts';
import { completeGradients } from './gradients/index.ts';
import { Graph, type Value } from './graph.ts';
import { materialize } from './layout.ts';

/** A recorded program: what it reads, and the values it returns and leaves in its state. */
export interface Recording {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, Value>>;
  readonly state: Readonly<Record<string, Value>>;
  readonly outputs: Readonly<Record<string, Value>>;
  /** New values of the state tensors that were assigned. */
  readonly nextState: Readonly<Record<string, Value>>;
}

export interface RecordOptions {
  readonly name: string;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly state?: Readonly<Record<string, TensorSpec>>;
  readonly weights?: NamedTensors;
}

/** Runs `body` with another tf.js backend selected; synchronous, so nothing else can see the change. */
export function withBackend<T>(name: string, body: () => T): T {
  tf.backend(); // Lets tf.js choose its default backend first, so that there is one to return to.
  const previous = tf.getBackend();
  // setBackend returns a promise, but an initialised backend is selected before it returns.
  const select = (to: string): void => { void tf.setBackend(to); };
  select(name);
  try {
    return body();
  } finally {
    select(previous);
  }
}

/**
 * Runs a tf.js function once on recorded tensors and returns the graph of what it did. `fn` receives inputs, state
 * variables (named as the state is, so `tf.variableGrads` returns gradients under those names) and weights.
 * All tensors made meanwhile are disposed of; the selected tf.js backend is restored.
 */
export function record(
  fn: (inputs: Record<string, tf.Tensor>, state: Record<string, tf.Variable>, weights: Record<string, tf.Tensor>) => Record<string, tf.Tensor>,
  { name, inputs, state = {}, weights = {} }: RecordOptions,
): Recording {
  completeGradients();
  const owner = onnxBackend();
  if (owner.graph) throw new GenViewError('UnsupportedOperation', `${name}: a program cannot be compiled while ${owner.program} is being recorded`);
  return withBackend(backendName, () => {
    const graph = new Graph();
    const variables: Record<string, tf.Variable> = {};
    owner.begin(graph, name);
    tf.engine().startScope(name);
    try {
      const given = (specs: Readonly<Record<string, TensorSpec>>, prefix: string): Record<string, Value> =>
        Object.fromEntries(Object.entries(specs).map(([key, spec]) => [key, graph.input(prefix + key, [...spec.shape], spec.dtype ?? 'float32')]));
      const tensors = (values: Record<string, Value>): Record<string, tf.Tensor> =>
        Object.fromEntries(Object.entries(values).map(([key, value]) => [key, tensorOf(owner, value)]));
      const inputValues = given(inputs, '');
      const stateValues = given(state, 'state/');
      for (const [key, tensor] of Object.entries(tensors(stateValues))) variables[key] = tf.variable(tensor, true, key);
      const weightValues = Object.fromEntries(Object.entries(weights).map(([key, w]) => [key, graph.weight(key, [...w.shape], w.dtype, w.data)]));
      const returned = fn(tensors(inputValues), { ...variables }, tensors(weightValues));
      const read = (tensor: tf.TensorInfo): Value => materialize(graph, owner.resolve(tensor));
      const outputs: Record<string, Value> = {};
      for (const [key, tensor] of Object.entries(returned)) {
        if (!(tensor instanceof tf.Tensor)) throw new GenViewError('UnsupportedOperation', `${name}: output "${key}" is not a tensor; return a record of tensors`);
        outputs[key] = read(tensor);
      }
      const nextState: Record<string, Value> = {};
      for (const [key, variable] of Object.entries(variables)) {
        const value = read(variable);
        if (value !== stateValues[key]) nextState[key] = value;
      }
      return { graph, inputs: inputValues, state: stateValues, outputs, nextState };
    } finally {
      tf.engine().endScope();
      for (const variable of Object.values(variables)) variable.dispose();
      owner.end();
    }
  });
}
