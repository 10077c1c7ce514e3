import * as tf from '@tensorflow/tfjs';
import { sizeOf } from '../../tensor.ts';
import type { Graph, Value } from '../graph.ts';
import { align, identity, logicalShape, materialize, plain, type Recorded } from '../layout.ts';
import type { Kernel } from './kernel.ts';
import { reshape } from './shape.ts';

const gather: Kernel<'x' | 'indices', tf.GatherV2Attrs> = (g, { x, indices }, { axis, batchDims }) => {
  const shape = logicalShape(x);
  const place = tf.util.parseAxisParam(axis, shape)[0]!;
  const chosen = materialize(g, indices);
  if (batchDims === 0) {
    if (chosen.shape.length === 1) {
      // A vector of indices keeps the rank, hence the layout.
      const physical = x.perm[place]!;
      const result = x.value.shape.map((n, i) => (i === physical ? chosen.shape[0]! : n));
      return { value: g.node('Gather', [x.value, chosen], { axis: physical }, result), perm: x.perm };
    }
    return plain(g.node('Gather', [materialize(g, x), chosen], { axis: place }, shape.toSpliced(place, 1, ...chosen.shape)));
  }
  if (place !== batchDims) throw new RangeError(`gather with batchDims ${batchDims} works along axis ${batchDims} only, not ${place}; transpose first`);
  const picks = g.reshape(g.cast(chosen, 'int64'), [...chosen.shape, 1]);
  return plain(g.node('GatherND', [materialize(g, x), picks], { batch_dims: batchDims }, [...chosen.shape, ...shape.slice(place + 1)]));
};

const gatherNd: Kernel<'params' | 'indices'> = (g, { params, indices }) => {
  const data = materialize(g, params), picks = g.cast(materialize(g, indices), 'int64');
  return plain(g.node('GatherND', [data, picks], { batch_dims: 0 }, [...picks.shape.slice(0, -1), ...data.shape.slice(picks.shape.at(-1))]));
};

/** Rows of `updates` [n, d] added to the rows of zeros [rows, d] that `places` [n] (int64) names, in order: repeatable. */
function addRows(g: Graph, places: Value, updates: Value, rows: number): Value {
  const [n, d] = updates.shape as [number, number];
  const zeros = g.expand(g.reshape(g.scalar(0, updates.type), [1, 1]), [rows, d]);
  const spread = g.expand(g.reshape(places, [n, 1]), [n, d]);
  return g.node('ScatterElements', [zeros, spread, updates], { axis: 0, reduction: 'add' }, [rows, d]);
}

const scatterNd: Kernel<'indices' | 'updates', tf.ScatterNdAttrs> = (g, { indices, updates }, { shape }) => {
  const picks = materialize(g, indices);
  const depth = picks.shape.at(-1) ?? 1;
  const outer = shape.slice(0, depth);
  const n = sizeOf(picks.shape) / depth, d = sizeOf(shape.slice(depth));
  // Indices of several axes become one row number.
  let factor = 1;
  const factors = outer.toReversed().map((size) => { const f = factor; factor *= size; return f; }).toReversed();
  const flat = g.reshape(g.cast(picks, 'int64'), [n, depth]);
  const rows = depth === 1 ? flat : g.reduce('ReduceSum', g.elementwise('Mul', [flat, g.ints(factors)]), [1]);
  const sums = addRows(g, g.reshape(rows, [n]), g.reshape(materialize(g, updates), [n, d]), sizeOf(outer));
  return plain(g.reshape(sums, shape));
};

/** `updates` written into a tensor at `indices`, the last of equal ones wins. */
const scatterUpdate: Kernel<'tensor' | 'indices' | 'updates'> = (g, { tensor, indices, updates }) => {
  const data = materialize(g, tensor), picks = g.cast(materialize(g, indices), 'int64');
  const rows = picks.shape.length < 2 ? g.reshape(picks, [sizeOf(picks.shape), 1]) : picks;
  const shape = [...rows.shape.slice(0, -1), ...data.shape.slice(rows.shape.at(-1))];
  return plain(g.node('ScatterND', [data, rows, g.reshape(materialize(g, updates), shape)], { reduction: 'none' }, data.shape));
};

const sparseToDense: Kernel<'sparseIndices' | 'sparseValues' | 'defaultValue', tf.SparseToDenseAttrs> = (g, { sparseIndices, sparseValues, defaultValue }, { outputShape }) => {
  const indices = materialize(g, sparseIndices), depth = indices.shape.length < 2 ? 1 : indices.shape[1]!;
  const values = materialize(g, sparseValues), count = sizeOf(indices.shape) / depth;
  const spread = values.shape.length === 0 ? g.expand(g.reshape(values, [1]), [count]) : values;
  const tensor = g.expand(g.reshape(g.cast(materialize(g, defaultValue), values.type), outputShape.map(() => 1)), outputShape);
  return scatterUpdate(g, { tensor: plain(tensor), indices: plain(g.reshape(indices, [count, depth])), updates: plain(spread) }, {});
};

/** How many of each row's sorted numbers lie before each value. */
const searchSorted: Kernel<'sortedSequence' | 'values', tf.SearchSortedAttrs> = (g, { sortedSequence, values }, { side }) => {
  const sorted = materialize(g, sortedSequence), wanted = materialize(g, values);
  const [rows, n] = sorted.shape as [number, number], [, m] = wanted.shape as [number, number];
  const before = g.elementwise(side === 'left' ? 'Less' : 'LessOrEqual', [g.reshape(sorted, [rows, 1, n]), g.reshape(wanted, [rows, m, 1])], 'bool');
  return plain(g.reshape(g.reduce('ReduceSum', g.cast(before, 'int32'), [2]), [rows, m]));
};

const unsortedSegmentSum: Kernel<'x' | 'segmentIds', tf.UnsortedSegmentSumAttrs> = (g, { x, segmentIds }, { numSegments }) => {
  const value = materialize(g, x), ids = g.cast(materialize(g, segmentIds), 'int64');
  const n = sizeOf(ids.shape);
  const inner = value.shape.slice(ids.shape.length);
  const sums = addRows(g, g.reshape(ids, [n]), g.reshape(value, [n, sizeOf(inner)]), numSegments);
  return plain(g.reshape(sums, [numSegments, ...inner]));
};

const oneHot: Kernel<'indices', tf.OneHotAttrs> = (g, { indices }, { depth, onValue, offValue, dtype }) => {
  const type = dtype === 'float32' || dtype === 'bool' ? dtype : 'int32';
  const expanded = reshape(g, indices, [...logicalShape(indices), 1]);
  const classes = plain(g.constant(Int32Array.from({ length: depth }, (_, i) => i), [depth], 'int32'));
  const { values: [i, c], finish } = align(g, [{ value: g.cast(expanded.value, 'int32'), perm: expanded.perm }, classes]);
  const same = g.elementwise('Equal', [i!, c!], 'bool');
  if (onValue === 1 && offValue === 0) return finish(g.cast(same, type));
  const pick = type === 'bool' ? 'int32' : type;
  return finish(g.cast(g.elementwise('Where', [same, g.scalar(onValue, pick), g.scalar(offValue, pick)], pick), type));
};

const topK: Kernel<'x', tf.TopKAttrs> = (g, { x }, { k, sorted }) => {
  const last = x.perm.at(-1)!;
  const shape = x.value.shape.map((n, i) => (i === last ? k : n));
  const [values, places] = g.nodes('TopK', [x.value, g.ints([k])], { axis: last, largest: 1, sorted: sorted ? 1 : 0 },
    [{ shape, type: x.value.type }, { shape, type: 'int64' }]);
  const recorded = (value: Value): Recorded => ({ value, perm: x.perm });
  return [recorded(values!), recorded(g.cast(places!, 'int32'))];
};

const diagonal: Kernel<'x'> = (g, { x }) => {
  const value = materialize(g, x);
  const n = sizeOf(value.shape);
  const unit = g.constant(Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)), [n, n], 'float32');
  const product = g.elementwise('Mul', [g.reshape(value, [n, 1]), g.cast(unit, value.type)]);
  return { value: g.reshape(product, [...value.shape, ...value.shape]), perm: identity(2 * value.shape.length) };
};

export const indexing = {
  GatherV2: gather, GatherNd: gatherNd, ScatterNd: scatterNd, TensorScatterUpdate: scatterUpdate, SparseToDense: sparseToDense, SearchSorted: searchSorted, UnsortedSegmentSum: unsortedSegmentSum, OneHot: oneHot, TopK: topK, Diag: diagonal,
};
