import * as tf from '@tensorflow/tfjs';
import { float32, sizeOf, type HostTensor } from '../tensor.ts';
import type { Random } from '../random.ts';
import type { Mode, Module, ParameterSpec, Weights } from './module.ts';

/** First values of a parameter of the given shape. */
export type Initializer = (shape: readonly number[], random: Random) => HostTensor;

/** The same value everywhere. */
export const constant = (value: number): Initializer => (shape) => float32(new Float32Array(sizeOf(shape)).fill(value), shape);
export const zeros: Initializer = constant(0);
export const ones: Initializer = constant(1);

/** N(0, standardDeviation). */
export function normal(standardDeviation: number): Initializer {
  return (shape, random) => float32(random.normals(sizeOf(shape)).map((v) => v * standardDeviation), shape);
}

/** U(-bound, bound); PyTorch's default for linear layers and convolutions is bound = 1/sqrt(fan in). */
export function uniform(bound: number): Initializer {
  return (shape, random) => float32(Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(-bound, bound)), shape);
}

/** Glorot and Bengio 2010, as PyTorch's xavier_uniform_: U(±sqrt(6 / (fan in + fan out))) for [out, in]. */
export const xavierUniform: Initializer = (shape, random) => uniform(Math.sqrt(6 / (shape[0]! + shape[1]!)))(shape, random);

/** He et al. 2015, fan-out mode, as torchvision initialises ResNet convolutions: std = sqrt(2 / (out * kh * kw)). */
export const kaimingFanOut: Initializer = (shape, random) => normal(Math.sqrt(2 / (shape[0]! * sizeOf(shape.slice(2)))))(shape, random);

export function parameter(name: string, shape: readonly number[], initialize: Initializer): ParameterSpec {
  return { name, shape, kind: 'parameter', initialize: (random) => initialize(shape, random) };
}

export function buffer(name: string, shape: readonly number[], initialize: Initializer): ParameterSpec {
  return { ...parameter(name, shape, initialize), kind: 'buffer' };
}

export function weight(weights: Weights, name: string): tf.Tensor {
  const found = weights[name];
  if (!found) throw new Error(`network parameter ${name} is missing from the given weights`);
  return found;
}

export interface ConvOptions {
  /** @default 1 */
  readonly stride?: number;
  /** Zeros added on every side, in pixels. @default floor(kernel / 2) */
  readonly padding?: number;
  /** @default true */
  readonly bias?: boolean;
  /** @default PyTorch's uniform */
  readonly initializer?: Initializer;
}

/** 2-D convolution, [n, h, w, in] -> [n, h', w', out]; `<name>.weight` is [out, in, k, k]. */
export function conv2d(name: string, inputs: number, outputs: number, kernel: number, options: ConvOptions = {}): Module<tf.Tensor4D, tf.Tensor4D> {
  const { stride = 1, padding = Math.floor(kernel / 2), bias = true } = options;
  const bound = 1 / Math.sqrt(inputs * kernel * kernel);
  return {
    parameters: [
      parameter(`${name}.weight`, [outputs, inputs, kernel, kernel], options.initializer ?? uniform(bound)),
      ...(bias ? [parameter(`${name}.bias`, [outputs], options.initializer ? zeros : uniform(bound))] : []),
    ],
    apply(x, weights) {
      // OIHW -> HWIO: the compiler only renames axes, so filters stay OIHW in memory.
      const filter = tf.transpose(weight(weights, `${name}.weight`), [2, 3, 1, 0]) as tf.Tensor4D;
      const y = tf.conv2d(x, filter, stride, padding);
      return bias ? tf.add(y, weight(weights, `${name}.bias`)) : y;
    },
  };
}

/** y = x W^T + b on the last axis of a matrix; `<name>.weight` is [out, in]. */
export function linear(name: string, inputs: number, outputs: number, options: { bias?: boolean; initializer?: Initializer } = {}): Module<tf.Tensor2D, tf.Tensor2D> {
  const { bias = true } = options;
  const bound = 1 / Math.sqrt(inputs);
  return {
    parameters: [
      parameter(`${name}.weight`, [outputs, inputs], options.initializer ?? uniform(bound)),
      ...(bias ? [parameter(`${name}.bias`, [outputs], options.initializer ? zeros : uniform(bound))] : []),
    ],
    apply(x, weights) {
      const y = tf.matMul(x, weight(weights, `${name}.weight`) as tf.Tensor2D, false, true) as tf.Tensor2D;
      return bias ? tf.add(y, weight(weights, `${name}.bias`)) : y;
    },
  };
}

export interface BatchNormOptions {
  /** Learned scale and shift. @default true */
  readonly affine?: boolean;
  /** First value of the scale; 0 starts a residual branch as identity. @default 1 */
  readonly scale?: number;
  /** @default 1e-5 */
  readonly epsilon?: number;
  /** Share of the batch in the running statistics. @default 0.1 */
  readonly momentum?: number;
}

/** Batch norm over all axes but the last, PyTorch's names and semantics (biased variance to normalise, unbiased in the running one). */
export function batchNorm(name: string, channels: number, options: BatchNormOptions = {}): Module {
  const { affine = true, epsilon = 1e-5, momentum = 0.1 } = options;
  return {
    parameters: [
      ...(affine ? [parameter(`${name}.weight`, [channels], constant(options.scale ?? 1)), parameter(`${name}.bias`, [channels], zeros)] : []),
      buffer(`${name}.running_mean`, [channels], zeros),
      buffer(`${name}.running_var`, [channels], ones),
    ],
    apply(x, weights, mode) {
      const gamma = affine ? weight(weights, `${name}.weight`) : tf.ones([channels]);
      const beta = affine ? weight(weights, `${name}.bias`) : tf.zeros([channels]);
      if (!mode.training) {
        const scale = tf.mul(gamma, tf.rsqrt(tf.add(weight(weights, `${name}.running_var`), epsilon)));
        return tf.add(tf.mul(x, scale), tf.sub(beta, tf.mul(weight(weights, `${name}.running_mean`), scale)));
      }
      const count = x.size / channels;
      const { value, mean, variance } = normalizeBatch(x, gamma, beta, epsilon);
      if (mode.updateBuffer) {
        const blend = (buffer: string, statistic: tf.Tensor): void =>
          mode.updateBuffer!(buffer, tf.add(tf.mul(weight(weights, buffer), 1 - momentum), tf.mul(statistic, momentum)));
        blend(`${name}.running_mean`, mean);
        blend(`${name}.running_var`, tf.mul(variance, count / Math.max(count - 1, 1)));
      }
      return value;
    },
  };
}

/**
 * scale (x - mean) / sqrt(variance + epsilon) + shift over all axes but the last, with the (biased) statistics it took; one node
 * where the backend has it. No gradient of its own.
 */
function batchNormalized(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, epsilon: number): [tf.Tensor, tf.Tensor, tf.Tensor] {
  if (tf.getKernel('NormalizeBatch', tf.getBackend())) {
    return tf.engine().runKernel('NormalizeBatch', { x, scale, shift }, { epsilon }) as unknown as [tf.Tensor, tf.Tensor, tf.Tensor];
  }
  const axes = x.shape.map((_, i) => i).slice(0, -1);
  const mean = tf.mean(x, axes), variance = tf.mean(tf.squaredDifference(x, mean), axes);
  const factor = tf.mul(scale, tf.rsqrt(tf.add(variance, epsilon)));
  return [tf.add(tf.mul(x, factor), tf.sub(shift, tf.mul(mean, factor))), mean, variance];
}

/**
 * Batch normalisation and the statistics of the batch; the gradient of the whole normalisation is one multiply-add pass over x. No gradient
 * flows through `mean` and `variance`: they are for running averages.
 */
function normalizeBatch(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: number): { value: tf.Tensor; mean: tf.Tensor; variance: tf.Tensor } {
  const axes = x.shape.map((_, i) => i).slice(0, -1), count = x.size / x.shape.at(-1)!;
  const statistics: { mean?: tf.Tensor; variance?: tf.Tensor } = {};
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, scaleIn, shiftIn, save] = args as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const [value, mean, variance] = batchNormalized(input, scaleIn, shiftIn, epsilon);
    // tf.customGrad returns one tensor; the statistics leave its scope by being kept.
    statistics.mean = tf.keep(mean);
    statistics.variance = tf.keep(variance);
    const inverse = tf.rsqrt(tf.add(variance, epsilon));
    save([input, tf.mul(scaleIn, inverse), mean, inverse]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [xs, s, m, inv] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const sumDy = tf.sum(dy, axes);
        const dGamma = tf.mul(inv, tf.sub(tf.sum(tf.mul(dy, xs), axes), tf.mul(m, sumDy)));
        // dx = s (dy - sum(dy)/N - xhat dGamma/N), with xhat = (x - m) inv spread out into a x + b
        const slope = tf.mul(tf.mul(s, inv), tf.div(dGamma, -count));
        const offset = tf.sub(tf.mul(tf.mul(m, slope), -1), tf.mul(s, tf.div(sumDy, count)));
        return [tf.add(tf.add(tf.mul(dy, s), tf.mul(xs, slope)), offset), dGamma, sumDy];
      },
    };
  });
  const value = operation(x, gamma, beta);
  const [mean, variance] = [statistics.mean!, statistics.variance!].map((kept) => {
    const copy = tf.clone(kept);
    kept.dispose();
    return copy;
  }) as [tf.Tensor, tf.Tensor];
  return { value, mean, variance };
}

/** Scale and shift of every element of the last axis, [size]. */
export interface Affine { readonly scale: tf.Tensor1D; readonly shift: tf.Tensor1D }

/**
 * (x - mean) / sqrt(variance + epsilon) over the last axis, times scale plus shift where they are given, and
 * 1 / sqrt(variance + epsilon) with that axis kept as 1. No gradient of its own: for use inside custom gradients. One node
 * where the backend has it.
 */
export function standardized(x: tf.Tensor, epsilon: number, affine?: Affine): [tf.Tensor, tf.Tensor] {
  if (tf.getKernel('Standardize', tf.getBackend())) {
    return tf.engine().runKernel('Standardize', { x, ...affine }, { epsilon }) as unknown as [tf.Tensor, tf.Tensor];
  }
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
  const normal = tf.mul(centred, inverse);
  return [affine ? tf.add(tf.mul(normal, affine.scale), affine.shift) : normal, inverse];
}

/** (x - mean) / sqrt(variance + epsilon) over the last axis, with its own gradient. */
export function standardize(x: tf.Tensor, epsilon: number): tf.Tensor {
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const [value, inverse] = standardized(input, epsilon);
    save([value, inverse]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [y, inv] = saved as [tf.Tensor, tf.Tensor];
        const centred = tf.sub(dy, tf.mean(dy, -1, true));
        return tf.mul(inv, tf.sub(centred, tf.mul(y, tf.mean(tf.mul(dy, y), -1, true))));
      },
    };
  });
  return operation(x);
}

/**
 * scale (x - mean) / sqrt(variance + epsilon) + shift, mean and variance of each sample's `groups` groups of channels; its gradient
 * takes two sums and one multiply-add pass over x and dy.
 * @param x [n, h, w, c]
 * @param scale [n or 1, 1, 1, c]; `shift` has the same shape
 */
function normalizeGroups(x: tf.Tensor4D, scale: tf.Tensor4D, shift: tf.Tensor4D, groups: number, epsilon: number): tf.Tensor4D {
  const [n, h, w, c] = x.shape;
  // Channels first, where a group is contiguous; the compiler keeps images in this order anyway.
  const first = (t: tf.Tensor): tf.Tensor => tf.transpose(t, [0, 3, 1, 2]), last = (t: tf.Tensor): tf.Tensor => tf.transpose(t, [0, 2, 3, 1]);
  const size = (c / groups) * h * w;
  const grouped = (t: tf.Tensor): tf.Tensor => tf.reshape(t, [n, groups, size]), whole = (t: tf.Tensor): tf.Tensor => tf.reshape(t, [n, c, h, w]);
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, scaleIn, shiftIn, save] = args as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const [normal, inverse] = standardized(grouped(first(input)), epsilon);
    save([normal, inverse, scaleIn]);
    return {
      value: last(tf.add(tf.mul(whole(normal), first(scaleIn)), first(shiftIn))),
      gradFunc: (dyLast: tf.Tensor, saved: tf.Tensor[]) => {
        const [xhat, inv, factor] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
        const dy = first(dyLast), factors = first(factor);
        const dShift = tf.sum(dy, [2, 3], true), dScale = tf.sum(tf.mul(dy, whole(xhat)), [2, 3], true);
        /** Mean over a group of t * scale, from the channels' sums of t; [n, groups, 1]. */
        const mean = (sums: tf.Tensor): tf.Tensor => tf.div(tf.sum(tf.reshape(tf.mul(sums, factors), [n, groups, c / groups]), 2, true), size);
        // dx = inv (scale dy - mean(scale dy) - xhat mean(scale dy xhat))
        const slope = tf.mul(tf.reshape(tf.mul(tf.ones([1, 1, c / groups]), inv), [n, c, 1, 1]), factors);
        const rest = tf.add(tf.mul(xhat, tf.mul(inv, tf.mul(mean(dScale), -1))), tf.mul(inv, tf.mul(mean(dShift), -1)));
        const parameter = (t: tf.Tensor): tf.Tensor => last(scale.shape[0] === 1 ? tf.sum(t, 0, true) : t);
        return [last(tf.add(tf.mul(dy, slope), whole(rest))), parameter(dScale), parameter(dShift)];
      },
    };
  });
  return operation(x, scale, shift) as tf.Tensor4D;
}

/** Scale and shift of every sample's channels, [n, 1, 1, c]: what a condition adds to a normalisation. */
export interface Modulation { readonly scale: tf.Tensor4D; readonly shift: tf.Tensor4D }

export interface GroupNorm extends Module<tf.Tensor4D, tf.Tensor4D> {
  /** The layer's output times (1 + scale) plus shift (`resnet_time_scale_shift: scale_shift` of diffusers), at the cost of the layer alone. */
  modulated(x: tf.Tensor4D, modulation: Modulation, weights: Weights): tf.Tensor4D;
}

/** Group norm of [n, h, w, c] in `groups` groups of channels (Wu and He 2018), epsilon 1e-5. */
export function groupNorm(name: string, channels: number, groups: number, epsilon = 1e-5): GroupNorm {
  if (channels % groups !== 0) throw new RangeError(`${channels} channels do not divide into ${groups} groups`);
  const coefficients = (weights: Weights): [tf.Tensor4D, tf.Tensor4D] => {
    const [gamma, beta] = [weight(weights, `${name}.weight`), weight(weights, `${name}.bias`)].map((t) => tf.reshape(t, [1, 1, 1, channels])) as [tf.Tensor4D, tf.Tensor4D];
    return [gamma, beta];
  };
  return {
    parameters: [parameter(`${name}.weight`, [channels], ones), parameter(`${name}.bias`, [channels], zeros)],
    apply: (x, weights) => normalizeGroups(x, ...coefficients(weights), groups, epsilon),
    modulated(x, { scale, shift }, weights) {
      const [gamma, beta] = coefficients(weights), factor = tf.add(scale, 1);
      return normalizeGroups(x, tf.mul(gamma, factor), tf.add(tf.mul(beta, factor), shift), groups, epsilon);
    },
  };
}

/** Parameters of several modules in order. */
export function parametersOf(...modules: readonly { readonly parameters: readonly ParameterSpec[] }[]): ParameterSpec[] {
  return modules.flatMap((m) => m.parameters);
}

/** Modules one after another. */
export function sequential<T extends tf.Tensor = tf.Tensor>(...modules: readonly Module<T, T>[]): Module<T, T> {
  return {
    parameters: parametersOf(...modules),
    apply: (x: T, weights: Weights, mode: Mode) => modules.reduce((y, module) => module.apply(y, weights, mode), x),
  };
}

/** A function without parameters as a module. */
export function lambda<T extends tf.Tensor>(fn: (x: T) => T): Module<T, T> {
  return { parameters: [], apply: (x) => fn(x) };
}

/** Swish, x sigmoid(x), with the gradient in the fewest passes. */
export function silu<T extends tf.Tensor>(x: T): T {
  const operation = tf.customGrad((...args: unknown[]) => {
    const [input, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const share = tf.sigmoid(input), value = tf.mul(input, share);
    save([share, value]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [s, y] = saved as [tf.Tensor, tf.Tensor];
        return tf.mul(dy, tf.add(s, tf.mul(y, tf.sub(1, s))));
      },
    };
  });
  return operation(x) as T;
}

/** x / max(|x|, epsilon) along the last axis (PyTorch's F.normalize). @default epsilon 1e-12 */
export function l2Normalize<T extends tf.Tensor>(x: T, epsilon = 1e-12): T {
  return tf.div(x, tf.sqrt(tf.maximum(tf.sum(tf.square(x), -1, true), epsilon * epsilon)));
}
