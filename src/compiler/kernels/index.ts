import { attentions } from './attention.ts';
import { convolutions } from './convolution.ts';
import { elementwise } from './elementwise.ts';
import { fusedKernels } from './fused.ts';
import { indexing } from './indexing.ts';
import type { AnyKernel } from './kernel.ts';
import { matmul } from './matmul.ts';
import { normalization } from './normalization.ts';
import { pooling } from './pooling.ts';
import { reductions } from './reduction.ts';
import { resizing } from './resize.ts';
import { shapes } from './shape.ts';

/** Every tf.js kernel that can be compiled, by tf.js's name, and a few of our own (Standardize, NormalizeBatch, MultiHeadAttention, GroupedConv2D…). */
export const kernels: Readonly<Record<string, AnyKernel>> = {
  ...elementwise, ...reductions, ...matmul, ...convolutions, ...pooling, ...shapes, ...indexing, ...normalization, ...resizing, ...fusedKernels, ...attentions,
};
