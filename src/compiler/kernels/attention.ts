import type { Graph, Value } from '../graph.ts';
import { materialize, plain } from '../layout.ts';
import type { Kernel } from './kernel.ts';

export interface AttentionAttributes {
  readonly heads: number;
  /** Factor of the products of queries and keys. */
  readonly scale: number;
}

/** [n, tokens, heads c] -> [n, heads, tokens, c] with its axes in another order. */
function split(g: Graph, x: Value, heads: number, order: readonly number[]): Value {
  const [n, tokens, channels] = x.shape as [number, number, number];
  return g.transpose(g.reshape(x, [n, tokens, heads, channels / heads]), order);
}

const product = (g: Graph, a: Value, b: Value): Value => g.node('MatMul', [a, b], {}, [...a.shape.slice(0, -1), b.shape.at(-1)!]);

/**
 * A kernel of our own (src/nn/operations/attention.ts): queries [n, s, d], keys [n, l, d], values [n, l, e] give the result [n, s, e] and
 * the probabilities [n, heads, s, l]. The result is one operator of onnxruntime, which never stores the probabilities, unless something
 * reads them (a gradient) or the model must be standard.
 */
const attention: Kernel<'q' | 'k' | 'v', AttentionAttributes> = (g, inputs, { heads, scale }) => {
  const q = materialize(g, inputs.q), k = materialize(g, inputs.k), v = materialize(g, inputs.v), type = q.type;
  // Queries are fewer numbers than scores.
  const queries = split(g, scale === 1 ? q : g.elementwise('Mul', [q, g.scalar(scale)]), heads, [0, 2, 1, 3]);
  const scores = product(g, queries, split(g, k, heads, [0, 2, 3, 1]));
  const probabilities = g.node('Softmax', [scores], { axis: -1 }, scores.shape);
  const mixed = product(g, probabilities, split(g, v, heads, [0, 2, 1, 3])), shape = [q.shape[0]!, q.shape[1]!, v.shape[2]!];
  const standard = { value: g.reshape(g.transpose(mixed, [0, 2, 1, 3]), shape), shared: probabilities };
  if (!probabilities.node) return [plain(standard.value), plain(probabilities)]; // No keys: nothing to attend to.
  const [result] = g.nodes('MultiHeadAttention', [q, k, v], { num_heads: heads, scale: { float: scale } }, [{ shape, type, standard }]);
  return [plain(result!), plain(probabilities)];
};

export const attentions = { MultiHeadAttention: attention };
