import * as tf from '@tensorflow/tfjs';

export interface AttentionOptions {
  readonly heads: number;
  /** Factor of the products of queries and keys. @default 1 / sqrt(channels of a head) */
  readonly scale?: number;
}

/** [n, tokens, heads c] -> [n, heads, tokens, c]. */
const split = (x: tf.Tensor, heads: number): tf.Tensor => {
  const [n, tokens, channels] = x.shape as [number, number, number];
  return tf.transpose(tf.reshape(x, [n, tokens, heads, channels / heads]), [0, 2, 1, 3]);
};

/** [n, heads, tokens, c] -> [n, tokens, heads c]. */
const join = (x: tf.Tensor): tf.Tensor => {
  const [n, heads, tokens, channels] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [n, tokens, heads * channels]);
};

/** The result [n, s, e] and the probabilities [n, heads, s, l]. */
function attend(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, heads: number, scale: number): [tf.Tensor, tf.Tensor] {
  if (tf.getKernel('MultiHeadAttention', tf.getBackend())) {
    return tf.engine().runKernel('MultiHeadAttention', { q, k, v }, { heads, scale }) as unknown as [tf.Tensor, tf.Tensor];
  }
  const probabilities = tf.softmax(tf.matMul(split(tf.mul(q, scale), heads), split(k, heads), false, true));
  return [join(tf.matMul(probabilities, split(v, heads))), probabilities];
}

/**
 * Scaled dot-product attention with several heads, softmax(scale q k') v (Vaswani et al. 2017, Eq. 1; torch's
 * scaled_dot_product_attention on split heads), projections left to the caller. Where no gradient is taken a compiled program runs
 * it as one operator; a saved program holds standard operators.
 *
 * @param q [n, s, d]: head h owns the channels from h d / heads on
 * @param k [n, l, d]
 * @param v [n, l, e]
 * @returns [n, s, e]
 * @throws RangeError when channels do not divide into the heads or the shapes do not fit
 */
export function attention(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, options: AttentionOptions): tf.Tensor3D {
  const { heads } = options, d = q.shape[2]!;
  if ([q, k, v].some((x) => x.rank !== 3) || q.shape[0] !== k.shape[0] || q.shape[0] !== v.shape[0] || d !== k.shape[2] || k.shape[1] !== v.shape[1]) {
    throw new RangeError(`attention of queries [${q.shape.join(', ')}], keys [${k.shape.join(', ')}] and values [${v.shape.join(', ')}]: give [n, s, d], [n, l, d] and [n, l, e]`);
  }
  if (d % heads !== 0 || v.shape[2]! % heads !== 0) throw new RangeError(`${d} and ${v.shape[2]} channels do not divide into ${heads} heads`);
  const scale = options.scale ?? 1 / Math.sqrt(d / heads);
  const operation = tf.customGrad((...args: unknown[]) => {
    const [queries, keys, values, save] = args as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const [result, probabilities] = attend(queries, keys, values, heads, scale);
    save([queries, keys, values, result, probabilities]);
    return {
      value: result,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [qs, ks, vs, y, p] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const gradient = split(dy, heads);
        // The sum over keys of p dp is that over channels of dy y, which is shorter (Dao et al. 2022, Eq. 4).
        const mean = tf.sum(split(tf.mul(dy, y), heads), -1, true);
        const scores = tf.mul(p, tf.sub(tf.matMul(gradient, split(vs, heads), false, true), mean));
        return [
          tf.mul(join(tf.matMul(scores, split(ks, heads))), scale),
          tf.mul(join(tf.matMul(scores, split(qs, heads), true, false)), scale),
          join(tf.matMul(p, gradient, true, false)),
        ];
      },
    };
  });
  return operation(q, k, v) as tf.Tensor3D;
}
