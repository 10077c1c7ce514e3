import * as tf from '@tensorflow/tfjs';

const cumsum: tf.GradConfig = {
  kernelName: 'Cumsum',
  gradFunc: (dy, _saved, attributes) => {
    const { axis, exclusive, reverse } = attributes as unknown as tf.CumsumAttrs;
    return { x: () => tf.cumsum(dy as tf.Tensor, axis, exclusive, !reverse) };
  },
};

/** The product of all others, of those before times those after: right where elements are zero. */
const product: tf.GradConfig = {
  kernelName: 'Prod',
  inputsToSave: ['x'],
  gradFunc: (dy, saved, attributes) => ({
    x: () => {
      const x = saved[0]!, reduced = tf.util.parseAxisParam((attributes as unknown as tf.ProdAttrs).axis as number[], x.shape), kept = x.shape.map((_, i) => i).filter((i) => !reduced.includes(i));
      const order = [...kept, ...reduced], moved = tf.transpose(x, order), sizeOf = (axes: readonly number[]): number => axes.reduce((n, axis) => n * x.shape[axis]!, 1);
      const rows = tf.reshape(moved, [sizeOf(kept), sizeOf(reduced)]);
      const others = tf.mul(tf.cumprod(rows, 1, true), tf.cumprod(rows, 1, true, true));
      return tf.transpose(tf.reshape(tf.mul(others, tf.reshape(dy as tf.Tensor, [sizeOf(kept), 1])), moved.shape), order.map((_, i) => order.indexOf(i)));
    },
  }),
};

type Gradients = ReturnType<tf.GradFunc>;

type Saved = readonly tf.Tensor[];

/** The gradient of each operand is the product of the others with dy; axes that only it has are repeated. */
const einsum: tf.GradConfig = {
  kernelName: 'Einsum',
  saveAllInputs: true,
  gradFunc: (dy, saved, attributes) => {
    const [left, right] = (attributes as unknown as tf.EinsumAttrs).equation.replaceAll(' ', '').split('->') as [string, string], terms = left.split(',');
    const gradients: Gradients = {};
    terms.forEach((term, i) => {
      gradients[i] = () => {
        const others = terms.filter((_, k) => k !== i), known = Array.from(term).filter((letter) => right.includes(letter) || others.some((other) => other.includes(letter)));
        const product = tf.einsum(`${[right, ...others].join(',')}->${known.join('')}`, dy as tf.Tensor, ...(saved as Saved).filter((_, k) => k !== i));
        const shape = saved[i]!.shape;
        return tf.broadcastTo(tf.reshape(product, shape.map((n, axis) => (known.includes(term[axis]!) ? n : 1))), shape);
      };
    });
    return gradients;
  },
};

export const products: readonly tf.GradConfig[] = [cumsum, product, einsum];
