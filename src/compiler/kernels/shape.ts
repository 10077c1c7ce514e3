import * as tf from '@tensorflow/tfjs';
import { sizeOf } from '../../tensor.ts';
import { sameShape, type Graph, type Value } from '../graph.ts';
import { arrange, commonLayout, identity, inverse, isIdentity, logicalShape, materialize, plain, type Recorded } from '../layout.ts';
import { listOf, type Kernel } from './kernel.ts';
import { dropAxes } from './reduction.ts';

interface Group { readonly from: number[]; readonly to: number[] }

/** The smallest groups of axes (of sizes above 1) that a reshape keeps together: [n, h, w, c] -> [n, h w, c] gives n | h w | c. */
function groupAxes(from: readonly number[], to: readonly number[]): Group[] {
  const large = (shape: readonly number[]): number[] => shape.map((_, i) => i).filter((i) => shape[i]! > 1);
  const sources = large(from), targets = large(to);
  const result: Group[] = [];
  for (let i = 0, j = 0; i < sources.length;) {
    const group: Group = { from: [], to: [] };
    let a = 1, b = 1;
    do {
      if (a <= b) { group.from.push(sources[i]!); a *= from[sources[i++]!]!; }
      else { group.to.push(targets[j]!); b *= to[targets[j++]!]!; }
    } while (a !== b);
    result.push(group);
  }
  return result;
}

/** Reshapes without moving data when every group of merged or split axes is stored side by side, else in logical order. */
export function reshape(g: Graph, x: Recorded, shape: readonly number[]): Recorded {
  const from = logicalShape(x);
  if (sameShape(from, shape)) return x;
  if (isIdentity(x.perm) || sizeOf(shape) === 0) return plain(g.reshape(materialize(g, x), shape));
  const parts = groupAxes(from, shape);
  // Place of each axis among the stored axes of size above 1.
  const places = inverse(x.perm).filter((axis) => from[axis]! > 1);
  const together = parts.every((part) => part.from.every((axis, k) => k === 0 || places.indexOf(axis) === places.indexOf(part.from[k - 1]!) + 1));
  if (!together) return plain(g.reshape(materialize(g, x), shape));
  const order = parts.toSorted((a, b) => places.indexOf(a.from[0]!) - places.indexOf(b.from[0]!)).flatMap((part) => part.to);
  // Axes of size 1 follow the axis before them.
  shape.forEach((size, axis) => { if (size === 1) order.splice(order.indexOf(axis - 1) + 1, 0, axis); });
  return { value: g.reshape(x.value, order.map((axis) => shape[axis]!)), perm: inverse(order) };
}

/** A tensor per part along an axis. */
function split(g: Graph, x: Recorded, axis: number, sizes: readonly number[]): Recorded[] {
  if (sizes.length === 1) return [{ ...x }];
  const physical = x.perm[axis]!;
  const outputs = sizes.map((size) => ({ shape: x.value.shape.map((n, i) => (i === physical ? size : n)), type: x.value.type }));
  return g.nodes('Split', [x.value, g.ints(sizes)], { axis: physical }, outputs).map((value) => ({ value, perm: x.perm }));
}

const concat: Kernel<string, tf.ConcatAttrs> = (g, inputs, attributes) => {
  const all = listOf(inputs);
  const axis = tf.util.parseAxisParam(attributes.axis, logicalShape(all[0]!))[0]!;
  const parts = all.filter((x) => sizeOf(x.value.shape) > 0);
  if (parts.length === 0) return { ...all[0]! };
  if (parts.length === 1) return { ...parts[0]! };
  const perm = commonLayout(parts);
  const values = parts.map((x) => arrange(g, x, perm));
  const physical = perm[axis]!;
  const shape = values[0]!.shape.map((n, i) => (i === physical ? values.reduce((sum, v) => sum + v.shape[i]!, 0) : n));
  return { value: g.node('Concat', values, { axis: physical }, shape), perm };
};

const pack: Kernel<string, tf.PackAttrs> = (g, inputs, { axis }) => {
  const parts = listOf(inputs);
  const place = axis < 0 ? axis + parts[0]!.perm.length + 1 : axis;
  const expanded = parts.map((x) => reshape(g, x, logicalShape(x).toSpliced(place, 0, 1)));
  return concat(g, Object.fromEntries(expanded.map((x, i) => [String(i), x])), { axis: place });
};

const unpack: Kernel<'value', tf.UnpackAttrs> = (g, { value }, attributes) => {
  const axis = tf.util.parseAxisParam(attributes.axis, logicalShape(value))[0]!;
  const size = value.value.shape[value.perm[axis]!]!;
  return split(g, value, axis, Array<number>(size).fill(1)).map((part) => dropAxes(g, part, [axis]));
};

const slice: Kernel<'x', tf.SliceAttrs> = (g, { x }, { begin, size }) => {
  const shape = logicalShape(x);
  const fake = { shape, rank: shape.length } as tf.Tensor;
  const [from, sizes] = tf.slice_util.parseSliceParams(fake, begin, size);
  tf.slice_util.assertParamsValid(fake, from!, sizes!);
  const physical = inverse(x.perm);
  return { value: g.slice(x.value, physical.map((i) => from![i]!), physical.map((i) => sizes![i]!)), perm: x.perm };
};

const stridedSlice: Kernel<'x', tf.StridedSliceAttrs> = (g, { x }, a) => {
  const info = tf.slice_util.sliceInfo(logicalShape(x), a.begin, a.end, a.strides, a.beginMask, a.endMask, a.ellipsisMask, a.newAxisMask, a.shrinkAxisMask);
  const sizes = tf.slice_util.computeOutShape(info.begin, info.end, info.strides).map((n) => Math.max(0, n)); // Not -0.
  const physical = inverse(x.perm);
  const value = g.slice(x.value, physical.map((i) => info.begin[i]!), physical.map((i) => sizes[i]!), physical.map((i) => info.strides[i]!));
  return reshape(g, { value, perm: x.perm }, info.finalShape.map((n) => Math.max(0, n)));
};

const pad: Kernel<'x', tf.PadV2Attrs> = (g, { x }, { paddings, constantValue }) => {
  const physical = inverse(x.perm);
  return { value: g.pad(x.value, physical.map((i) => paddings[i]![0]), physical.map((i) => paddings[i]![1]), constantValue), perm: x.perm };
};

/** Mirror padding as a Gather with constant indices on every padded axis (ONNX has no symmetric mode). */
const mirrorPad: Kernel<'x', tf.MirrorPadAttrs> = (g, { x }, { paddings, mode }) => {
  const edge = mode === 'reflect' ? 1 : 0;
  let value = x.value;
  paddings.forEach(([before, after], axis) => {
    if (before === 0 && after === 0) return;
    const physical = x.perm[axis]!;
    const size = value.shape[physical]!;
    const indices = Array.from({ length: before + size + after }, (_, i) => {
      const k = i - before;
      return k < 0 ? edge - 1 - k : k >= size ? 2 * size - 1 - edge - k : k;
    });
    value = g.node('Gather', [value, g.ints(indices)], { axis: physical }, value.shape.map((n, i) => (i === physical ? indices.length : n)));
  });
  return { value, perm: x.perm };
};

const tile: Kernel<'x', tf.TileAttrs> = (g, { x }, { reps }) => {
  const physical = inverse(x.perm);
  const repeats = physical.map((i) => reps[i]!);
  const shape = x.value.shape.map((n, i) => n * repeats[i]!);
  if (repeats.every((r, i) => r === 1 || x.value.shape[i] === 1)) return { value: g.expand(x.value, shape), perm: x.perm };
  return { value: tileValue(g, x.value, repeats, shape), perm: x.perm };
};

const tileValue = (g: Graph, value: Value, repeats: readonly number[], shape: readonly number[]): Value =>
  (value.type === 'bool' ? g.cast(g.node('Tile', [g.cast(value, 'int32'), g.ints(repeats)], {}, shape), 'bool') : g.node('Tile', [value, g.ints(repeats)], {}, shape));

const reverse: Kernel<'x', tf.ReverseAttrs> = (g, { x }, { dims }) => {
  const axes = new Set(tf.util.parseAxisParam(dims, logicalShape(x)).map((axis) => x.perm[axis]!));
  const shape = x.value.shape;
  const value = g.slice(x.value, shape.map((n, i) => (axes.has(i) ? n - 1 : 0)), shape, shape.map((_, i) => (axes.has(i) ? -1 : 1)));
  return { value, perm: x.perm };
};

const transpose: Kernel<'x', tf.TransposeAttrs> = (_g, { x }, { perm }) => ({ value: x.value, perm: perm.map((axis) => x.perm[axis]!) });

/** Blocks of the spatial axes become samples: [n, h, w, ...] -> [n bh bw, h / bh, w / bw, ...] after padding. */
const spaceToBatch: Kernel<'x', tf.SpaceToBatchNDAttrs> = (g, { x }, { blockShape, paddings }) => {
  const rank = x.perm.length, block = blockShape.reduce((a, b) => a * b, 1);
  const padded = pad(g, { x }, { paddings: Array.from({ length: rank }, (_, i) => (paddings[i - 1] ?? [0, 0]) as [number, number]), constantValue: 0 }) as Recorded;
  const shape = logicalShape(padded);
  const split = reshape(g, padded, tf.backend_util.getReshaped(shape, blockShape, block, false));
  const moved = transpose(g, { x: split }, { perm: tf.backend_util.getPermuted(split.perm.length, blockShape.length, false) }) as Recorded;
  return reshape(g, moved, tf.backend_util.getReshapedPermuted(shape, blockShape, block, false));
};

const batchToSpace: Kernel<'x', tf.BatchToSpaceNDAttrs> = (g, { x }, { blockShape, crops }) => {
  const shape = logicalShape(x), block = blockShape.reduce((a, b) => a * b, 1);
  const split = reshape(g, x, tf.backend_util.getReshaped(shape, blockShape, block));
  const moved = transpose(g, { x: split }, { perm: tf.backend_util.getPermuted(split.perm.length, blockShape.length) }) as Recorded;
  const joined = reshape(g, moved, tf.backend_util.getReshapedPermuted(shape, blockShape, block));
  return slice(g, { x: joined }, {
    begin: tf.backend_util.getSliceBeginCoords(crops, blockShape.length), size: tf.backend_util.getSliceSize(logicalShape(joined), crops, blockShape.length),
  });
};

const fill: Kernel<never, tf.FillAttrs> = (g, _inputs, { shape, value, dtype }) => {
  const type = dtype ?? 'float32';
  if (typeof value === 'string' || (type !== 'float32' && type !== 'int32' && type !== 'bool')) throw new RangeError(`type ${type} is not supported; use float32, int32 or bool`);
  return plain(g.expand(g.reshape(g.scalar(value, type), shape.map(() => 1)), shape));
};

const range: Kernel<never, tf.RangeAttrs> = (g, _inputs, { start, stop, step, dtype }) => {
  const length = start === stop || (start < stop && step < 0) || (stop < start && step > 1) ? 0 : Math.abs(Math.ceil((stop - start) / step));
  const values = Array.from({ length }, (_, i) => start + i * step);
  return plain(g.constant(dtype === 'int32' ? Int32Array.from(values) : Float32Array.from(values), [length], dtype));
};

const linspace: Kernel<never, tf.LinSpaceAttrs> = (g, _inputs, { start, stop, num }) =>
  plain(g.constant(Float32Array.from({ length: num }, (_, i) => (num === 1 ? start : start + (i * (stop - start)) / (num - 1))), [num], 'float32'));

const depthToSpace: Kernel<'x', tf.DepthToSpaceAttrs> = (g, { x }, { blockSize, dataFormat }) => {
  if (dataFormat !== 'NHWC') throw new RangeError('data format NCHW is not supported; use NHWC');
  const [n, h, w, c] = logicalShape(x) as [number, number, number, number];
  // DCR mode: channel = (row in block, column in block, output channel), as TensorFlow orders them.
  const value = g.node('DepthToSpace', [arrange(g, x, [0, 2, 3, 1])], { blocksize: blockSize, mode: 'DCR' }, [n, c / blockSize ** 2, h * blockSize, w * blockSize]);
  return { value, perm: [0, 2, 3, 1] };
};

export const shapes = {
  Reshape: ((g, { x }, attributes) => {
    const size = sizeOf(x.value.shape);
    return { ...reshape(g, x, tf.util.inferFromImplicitShape(attributes.shape, size)) };
  }) satisfies Kernel<'x', tf.ReshapeAttrs>,
  ExpandDims: ((g, { input }, { dim }) => {
    const shape = logicalShape(input);
    return { ...reshape(g, input, shape.toSpliced(dim < 0 ? dim + shape.length + 1 : dim, 0, 1)) };
  }) satisfies Kernel<'input', tf.ExpandDimsAttrs>,
  BroadcastTo: ((g, { x }, { shape }) => {
    const perm = identity(shape.length);
    return plain(g.expand(arrange(g, x, perm), shape));
  }) satisfies Kernel<'x', tf.BroadCastToAttrs>,
  SplitV: ((g, { x }, { numOrSizeSplits, axis }) => {
    const shape = logicalShape(x);
    const place = tf.util.parseAxisParam(axis, shape)[0]!;
    return split(g, x, place, tf.backend_util.prepareSplitSize({ shape } as tf.Tensor, numOrSizeSplits, place));
  }) satisfies Kernel<'x', tf.SplitVAttrs>,
  Concat: concat, Pack: pack, Unpack: unpack, Slice: slice, StridedSlice: stridedSlice, PadV2: pad, MirrorPad: mirrorPad, Tile: tile, Reverse: reverse,
  FlipLeftRight: ((g, { image }) => reverse(g, { x: image }, { dims: 2 })) satisfies Kernel<'image'>,
  SpaceToBatchND: spaceToBatch, BatchToSpaceND: batchToSpace,
  Transpose: transpose, Fill: fill, Range: range, LinSpace: linspace, DepthToSpace: depthToSpace,
};
