import * as tf from '@tensorflow/tfjs';
import { expect } from 'vitest';
import { completeGradients } from '../../src/compiler/gradients/index.ts';
import { withBackend } from '../../src/compiler/record.ts';
import { Random } from '../../src/random.ts';
import { compile } from '../../src/runtime/compile.ts';
import type { TensorSpec } from '../../src/runtime/program.ts';
import { sizeOf, type HostTensor, type NamedTensors } from '../../src/tensor.ts';

tf.enableProdMode();
completeGradients();

const random = new Random('compiler tests');

/** Standard normal values, times `scale`, plus `mean`. */
export function normal(shape: readonly number[], scale = 1, mean = 0): HostTensor<'float32'> {
  return { shape, dtype: 'float32', data: random.normals(sizeOf(shape)).map((v) => v * scale + mean) };
}

/** Uniform values. */
export function uniform(shape: readonly number[], low: number, high: number): HostTensor<'float32'> {
  return { shape, dtype: 'float32', data: Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(low, high)) };
}

/** Distinct values at least 0.1 apart, in random order: no ties for maxima, no kinks for gradients. */
export function distinct(shape: readonly number[]): HostTensor<'float32'> {
  const n = sizeOf(shape);
  return { shape, dtype: 'float32', data: Float32Array.from(random.shuffle(Array.from({ length: n }, (_, i) => (i - n / 2) * 0.1 + 0.05))) };
}

/** Whole numbers from low (included) to high (not included). */
export function integers(shape: readonly number[], low: number, high: number): HostTensor<'int32'> {
  return { shape, dtype: 'int32', data: Int32Array.from({ length: sizeOf(shape) }, () => low + random.integer(high - low)) };
}

export function booleans(shape: readonly number[]): HostTensor<'bool'> {
  return { shape, dtype: 'bool', data: Uint8Array.from({ length: sizeOf(shape) }, () => random.integer(2)) };
}

type Operation = (...xs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];

interface Options {
  /** Compare gradients with respect to the float inputs too. @default true when all outputs are floats */
  readonly gradient?: boolean;
  /** Relative to the largest magnitude of the reference, at least 1. @default 1e-5 */
  readonly tolerance?: number;
  /** What tf.js computes instead, where its own operation or gradient is missing or wrong. @default the operation itself */
  readonly as?: Operation;
}

const reversed = (rank: number): number[] => Array.from({ length: rank }, (_, i) => rank - 1 - i);

/** `x` with its axes in reverse order. */
const turned = (x: tf.Tensor): tf.Tensor => (x.rank > 1 ? tf.transpose(x, reversed(x.rank)) : x);

/**
 * The operation's outputs and the gradients of a fixed linear form of them.
 * @param transposed the inputs come with their axes in reverse order; gradients are returned in the operation's order
 */
function valuesAndGradients(fn: Operation, stored: readonly tf.Tensor[], gradient: boolean, transposed = false): Record<string, tf.Tensor> {
  const call = (xs: readonly tf.Tensor[]): tf.Tensor[] => [fn(...(transposed ? xs.map(turned) : xs))].flat();
  const result: Record<string, tf.Tensor> = Object.fromEntries(call(stored).map((y, i) => [`y${i}`, y]));
  if (!gradient) return result;
  const variable = stored.map((_, i) => i).filter((i) => stored[i]!.dtype === 'float32');
  const form = (...some: tf.Tensor[]): tf.Tensor => {
    const xs = [...stored];
    variable.forEach((place, k) => { xs[place] = some[k]!; });
    return tf.addN(call(xs).map((y) => {
      const weights = tf.tensor(Float32Array.from({ length: y.size }, (_, i) => Math.cos(i * 1.7) + 0.3), y.shape);
      return tf.sum(tf.mul(y, weights));
    }));
  };
  tf.grads(form)(variable.map((i) => stored[i]!)).forEach((g, k) => { result[`gradient of x${variable[k]}`] = transposed ? turned(g) : g; });
  return result;
}

export function expectClose(actual: HostTensor, expected: HostTensor, tolerance: number, label: string): void {
  expect({ shape: actual.shape, dtype: actual.dtype }, label).toEqual({ shape: expected.shape, dtype: expected.dtype });
  let scale = 1;
  for (const v of expected.data) if (Number.isFinite(v)) scale = Math.max(scale, Math.abs(v));
  for (let i = 0; i < expected.data.length; i++) {
    const a = actual.data[i]!, b = expected.data[i]!;
    if (Object.is(a, b) || a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    if (!(Math.abs(a - b) <= tolerance * scale)) expect.fail(`${label}[${i}] of [${expected.shape.join(', ')}] is ${a}, expected ${b} (largest magnitude ${scale})`);
  }
}

/** Runs the operation eagerly on tf.js's cpu backend. */
export function reference(fn: (given: Record<string, tf.Tensor>) => Record<string, tf.Tensor>, inputs: NamedTensors): NamedTensors {
  return withBackend('cpu', () => {
    tf.engine().startScope();
    try {
      const given = Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, tf.tensor(x.data, [...x.shape], x.dtype)]));
      return Object.fromEntries(Object.entries(fn(given)).map(([name, y]) => [name, { shape: y.shape, dtype: y.dtype, data: y.dataSync().slice() } as HostTensor]));
    } finally {
      tf.engine().endScope();
    }
  });
}

/**
 * Compiles the operation and compares outputs and gradients with tf.js's cpu backend; twice, the second time with every
 * input stored in reverse axis order and transposed inside, so that kernels meet lazily transposed operands.
 */
export async function expectAgreement(fn: Operation, inputs: readonly HostTensor[], options: Options = {}): Promise<void> {
  const plain = options.as ?? fn, named = Object.fromEntries(inputs.map((x, i) => [`x${i}`, x]));
  const probe = withBackend('cpu', () => tf.tidy(() => [plain(...inputs.map((x) => tf.tensor(x.data, [...x.shape], x.dtype)))].flat().map((y) => y.dtype)));
  const gradient = options.gradient ?? (probe.every((type) => type === 'float32') && inputs.some((x) => x.dtype === 'float32'));
  const expected = reference((given) => valuesAndGradients(plain, Object.values(given), gradient), named);
  const stored = inputs.some((x) => x.shape.length > 1) ? reference((given) => Object.fromEntries(Object.entries(given).map(([name, x]) => [`${name} transposed`, turned(x)])), named) : {};
  const given = { ...named, ...stored };
  const step = (tensors: Record<string, tf.Tensor>): Record<string, tf.Tensor> => ({
    ...valuesAndGradients(fn, Object.keys(named).map((name) => tensors[name]!), gradient),
    ...(Object.keys(stored).length > 0 && Object.fromEntries(Object.entries(valuesAndGradients(fn, Object.keys(stored).map((name) => tensors[name]!), gradient, true)).map(([name, x]) => [`${name} (stored transposed)`, x]))),
  });
  const specs: Record<string, TensorSpec> = Object.fromEntries(Object.entries(given).map(([name, x]) => [name, { shape: x.shape, dtype: x.dtype }]));
  const program = await compile(step, specs, { threads: 1 });
  try {
    const actual = await program.run(given);
    const names = Object.keys(expected), also = Object.keys(stored).length > 0 ? names.map((name) => `${name} (stored transposed)`) : [];
    expect(Object.keys(actual)).toEqual([...names, ...also]);
    [...names, ...also].forEach((name, i) => { expectClose(actual[name]!, expected[names[i % names.length]!]!, options.tolerance ?? 1e-5, name); });
  } finally {
    await program.dispose();
  }
}
