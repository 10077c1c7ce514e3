import { materialize, plain } from '../layout.ts';
import type { Kernel } from './kernel.ts';

export interface AttentionAttributes {
  readonly heads: number;
  /** Factor of the products of queries and keys. */
  readonly scale: number;
}

/**
 * A kernel of our own (src/nn/operations/attention.ts): queries [n, s, d], keys [n, l, d], values [n, l, e] give the result [n, s, e] and
 * the probabilities [n, heads, s, l]. A single node; how it is computed is decided when the model is written (src/compiler/attention.ts).
 */
const attention: Kernel<'q' | 'k' | 'v', AttentionAttributes> = (g, inputs, { heads, scale }) => {
  const q = materialize(g, inputs.q), k = materialize(g, inputs.k), v = materialize(g, inputs.v);
  const [n, s] = q.shape as [number, number, number], [, l] = k.shape as [number, number, number];
  return g.nodes('MultiHeadAttention', [q, k, v], { num_heads: heads, scale: { float: scale } }, [
    { shape: [n, s, v.shape[2]!], type: q.type }, { shape: [n, heads, s, l], type: q.type },
  ]).map(plain);
};

export const attentions = { MultiHeadAttention: attention };
