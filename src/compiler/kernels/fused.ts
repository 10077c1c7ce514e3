import type * as tf from '@tensorflow/tfjs';
import { elementwise } from './elementwise.ts';
import { convolutions } from './convolution.ts';
import type { Kernel } from './kernel.ts';
import { matmul } from './matmul.ts';
import type { Graph } from '../graph.ts';
import type { Recorded } from '../layout.ts';

type Bias = 'bias' | 'preluActivationWeights';

interface Activation {
  readonly activation?: tf.fused.Activation | null;
  readonly leakyreluAlpha?: number;
}

function activate(g: Graph, x: Recorded, alpha: Recorded | undefined, { activation, leakyreluAlpha }: Activation): Recorded {
  switch (activation ?? 'linear') {
    case 'linear': return x;
    case 'relu': return elementwise.Relu(g, { x }, {}) as Recorded;
    case 'relu6': return elementwise.Relu6(g, { x }, {}) as Recorded;
    case 'elu': return elementwise.Elu(g, { x }, {}) as Recorded;
    case 'sigmoid': return elementwise.Sigmoid(g, { x }, {}) as Recorded;
    case 'leakyrelu': return elementwise.LeakyRelu(g, { x }, { alpha: leakyreluAlpha ?? 0.2 });
    case 'prelu':
      if (!alpha) throw new RangeError('activation prelu needs preluActivationWeights');
      return elementwise.Prelu(g, { x, alpha });
    default: throw new RangeError(`activation ${activation!} is not supported; use linear, relu, relu6, elu, sigmoid, leakyrelu or prelu`);
  }
}

/** tf.fused: the plain kernel, a bias and an activation; onnxruntime fuses them again when it loads the model. */
const fused = <Names extends string, Attributes>(kernel: Kernel<Names, Attributes>): Kernel<Names | Bias, Attributes & Activation> => (g, inputs, attributes) => {
  const product = kernel(g, inputs, attributes) as Recorded;
  const { bias, preluActivationWeights } = inputs as Partial<Record<Bias, Recorded>>;
  const sum = bias ? elementwise.Add(g, { a: product, b: bias }, {}) as Recorded : product;
  return activate(g, sum, preluActivationWeights, attributes);
};

export const fusedKernels = { FusedConv2D: fused(convolutions.Conv2D), FusedDepthwiseConv2D: fused(convolutions.DepthwiseConv2dNative), _FusedMatMul: fused(matmul.BatchMatMul) };
