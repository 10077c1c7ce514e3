import * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../errors.ts';
import { backendName } from './backend.ts';
import { withoutGradient } from './unsupported.ts';

/*
 * Gradients that tf.js lacks or gets wrong: sums over broadcast axes, dilation, mirrored and strided access, indexing.
 * They are written in tf.js operations, so every backend has them.
 */

type Gradients = ReturnType<tf.GradFunc>;
type Saved = readonly tf.Tensor[];

/** The gradient of an operand that was broadcast: summed over the repeated axes. */
export function unbroadcast(gradient: tf.Tensor, shape: readonly number[]): tf.Tensor {
  const missing = gradient.rank - shape.length, axes = gradient.shape.map((_, i) => i).filter((i) => i < missing || shape[i - missing] !== gradient.shape[i]);
  return tf.reshape(axes.length > 0 ? tf.sum(gradient, axes) : gradient, [...shape]);
}

const binary = (kernelName: string, slopes: (a: tf.Tensor, b: tf.Tensor) => { a: () => tf.Tensor; b: () => tf.Tensor }): tf.GradConfig => ({
  kernelName,
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, saved) => {
    const [a, b] = saved as [tf.Tensor, tf.Tensor], slope = slopes(a, b);
    return { a: () => unbroadcast(tf.mul(dy as tf.Tensor, slope.a()), a.shape), b: () => unbroadcast(tf.mul(dy as tf.Tensor, slope.b()), b.shape) };
  },
});

const float = (mask: tf.Tensor): tf.Tensor => tf.cast(mask, 'float32');

const prelu: tf.GradConfig = {
  kernelName: 'Prelu',
  inputsToSave: ['x', 'alpha'],
  gradFunc: (dy, saved) => {
    const [x, alpha] = saved as [tf.Tensor, tf.Tensor], positive = tf.greater(x, 0), d = dy as tf.Tensor;
    return {
      x: () => unbroadcast(tf.where(positive, d, tf.mul(d, alpha)), x.shape),
      alpha: () => unbroadcast(tf.where(positive, tf.zerosLike(d), tf.mul(d, x)), alpha.shape),
    };
  },
};

const batchMatMul: tf.GradConfig = {
  kernelName: 'BatchMatMul',
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, saved, attributes) => {
    const [a, b] = saved as [tf.Tensor, tf.Tensor], d = dy as tf.Tensor;
    const { transposeA, transposeB } = attributes as unknown as tf.BatchMatMulAttrs;
    return {
      a: () => unbroadcast(transposeA ? tf.matMul(b, d, transposeB, true) : tf.matMul(d, b, false, !transposeB), a.shape),
      b: () => unbroadcast(transposeB ? tf.matMul(d, a, true, transposeA) : tf.matMul(a, d, !transposeA, false), b.shape),
    };
  },
};

const pair = (n: number | readonly number[] | undefined): [number, number] => (typeof n === 'object' ? [n[0]!, n[1]!] : [n ?? 1, n ?? 1]);

/** Zeros between the elements of an axis: [.., n, ..] -> [.., (n - 1) step + 1, ..]. */
export function spread(x: tf.Tensor, axis: number, step: number): tf.Tensor {
  const n = x.shape[axis]!;
  if (step === 1 || n < 2) return x;
  const widened = tf.pad(tf.expandDims(x, axis + 1), x.shape.toSpliced(axis + 1, 0, 1).map((_, i) => [0, i === axis + 1 ? step - 1 : 0] as [number, number]));
  const merged = tf.reshape(widened, x.shape.with(axis, n * step));
  return tf.slice(merged, x.shape.map(() => 0), x.shape.with(axis, (n - 1) * step + 1));
}

/** A filter [h, w, in, out] with its dilation written out as zeros. */
export const dilated = (filter: tf.Tensor, [rows, columns]: readonly [number, number]): tf.Tensor4D => spread(spread(filter, 0, rows), 1, columns) as tf.Tensor4D;

/** Convolutions with dilation. Our own kernels know it; other backends get the filter written out, and the gradient at its taps. */
function convolution(kernelName: 'Conv2D' | 'DepthwiseConv2dNative', inputKernel: string, filterKernel: string): tf.GradConfig {
  const original = tf.getGradient(kernelName);
  return {
    kernelName,
    inputsToSave: ['x', 'filter'],
    gradFunc: (dy, saved, attributes) => {
      const dilations = pair((attributes as unknown as tf.Conv2DAttrs).dilations);
      if (dilations.every((n) => n === 1)) return original.gradFunc(dy, saved, attributes);
      const [x, filter] = saved as [tf.Tensor, tf.Tensor], own = tf.getBackend() === backendName;
      const written = own ? filter : dilated(filter, dilations), known = own ? attributes : { ...attributes, dilations: [1, 1] };
      const run = (name: string, inputs: tf.NamedTensorMap, more: tf.NamedAttrMap): tf.Tensor => tf.engine().runKernel(name, inputs, { ...known, ...more });
      return {
        x: () => run(inputKernel, { dy: dy as tf.Tensor, filter: written }, { inputShape: x.shape }),
        filter: () => {
          const gradient = run(filterKernel, { x, dy: dy as tf.Tensor }, { filterShape: written.shape });
          return own ? gradient : tf.stridedSlice(gradient, [0, 0, 0, 0], written.shape, [...dilations, 1, 1]);
        },
      };
    },
  };
}

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

/** The sum over all copies; tf.js has it to four axes, and BroadcastTo is a tile there. */
const tile: tf.GradConfig = {
  kernelName: 'Tile',
  inputsToSave: ['x'],
  gradFunc: (dy, saved, attributes) => ({
    x: () => {
      const { shape } = saved[0]!, { reps } = attributes as unknown as tf.TileAttrs, repeated = shape.map((_, i) => i).filter((i) => reps[i] !== 1);
      // Only repeated axes are split, which keeps the rank low.
      const split = shape.flatMap((n, i) => (repeated.includes(i) ? [reps[i]!, n] : [n])), copies = repeated.map((axis, k) => axis + k);
      return copies.length > 0 ? tf.sum(tf.reshape(dy as tf.Tensor, split), copies) : tf.clone(dy as tf.Tensor);
    },
  }),
};

/** Gradients of the mirrored borders, turned round and added to what they mirror. */
const mirrorPad: tf.GradConfig = {
  kernelName: 'MirrorPad',
  inputsToSave: ['x'],
  gradFunc: (dy, saved, attributes) => ({
    x: () => {
      const { paddings, mode } = attributes as unknown as tf.MirrorPadAttrs, edge = mode === 'reflect' ? 1 : 0;
      const { shape } = saved[0]!;
      return paddings.reduce((gradient, [before, after], axis) => {
        const n = shape[axis]!, own = part(gradient, axis, before, n);
        const border = (begin: number, size: number, place: number): tf.Tensor => placed(tf.reverse(part(gradient, axis, begin, size), axis), axis, place, n);
        return [...(before > 0 ? [border(0, before, edge)] : []), ...(after > 0 ? [border(before + n, after, n - edge - after)] : [])].reduce((sum, t) => tf.add(sum, t), own);
      }, dy as tf.Tensor);
    },
  }),
};

const part = (x: tf.Tensor, axis: number, begin: number, size: number): tf.Tensor => tf.slice(x, x.shape.map((_, i) => (i === axis ? begin : 0)), x.shape.with(axis, size));

/** `x` from `place` on along an axis of `size` elements, zeros elsewhere. */
const placed = (x: tf.Tensor, axis: number, place: number, size: number): tf.Tensor =>
  tf.pad(x, x.shape.map((n, i) => (i === axis ? [place, size - place - n] : [0, 0]) as [number, number]));

/** Of a single part, too: tf.js then gets a tensor where it expects a list. */
const splitV: tf.GradConfig = {
  kernelName: 'SplitV',
  gradFunc: (dys, _saved, attributes) => ({ x: () => tf.concat([dys].flat(), (attributes as unknown as tf.SplitVAttrs).axis) }),
};

const unpack: tf.GradConfig = {
  kernelName: 'Unpack',
  gradFunc: (dys, _saved, attributes) => ({ value: () => tf.stack([dys].flat(), (attributes as unknown as tf.UnpackAttrs).axis) }),
};

const stridedSlice: tf.GradConfig = {
  kernelName: 'StridedSlice',
  inputsToSave: ['x'],
  gradFunc: (dy, saved, attributes) => ({
    x: () => {
      const { shape } = saved[0]!, a = attributes as unknown as tf.StridedSliceAttrs;
      const { begin, end, strides } = tf.slice_util.sliceInfo(shape, a.begin, a.end, a.strides, a.beginMask, a.endMask, a.ellipsisMask, a.newAxisMask, a.shrinkAxisMask);
      const sizes = tf.slice_util.computeOutShape(begin, end, strides).map((n) => Math.max(0, n)); // Not -0.
      return shape.reduce((gradient: tf.Tensor, n, axis) => {
        const step = strides[axis]!, size = sizes[axis]!, lowest = step > 0 ? begin[axis]! : begin[axis]! + (size - 1) * step;
        if (size === 0) return tf.zeros(gradient.shape.with(axis, n));
        return placed(spread(step < 0 ? tf.reverse(gradient, axis) : gradient, axis, Math.abs(step)), axis, lowest, n);
      }, tf.reshape(dy as tf.Tensor, sizes));
    },
  }),
};

const gatherNd: tf.GradConfig = {
  kernelName: 'GatherNd',
  inputsToSave: ['params', 'indices'],
  gradFunc: (dy, saved) => {
    const [params, indices] = saved as [tf.Tensor, tf.Tensor];
    return { params: () => tf.scatterND(indices, dy as tf.Tensor, params.shape as [number]) };
  },
};

const scatterNd: tf.GradConfig = {
  kernelName: 'ScatterNd',
  inputsToSave: ['indices'],
  gradFunc: (dy, saved) => ({ updates: () => tf.gatherND(dy as tf.Tensor, saved[0]!) }),
};

/** Where nothing was written, and what was (the last of equal indices: make them distinct). */
const scatterUpdate: tf.GradConfig = {
  kernelName: 'TensorScatterUpdate',
  inputsToSave: ['indices', 'updates'],
  gradFunc: (dy, saved) => {
    const [indices, updates] = saved as [tf.Tensor, tf.Tensor];
    return {
      tensor: () => tf.tensorScatterUpdate(dy as tf.Tensor, indices, tf.zerosLike(updates)),
      updates: () => tf.gatherND(dy as tf.Tensor, indices),
    };
  },
};

/** A vector of indices for each sample: numbered through, they are rows of one matrix. */
const gatherSamples = (dy: tf.Tensor, x: tf.Tensor, indices: tf.Tensor, batchDims: number): tf.Tensor => {
  const n = x.shape[batchDims]!, batch = x.shape.slice(0, batchDims).reduce((a, b) => a * b, 1), each = indices.size / Math.max(batch, 1), inner = x.shape.slice(batchDims + 1);
  const rows = tf.add(tf.reshape(indices, [batch, each]), tf.mul(tf.reshape(tf.range(0, batch, 1, 'int32'), [batch, 1]), tf.scalar(n, 'int32')));
  const sums = tf.unsortedSegmentSum(tf.reshape(dy, [batch * each, ...inner]), tf.reshape(rows, [batch * each]) as tf.Tensor1D, batch * n);
  return tf.reshape(sums, x.shape);
};

function gather(): tf.GradConfig {
  const original = tf.getGradient('GatherV2');
  return {
    kernelName: 'GatherV2',
    inputsToSave: ['x', 'indices'],
    gradFunc: (dy, saved, attributes) => {
      const { batchDims } = attributes as unknown as tf.GatherV2Attrs, [x, indices] = saved as [tf.Tensor, tf.Tensor];
      if (batchDims === 0) return original.gradFunc(dy, saved, attributes);
      return { x: () => gatherSamples(dy as tf.Tensor, x, indices, batchDims) };
    },
  };
}

const topK: tf.GradConfig = {
  kernelName: 'TopK',
  inputsToSave: ['x'],
  outputsToSave: [false, true],
  gradFunc: (dys, saved) => {
    const [x, places] = saved as [tf.Tensor, tf.Tensor], [dy] = dys as tf.Tensor[];
    return { x: () => tf.sum(tf.mul(float(tf.equal(tf.expandDims(places, -1), tf.range(0, x.shape.at(-1)!, 1, 'int32'))), tf.expandDims(dy!, -1)), -2) };
  },
};

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

const depthToSpace: tf.GradConfig = {
  kernelName: 'DepthToSpace',
  gradFunc: (dy, _saved, attributes) => ({
    x: () => {
      const { blockSize: b } = attributes as unknown as tf.DepthToSpaceAttrs, [n, h, w, c] = (dy as tf.Tensor).shape as [number, number, number, number];
      const blocks = tf.transpose(tf.reshape(dy as tf.Tensor, [n, h / b, b, w / b, b, c]), [0, 1, 3, 2, 4, 5]);
      return tf.reshape(blocks, [n, h / b, w / b, b * b * c]);
    },
  }),
};

const diagonal: tf.GradConfig = {
  kernelName: 'Diag',
  inputsToSave: ['x'],
  gradFunc: (dy, saved) => ({
    x: () => {
      const { size, shape } = saved[0]!;
      return tf.reshape(tf.sum(tf.mul(tf.reshape(dy as tf.Tensor, [size, size]), tf.eye(size)), 1), shape);
    },
  }),
};

const flip: tf.GradConfig = {
  kernelName: 'FlipLeftRight',
  gradFunc: (dy) => ({ image: () => tf.reverse(dy as tf.Tensor, 2) }),
};

const sparseToDense: tf.GradConfig = {
  kernelName: 'SparseToDense',
  inputsToSave: ['sparseIndices', 'sparseValues'],
  gradFunc: (dy, saved) => {
    const [indices, values] = saved as [tf.Tensor, tf.Tensor];
    return { sparseValues: () => unbroadcast(tf.gatherND(dy as tf.Tensor, indices.rank < 2 ? tf.reshape(indices, [-1, 1]) : indices), values.shape) };
  },
};

/** Truth values do not change with small changes of numbers: `tf.where(tf.less(x, 0), ...)` has a gradient although tf.js knows none of Less. */
const predicates: readonly tf.GradConfig[] = Object.entries({
  Equal: ['a', 'b'], NotEqual: ['a', 'b'], Less: ['a', 'b'], LessEqual: ['a', 'b'], Greater: ['a', 'b'], GreaterEqual: ['a', 'b'], LogicalAnd: ['a', 'b'], LogicalOr: ['a', 'b'], LogicalNot: ['x'], All: ['x'], Any: ['x'],
}).map(([kernelName, names]) => ({
  kernelName,
  inputsToSave: names,
  gradFunc: (_dy, saved) => Object.fromEntries(names.map((name, i) => [name, () => tf.zeros(saved[i]!.shape)])),
}));

/** Says what is missing where tf.js would only say that a function was not found. */
const missing = ([kernelName, instead]: [string, string]): tf.GradConfig => ({
  kernelName,
  gradFunc: (dy) => {
    const shapes = [dy].flat().map((t) => `${t.dtype}[${t.shape.join(', ')}]`).join(', ');
    throw new GenViewError('UnsupportedOperation', `the gradient of ${kernelName}, whose result is ${shapes}, does not exist; use ${instead}`);
  },
});

let done = false;

/** Registers the gradients above with tf.js, for the whole process, once. */
export function completeGradients(): void {
  if (done) return;
  done = true;
  const configs = [
    binary('Maximum', (a, b) => ({ a: () => float(tf.greaterEqual(a, b)), b: () => float(tf.less(a, b)) })),
    binary('Minimum', (a, b) => ({ a: () => float(tf.lessEqual(a, b)), b: () => float(tf.greater(a, b)) })),
    binary('SquaredDifference', (a, b) => ({ a: () => tf.mul(tf.sub(a, b), 2), b: () => tf.mul(tf.sub(b, a), 2) })),
    prelu, batchMatMul,
    convolution('Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter'),
    convolution('DepthwiseConv2dNative', 'DepthwiseConv2dNativeBackpropInput', 'DepthwiseConv2dNativeBackpropFilter'),
    product, cumsum, tile, splitV, unpack, mirrorPad, stridedSlice, gather(), gatherNd, scatterNd, scatterUpdate, topK, einsum, depthToSpace, diagonal, flip, sparseToDense,
    ...predicates, ...Object.entries(withoutGradient).map(missing),
  ];
  for (const config of configs) tf.registerGradient(config);
}
