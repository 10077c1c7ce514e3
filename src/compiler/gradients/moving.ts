import * as tf from '@tensorflow/tfjs';

/** Zeros between the elements of an axis: [.., n, ..] -> [.., (n - 1) step + 1, ..]. */
export function spread(x: tf.Tensor, axis: number, step: number): tf.Tensor {
  const n = x.shape[axis]!;
  if (step === 1 || n < 2) return x;
  const widened = tf.pad(tf.expandDims(x, axis + 1), x.shape.toSpliced(axis + 1, 0, 1).map((_, i) => [0, i === axis + 1 ? step - 1 : 0] as [number, number]));
  const merged = tf.reshape(widened, x.shape.with(axis, n * step));
  return tf.slice(merged, x.shape.map(() => 0), x.shape.with(axis, (n - 1) * step + 1));
}

const part = (x: tf.Tensor, axis: number, begin: number, size: number): tf.Tensor => tf.slice(x, x.shape.map((_, i) => (i === axis ? begin : 0)), x.shape.with(axis, size));

/** `x` from `place` on along an axis of `size` elements, zeros elsewhere. */
const placed = (x: tf.Tensor, axis: number, place: number, size: number): tf.Tensor =>
  tf.pad(x, x.shape.map((n, i) => (i === axis ? [place, size - place - n] : [0, 0]) as [number, number]));

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

const flip: tf.GradConfig = {
  kernelName: 'FlipLeftRight',
  gradFunc: (dy) => ({ image: () => tf.reverse(dy as tf.Tensor, 2) }),
};

/** Operations that move elements. */
export const moving: readonly tf.GradConfig[] = [tile, mirrorPad, splitV, unpack, stridedSlice, depthToSpace, flip];
