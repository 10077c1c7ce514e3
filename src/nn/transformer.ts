import * as tf from '@tensorflow/tfjs';
import { gelu } from './gelu.ts';
import { layerNorm } from './layerNorm.ts';
import { linear, parameter, parametersOf, uniform, weight, xavierUniform, zeros, type Initializer } from './layers.ts';
import { inference, type ParameterSpec, type Weights } from './module.ts';

/**
 * Tokens are rows of one matrix, [samples * tokens, width], sample by sample: every linear layer is then one matrix product,
 * and only attention looks at samples.
 */
export type Tokens = tf.Tensor2D;

/** Weight [out, in] and bias [out] of a linear layer. */
type Affine = readonly [tf.Tensor2D, tf.Tensor1D];

/** Where the queries, keys and values of a block come from. */
export interface Projections {
  readonly parameters: readonly ParameterSpec[];
  /** Layers of queries, keys and values, each of [width, width]. */
  layers(weights: Weights): readonly [Affine, Affine, Affine];
}

/** One tensor `<name>.weight` [3 width, width] for all three, as in timm; initialised as three (moco-v3 `vits.py`). */
export function joinedProjections(name: string, width: number): Projections {
  return {
    parameters: [parameter(`${name}.weight`, [3 * width, width], uniform(Math.sqrt(6 / (2 * width)))), parameter(`${name}.bias`, [3 * width], zeros)],
    // Split here and not behind the product: weights are smaller than what they produce.
    layers(weights) {
      const matrices = tf.split(weight(weights, `${name}.weight`) as tf.Tensor2D, 3), biases = tf.split(weight(weights, `${name}.bias`) as tf.Tensor1D, 3);
      return matrices.map((matrix, i) => [matrix, biases[i]!] as const) as unknown as [Affine, Affine, Affine];
    },
  };
}

/** Three linear layers of these names. */
export function separateProjections(names: readonly [string, string, string], width: number): Projections {
  return {
    parameters: names.flatMap((name) => [parameter(`${name}.weight`, [width, width], xavierUniform), parameter(`${name}.bias`, [width], zeros)]),
    layers: (weights) => names.map((name) => [weight(weights, `${name}.weight`), weight(weights, `${name}.bias`)]) as unknown as [Affine, Affine, Affine],
  };
}

/** softmax(q k^T / sqrt(width / heads)) v for each head of each sample (Vaswani et al. 2017), heads side by side in the result. */
function attend(x: Tokens, samples: number, heads: number, [queries, keys, values]: readonly [Affine, Affine, Affine]): Tokens {
  const [rows, width] = x.shape, size = width / heads;
  /** [samples, heads, tokens, size] */
  const project = ([matrix, bias]: Affine, factor = 1): tf.Tensor4D => {
    // The factor belongs to the scores; on the weights it costs next to nothing, or nothing where they are constant.
    const y = tf.add(tf.matMul(x, tf.mul(matrix, factor) as tf.Tensor2D, false, true), tf.mul(bias, factor));
    return tf.transpose(tf.reshape(y, [samples, rows / samples, heads, size]), [0, 2, 1, 3]) as tf.Tensor4D;
  };
  const weights = tf.softmax(tf.matMul(project(queries, 1 / Math.sqrt(size)), project(keys), false, true));
  return tf.reshape(tf.transpose(tf.matMul(weights, project(values)), [0, 2, 1, 3]), [rows, width]);
}

/** Names of a block's parts. */
export interface BlockNames {
  readonly norm1: string;
  readonly projection: string;
  readonly norm2: string;
  readonly fc1: string;
  readonly fc2: string;
}

export interface BlockOptions {
  readonly width: number;
  readonly heads: number;
  /** Width of the hidden layer. */
  readonly hidden: number;
  /** Of both layer norms. */
  readonly epsilon: number;
  /** Of the linear layers but queries, keys and values. @default xavierUniform, bias 0 */
  readonly initializer?: Initializer;
}

export interface TransformerBlock {
  readonly parameters: readonly ParameterSpec[];
  apply(x: Tokens, samples: number, weights: Weights): Tokens;
}

/** Pre-LN transformer block: x + attention(norm1(x)), then x + fc2(gelu(fc1(norm2(x)))). */
export function transformerBlock(names: BlockNames, projections: Projections, { width, heads, hidden, epsilon, initializer = xavierUniform }: BlockOptions): TransformerBlock {
  if (width % heads !== 0) throw new RangeError(`${width} channels do not divide among ${heads} heads`);
  const norm1 = layerNorm<Tokens>(names.norm1, width, epsilon), norm2 = layerNorm<Tokens>(names.norm2, width, epsilon);
  const projection = linear(names.projection, width, width, { initializer });
  const fc1 = linear(names.fc1, width, hidden, { initializer }), fc2 = linear(names.fc2, hidden, width, { initializer });
  return {
    parameters: parametersOf(norm1, projections, projection, norm2, fc1, fc2),
    apply(x, samples, w) {
      const attended = attend(norm1.apply(x, w, inference), samples, heads, projections.layers(w));
      const y = tf.add(x, projection.apply(attended, w, inference)) as Tokens;
      return tf.add(y, fc2.apply(gelu(fc1.apply(norm2.apply(y, w, inference), w, inference)), w, inference));
    },
  };
}

/**
 * The tokens of a batch: a class token before the patches of each sample, plus positions.
 * @param patches [samples, rows, columns, width]
 * @param classToken `width` elements
 * @param positions (1 + rows * columns) * width elements
 */
export function embedTokens(patches: tf.Tensor4D, classToken: tf.Tensor, positions: tf.Tensor): Tokens {
  const [samples, rows, columns, width] = patches.shape, count = rows * columns + 1;
  if (positions.size !== count * width) {
    throw new RangeError(`${rows} x ${columns} patches and a class token do not fit ${positions.size / width} positions; use the image size that the network was made for`);
  }
  const first = tf.add(tf.reshape(classToken, [1, 1, width]), tf.zeros([samples, 1, 1]));
  const all = tf.concat([first, tf.reshape(patches, [samples, count - 1, width])], 1);
  return tf.reshape(tf.add(all, tf.reshape(positions, [1, count, width])), [samples * count, width]);
}

/** The first token of each sample, [samples, width], and the others, [samples, tokens - 1, width]. */
export function splitTokens(x: Tokens, samples: number): { first: tf.Tensor2D; others: tf.Tensor3D } {
  const [rows, width] = x.shape, count = rows / samples;
  const [first, others] = tf.split(tf.reshape(x, [samples, count, width]), [1, count - 1], 1);
  return { first: tf.reshape(first!, [samples, width]), others: others as tf.Tensor3D };
}
