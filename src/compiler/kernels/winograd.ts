import type { Graph, Value } from '../graph.ts';

/**
 * Convolutions with 3 x 3 filters and stride 1 in the minimal forms F(m x m, 3 x 3) of Winograd (Lavin & Gray 2016, "Fast algorithms for convolutional neural
 * networks", section 4): 16 products for the 36 of 2 x 2 output positions, or 36 for the 144 of 4 x 4, at the price of transforming images and filters. With
 * V = B' d B of the input's tiles and U = G g G' of the filters the output is A' (U V) A, which is linear in V and in U, so that both gradients are products of
 * the same size: dV = U dP, dU = V dP, where dP is the transform of the output's gradient by A, and the gradients of input and filters are the transforms of dV
 * by B and of dU by G.
 *
 * All transforms are matrix products with constants, rows and columns one after the other, in an order of axes that needs no transposition.
 */
export interface Form {
  /** Side of an output tile. */
  readonly tile: number;
  /** B' [tile + 2, tile + 2] */
  readonly input: readonly (readonly number[])[];
  /** A' [tile, tile + 2] */
  readonly output: readonly (readonly number[])[];
  /** G [tile + 2, 3] */
  readonly filter: readonly (readonly number[])[];
}

/** Coefficients, lowest first, of the polynomial with these zeros. */
const polynomial = (zeros: readonly number[]): number[] => zeros.reduce<number[]>((p, zero) => [...p, 0].map((_, i) => (p[i - 1] ?? 0) - zero * (p[i] ?? 0)), [1]);

/** The form that multiplies two polynomials at these points and at infinity (Toom and Cook), transposed. */
function formOf(points: readonly number[]): Form {
  const others = (j: number): number[] => points.filter((_, l) => l !== j), tile = points.length - 1;
  return {
    tile,
    input: [...points.map((_, j) => [...polynomial(others(j)), 0]), polynomial(points)],
    output: Array.from({ length: tile }, (_, i) => [...points.map((p) => p ** i), i === tile - 1 ? 1 : 0]),
    filter: [...points.map((p, j) => [1, p, p * p].map((power) => power / others(j).reduce((product, other) => product * (p - other), 1))), [0, 0, 1]],
  };
}

/** With 4 x 4 outputs: at these points the error is half of that at 0, 1, -1, 2, -2, and a convolution's root mean square error in float32 1.5e-6 of its output's deviation (256 channels). */
export const largeTiles: Form = formOf([0, 2 / 3, -2 / 3, 3 / 2, -3 / 2]);

/** One axis of a convolution with three taps and stride 1. */
export interface Axis {
  readonly input: number;
  readonly output: number;
  /** Padding in front of the input. */
  readonly before: number;
}

const tilesOf = ({ tile }: Form, { output }: Axis): number => Math.ceil(output / tile);

/** [k, n] as a constant; `set` fills it. */
function matrix(g: Graph, k: number, n: number, set: (put: (row: number, column: number, value: number) => void) => void): Value {
  const data = new Float32Array(k * n);
  set((row, column, value) => { data[row * n + column] = value; });
  return g.constant(data, [k, n], 'float32');
}

/** [(tile + 2) tiles, input]: row (k, t) is row k of B' at tile t; what lies in the padding is left out. */
function inputMatrix(g: Graph, form: Form, axis: Axis): Value {
  const tiles = tilesOf(form, axis);
  return matrix(g, form.input.length * tiles, axis.input, (put) => {
    for (const [k, row] of form.input.entries()) {
      for (let t = 0; t < tiles; t++) {
        for (const [j, factor] of row.entries()) {
          const position = form.tile * t + j - axis.before;
          if (position >= 0 && position < axis.input) put(k * tiles + t, position, factor);
        }
      }
    }
  });
}

/** [(tile + 2) tiles, output]: column (t, i) is row i of A' at tile t. */
function outputMatrix(g: Graph, form: Form, axis: Axis): Value {
  const tiles = tilesOf(form, axis);
  return matrix(g, form.input.length * tiles, axis.output, (put) => {
    for (const [i, row] of form.output.entries()) {
      for (let t = 0; t < tiles && form.tile * t + i < axis.output; t++) {
        for (const [k, factor] of row.entries()) put(k * tiles + t, form.tile * t + i, factor);
      }
    }
  });
}

/** [(tile + 2)², 9]: G x G, for columns and rows of the tile (in this order) and rows and columns of the filter. */
function filterMatrix(g: Graph, form: Form): Value {
  const side = form.filter.length;
  return matrix(g, side * side, 9, (put) => {
    for (let k = 0; k < side * side; k++) {
      for (let tap = 0; tap < 9; tap++) put(k, tap, form.filter[k % side]![Math.floor(tap / 3)]! * form.filter[Math.floor(k / side)]![tap % 3]!);
    }
  });
}

/** a' b; in a model of standard operators `standard` instead, which has as many elements. */
function instead(g: Graph, a: Value, b: Value, standard: Value): Value {
  const shape = [a.shape[1]!, b.shape[1]!];
  return g.nodes('Gemm', [a, b], { transA: 1 }, [{ shape, type: 'float32', standard: { value: g.reshape(standard, shape), shared: standard } }])[0]!;
}

/** [N, C, H, W] -> [side², tiles N, C], side = tile + 2: `rows` [side t, H] and `columns` [side t', W] applied to both axes of every map. */
function toTiles(g: Graph, x: Value, side: number, rows: Value, columns: Value): Value {
  const [n, c, h, w] = x.shape as [number, number, number, number], down = rows.shape[0]!, across = columns.shape[0]! / side;
  const wide = g.node('Gemm', [columns, g.reshape(x, [n * c * h, w])], { transB: 1 }, [side * across, n * c * h]);
  const both = g.node('MatMul', [rows, g.transpose(g.reshape(wide, [side, across * n * c, h]), [0, 2, 1])], {}, [side, down, across * n * c]);
  return g.reshape(both, [side * side, down / side * across * n, c]);
}

/** The adjoint of {@link toTiles}. @param standard the same in standard operators */
function fromTiles(g: Graph, tiles: Value, n: number, side: number, rows: Value, columns: Value, standard: Value): Value {
  const c = tiles.shape[2]!, [down, h] = rows.shape as [number, number], [across, w] = columns.shape as [number, number];
  const long = g.node('MatMul', [g.transpose(g.reshape(tiles, [side, down, across / side * n * c]), [0, 2, 1]), rows], {}, [side, across / side * n * c, h]);
  return g.reshape(instead(g, g.reshape(long, [across, n * c * h]), columns, standard), [n, c, h, w]);
}

/** [O, I, 3, 3] -> [side², O, I]. @param again makes a computation of its own: that of the forward pass would have to be kept, four times the filter */
function transformedFilter(g: Graph, form: Form, filter: Value, again = false): Value {
  const [o, i] = filter.shape as [number, number], squared = form.filter.length ** 2, factors = filterMatrix(g, form);
  const product = again ? { a: g.transpose(factors, [1, 0]), transA: 1 } : { a: factors, transA: 0 };
  return g.reshape(g.node('Gemm', [product.a, g.reshape(filter, [o * i, 9])], { transA: product.transA, transB: 1 }, [squared, o * i]), [squared, o, i]);
}

const product = (g: Graph, a: Value, b: Value): Value => g.node('MatMul', [a, b], {}, [a.shape[0]!, a.shape[1]!, b.shape[2]!]);
const swapped = (g: Graph, value: Value): Value => g.transpose(value, [0, 2, 1]);

/** A convolution, its two axes. */
export interface Axes { readonly rows: Axis; readonly columns: Axis }

const inputTiles = (g: Graph, form: Form, x: Value, { rows, columns }: Axes): Value => toTiles(g, x, form.input.length, inputMatrix(g, form, rows), inputMatrix(g, form, columns));
const outputTiles = (g: Graph, form: Form, dy: Value, { rows, columns }: Axes): Value => toTiles(g, dy, form.input.length, outputMatrix(g, form, rows), outputMatrix(g, form, columns));

/**
 * Time of one of the three computations here, and of the same with blocked convolutions or (the filter's gradient) with one product a tap, both in multiplications.
 * Reading and writing an element of a transform takes as long as some hundred of them; fitted to ResNet's layers of 64 to 512 channels on two cores with AVX-512.
 */
export function cost(form: Form, batch: number, inputs: number, outputs: number, { rows, columns }: Axes): { winograd: number; direct: number; taps: number } {
  const tiles = batch * tilesOf(form, rows) * tilesOf(form, columns), squared = form.input.length ** 2, direct = 9 * batch * rows.output * columns.output * inputs * outputs;
  return { winograd: squared * (tiles * inputs * outputs + 100 * tiles * (inputs + outputs) + 20 * inputs * outputs), direct, taps: 1.5 * direct };
}

/** Convolution of x [N, I, H, W] with a filter [O, I, 3, 3]: [N, O, H', W']. @param standard the same in standard operators */
export function winograd(g: Graph, form: Form, x: Value, filter: Value, axes: Axes, standard: Value): Value {
  const tiles = product(g, inputTiles(g, form, x, axes), swapped(g, transformedFilter(g, form, filter)));
  return fromTiles(g, tiles, x.shape[0]!, form.input.length, outputMatrix(g, form, axes.rows), outputMatrix(g, form, axes.columns), standard);
}

/** Its gradient with respect to x, of the output's gradient dy [N, O, H', W']. */
export function winogradInputGradient(g: Graph, form: Form, dy: Value, filter: Value, axes: Axes, standard: Value): Value {
  const tiles = product(g, outputTiles(g, form, dy, axes), transformedFilter(g, form, filter, true));
  return fromTiles(g, tiles, dy.shape[0]!, form.input.length, inputMatrix(g, form, axes.rows), inputMatrix(g, form, axes.columns), standard);
}

/** Its gradient with respect to the filter. */
export function winogradFilterGradient(g: Graph, form: Form, x: Value, dy: Value, axes: Axes, standard: Value): Value {
  const du = product(g, swapped(g, outputTiles(g, form, dy, axes)), inputTiles(g, form, x, axes)), [squared, o, i] = du.shape as [number, number, number];
  return g.reshape(instead(g, g.reshape(du, [squared, o * i]), filterMatrix(g, form), standard), [o, i, 3, 3]);
}
