import type * as tf from '@tensorflow/tfjs';
import type { HostTensor, NamedTensors } from '../tensor.ts';
import { Random } from '../random.ts';

/** Tensors of a network by full name (torchvision's names and layouts: convolutions OIHW, linear layers [out, in]). */
export type Weights = Readonly<Record<string, tf.Tensor>>;

/** One tensor a module owns. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** `buffer`: not trained by gradients (running statistics). */
  readonly kind: 'parameter' | 'buffer';
  initialize(random: Random): HostTensor;
}

/** How a forward pass runs. */
export interface Mode {
  /** Batch statistics (true) or running statistics (false) in batch norm. */
  readonly training: boolean;
  /** Receives the new value of each buffer while training; absent: buffers are left alone. */
  readonly updateBuffer?: (name: string, value: tf.Tensor) => void;
}

export const inference: Mode = { training: false };

/** A piece of a network: what it owns, and what it computes. All images are logical NHWC. */
export interface Module<I = tf.Tensor, O = tf.Tensor> {
  readonly parameters: readonly ParameterSpec[];
  apply(x: I, weights: Weights, mode: Mode): O;
}

/** First values of every parameter and buffer; each name has its own random stream, so a changed layer changes only itself. */
export function initialize(module: { readonly parameters: readonly ParameterSpec[] }, seed: number | string): NamedTensors {
  return Object.fromEntries(module.parameters.map((p) => [p.name, p.initialize(new Random(seed, 'initialize', p.name))]));
}

/** The weights whose name starts with `prefix`, with the prefix removed. */
export function scoped<T>(weights: Readonly<Record<string, T>>, prefix: string): Record<string, T> {
  return Object.fromEntries(Object.entries(weights).filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]));
}

/** Every name with `prefix` put before it. */
export function prefixed<T>(tensors: Readonly<Record<string, T>>, prefix: string): Record<string, T> {
  return Object.fromEntries(Object.entries(tensors).map(([name, value]) => [prefix + name, value]));
}
