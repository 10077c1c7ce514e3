import * as tf from '@tensorflow/tfjs';
import { initialize, prefixed, scoped, type Weights } from '../nn/module.ts';
import type { PretrainingRecipe } from '../recipe/recipe.ts';
import type { StepFunction, TensorSpec } from '../runtime/program.ts';
import { emptyTensor, float32, scalar, sizeOf, type NamedTensors } from '../tensor.ts';
import type { Method, Views } from './methods/method.ts';
import { optimizerOf } from './optimizers/optimizer.ts';

/** A step function with the signature it is compiled for. */
export interface Step {
  readonly run: StepFunction;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
}

/**
 * The training step of a method. State names: the network's own (`backbone.…`, `projector.…`), `momentum.<name>`,
 * `optimizer.<name>` (with AdamW `optimizer.<name>.mean`, `optimizer.<name>.square` and `optimizer.step`), and the method's memory.
 */
export interface TrainingSteps {
  /** Every tensor of the state, first values. */
  initialState: (this: void, seed: number) => NamedTensors;
  /**
   * One process, everything at once. Inputs: `view1`, `view2` [n, 3, s, s] in [0, 1]; `weights` [n]; `learningRate`,
   * `ema` scalars. Outputs: scalars `loss` and `accuracy`.
   */
  readonly whole: Step;
  /** Several processes, first: moves the momentum encoder; inputs `view1`, `view2`, `ema`; outputs `key0`, `key1`, … [n, d]. */
  readonly keys: Step;
  /**
   * Second, with the keys of all processes: inputs `view1`, `view2`, `weights`, `labels` [n] int32, `own0`, … [n, d],
   * `all0`, … [N, d]. Output `sums` [parameters + 2]: the gradient of every parameter in order, the loss, the accuracy; to be summed over processes.
   */
  readonly gradients: Step;
  /** Third: inputs `sums` (summed), `learningRate`, `all0`, …; updates the parameters and the memory. */
  readonly update: Step;
  /** Number of tensors that the keys step returns. */
  readonly keyCount: number;
  /** Width d of a key. */
  readonly keySize: number;
}

export function trainingSteps(method: Method, recipe: PretrainingRecipe, processes: number): TrainingSteps {
  const { imageSize, mean, std } = recipe.augmentation;
  const n = recipe.batch / processes;
  const parameters = method.parameters.filter((p) => p.kind === 'parameter');
  const buffers = method.parameters.filter((p) => p.kind === 'buffer');
  const optimizer = optimizerOf(recipe.optimizer);
  const memoryNames = Object.keys(method.initialMemory(0));
  const { keyCount } = method, keySize = recipe.head.output;

  /** [n, 3, s, s] in [0, 1] -> normalised [n, s, s, 3]. */
  const normalized = (inputs: Record<string, tf.Tensor>): Views => [inputs['view1']!, inputs['view2']!].map((view) =>
    tf.mul(tf.sub(tf.transpose(view, [0, 2, 3, 1]), tf.tensor1d([...mean])), tf.tensor1d(std.map((s) => 1 / s)))) as unknown as Views;

  /** Moves the momentum encoder towards the online one and returns its weights; running statistics are the online ones (not used while training). */
  const moveMomentum = (ema: tf.Tensor, state: Record<string, tf.Variable>): Weights => {
    const momentum: Record<string, tf.Tensor> = {};
    for (const { name } of parameters) {
      if (!method.hasMomentum(name)) continue;
      const next = tf.add(tf.mul(state[`momentum.${name}`]!, ema), tf.mul(state[name]!, tf.sub(1, ema)));
      state[`momentum.${name}`]!.assign(next);
      momentum[name] = next;
    }
    for (const { name } of buffers) momentum[name] = state[name]!;
    return momentum;
  };

  const memoryOf = (state: Record<string, tf.Variable>): Weights => Object.fromEntries(memoryNames.map((name) => [name, state[name]!]));

  const remember = (allKeys: readonly tf.Tensor2D[], state: Record<string, tf.Variable>): void => {
    for (const [name, value] of Object.entries(method.remember(allKeys, memoryOf(state)))) state[name]!.assign(value);
  };

  /** Gradients of the loss at the online parameters; sets the running statistics. */
  const differentiate = (inputs: Record<string, tf.Tensor>, views: Views, ownKeys: tf.Tensor2D[], allKeys: tf.Tensor2D[], labels: tf.Tensor1D, state: Record<string, tf.Variable>) => {
    const statistics: Record<string, tf.Tensor> = {};
    // tf.valueAndGrads returns one tensor; the others leave its scope by being kept until they have been copied.
    const carried: Record<string, tf.Tensor> = {};
    const { value, grads } = tf.valueAndGrads((...values: tf.Tensor[]) => {
      const weights: Record<string, tf.Tensor> = Object.fromEntries(parameters.map(({ name }, i) => [name, values[i]!]));
      for (const { name } of buffers) weights[name] = state[name]!;
      const { loss, accuracy } = method.loss({ views, ownKeys, allKeys, labels, weights: inputs['weights'] as tf.Tensor1D }, weights, memoryOf(state),
        { training: true, updateBuffer: (name, statistic) => { statistics[name] = statistic; } });
      carried['accuracy'] = tf.keep(accuracy);
      for (const [name, statistic] of Object.entries(statistics)) carried[`buffer ${name}`] = tf.keep(statistic);
      return loss;
    })(parameters.map(({ name }) => state[name]!));
    const released = Object.fromEntries(Object.entries(carried).map(([name, tensor]) => {
      const copy = tf.clone(tensor);
      tensor.dispose();
      return [name, copy];
    }));
    for (const [name, statistic] of Object.entries(scoped(released, 'buffer '))) state[name]!.assign(statistic);
    return { loss: value, accuracy: released['accuracy']!, gradients: grads };
  };

  const applyGradients = (gradients: readonly tf.Tensor[], learningRate: tf.Tensor, state: Record<string, tf.Variable>): void => {
    const step = optimizer.counts ? tf.add(state['optimizer.step']!, 1) : undefined;
    if (step) state['optimizer.step']!.assign(step);
    for (const [i, { name }] of parameters.entries()) {
      const kept = optimizer.suffixes.map((suffix) => state[`optimizer.${name}${suffix}`]!);
      const next = optimizer.update(name, state[name]!, gradients[i]!, kept, learningRate, step);
      state[name]!.assign(next.parameter);
      for (const [k, variable] of kept.entries()) variable.assign(next.kept[k]!);
    }
  };

  const view: TensorSpec = { shape: [n, 3, imageSize, imageSize] };
  const scalarSpec: TensorSpec = { shape: [] };
  const keySpecs = (prefix: string, rows: number) => Object.fromEntries(Array.from({ length: keyCount }, (_, i) => [`${prefix}${i}`, { shape: [rows, keySize] }]));
  const keysFrom = (inputs: Record<string, tf.Tensor>, prefix: string) => Array.from({ length: keyCount }, (_, i) => inputs[`${prefix}${i}`] as tf.Tensor2D);
  const parameterCount = parameters.reduce((sum, p) => sum + sizeOf(p.shape), 0);

  return {
    keyCount, keySize,
    initialState(seed) {
      const online = initialize(method, seed);
      const average = Object.fromEntries(parameters.filter((p) => method.hasMomentum(p.name)).map(({ name }) => [name, copyOf(online[name]!)]));
      const kept = Object.fromEntries(parameters.flatMap((p) => optimizer.suffixes.map((suffix) => [`${p.name}${suffix}`, emptyTensor('float32', p.shape)])));
      const count: NamedTensors = optimizer.counts ? { 'optimizer.step': scalar(0) } : {};
      return { ...online, ...prefixed(average, 'momentum.'), ...prefixed(kept, 'optimizer.'), ...count, ...method.initialMemory(seed) };
    },
    whole: {
      inputs: { view1: view, view2: view, weights: { shape: [n] }, learningRate: scalarSpec, ema: scalarSpec },
      run(inputs, state) {
        const views = normalized(inputs);
        const keys = method.keys(views, moveMomentum(inputs['ema']!, state));
        const { loss, accuracy, gradients } = differentiate(inputs, views, keys, keys, tf.range(0, n, 1, 'int32'), state);
        applyGradients(gradients, inputs['learningRate']!, state);
        remember(keys, state);
        return { loss, accuracy };
      },
    },
    keys: {
      inputs: { view1: view, view2: view, ema: scalarSpec },
      run: (inputs, state) => Object.fromEntries(method.keys(normalized(inputs), moveMomentum(inputs['ema']!, state)).map((key, i) => [`key${i}`, key])),
    },
    gradients: {
      inputs: { view1: view, view2: view, weights: { shape: [n] }, labels: { shape: [n], dtype: 'int32' }, ...keySpecs('own', n), ...keySpecs('all', recipe.batch) },
      run(inputs, state) {
        const { loss, accuracy, gradients } = differentiate(inputs, normalized(inputs), keysFrom(inputs, 'own'), keysFrom(inputs, 'all'), inputs['labels'] as tf.Tensor1D, state);
        return { sums: tf.concat([...gradients.map((g) => tf.reshape(g, [-1])), tf.reshape(loss, [1]), tf.reshape(accuracy, [1])]) };
      },
    },
    update: {
      inputs: { sums: { shape: [parameterCount + 2] }, learningRate: scalarSpec, ...keySpecs('all', recipe.batch) },
      run(inputs, state) {
        const means = tf.div(inputs['sums']!, processes);
        let offset = 0;
        const gradients = parameters.map((p) => {
          const part = tf.slice(means as tf.Tensor1D, [offset], [sizeOf(p.shape)]);
          offset += sizeOf(p.shape);
          return tf.reshape(part, [...p.shape]);
        });
        applyGradients(gradients, inputs['learningRate']!, state);
        remember(keysFrom(inputs, 'all'), state);
        return {};
      },
    },
  };
}

function copyOf(tensor: NamedTensors[string]) {
  return float32(Float32Array.from(tensor.data), tensor.shape);
}
