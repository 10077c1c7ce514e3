import { sizeOf, type DataType } from '../tensor.ts';

/** Element types inside a graph: those of tensors, and int64 for shapes, axes and indices. */
export type ElementType = DataType | 'int64';

/** An ONNX attribute: an integer, a list of integers, a string, or a float (wrapped, since 1 and 1.0 are one number here). */
export type Attribute = number | readonly number[] | string | { readonly float: number };

export type ConstantData = Float32Array | Int32Array | Uint8Array | BigInt64Array;

/** What a node computes or the graph is given; `shape` is physical (row-major as stored). */
export interface Value {
  readonly id: number;
  readonly shape: readonly number[];
  readonly type: ElementType;
  /** The node that computes it; absent for inputs, weights and constants. */
  readonly node?: Node;
  /** Name of the graph input or weight. */
  readonly name?: string;
  /** Contents of constants and weights. */
  readonly data?: ConstantData;
  /** What computes the same in standard operators, for values of onnxruntime's own ones. */
  readonly standard?: Standard;
}

/** The standard computation of a value; where something else needs its `shared` part, the whole of it costs less than the other operator beside it. */
export interface Standard {
  readonly value: Value;
  readonly shared: Value;
}

export interface Node {
  readonly op: string;
  readonly inputs: readonly Value[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly outputs: Value[];
}

export interface OutputSpec {
  readonly shape: readonly number[];
  readonly type: ElementType;
  readonly standard?: Standard;
}

/** Constants up to this size are deduplicated, and re-laid out while recording instead of in the graph. */
const SMALL = 4096;

export const sameShape = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** Row-major strides, in elements. */
function stridesOf(shape: readonly number[]): number[] {
  const strides = Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  return strides;
}

/** NumPy broadcasting. Throws a RangeError when the shapes do not fit. */
export function broadcastShapes(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, i) => {
    let size = 1;
    for (const shape of shapes) {
      const n = shape[i - rank + shape.length] ?? 1;
      if (n === 1 || n === size) continue;
      if (size !== 1) throw new RangeError(`shapes ${shapes.map((s) => `[${s.join(', ')}]`).join(' and ')} do not broadcast`);
      size = n;
    }
    return size;
  });
}

/**
 * A static data-flow graph under construction. Equal nodes (same operator, inputs and attributes) are one node; trivial
 * reshapes, transposes and expansions are never created.
 */
export class Graph {
  #nextId = 0;
  readonly #nodes = new Map<string, Node>();
  readonly #constants = new Map<string, Value>();
  readonly inputs: Value[] = [];

  input(name: string, shape: readonly number[], type: DataType): Value {
    const value: Value = { id: this.#nextId++, shape, type, name };
    this.inputs.push(value);
    return value;
  }

  /** A named constant (network weight): kept as it is, by name, even when small. */
  weight(name: string, shape: readonly number[], type: DataType, data: ConstantData): Value {
    return { id: this.#nextId++, shape, type, name, data };
  }

  /** A constant; one whose elements are all equal is stored as a single element and expanded. */
  constant(data: ConstantData, shape: readonly number[], type: ElementType): Value {
    if (data.length > 1 && type !== 'int64') {
      const first = data[0];
      // Object.is: -0 and 0 differ, NaN equals itself.
      if ((data as Float32Array).every((x) => Object.is(x, first))) {
        return this.expand(this.constant(data.slice(0, 1) as ConstantData, shape.map(() => 1), type), shape);
      }
    }
    if (data.length > SMALL) return { id: this.#nextId++, shape, type, data };
    const key = `${type}|${shape.join()}|${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64')}`;
    const known = this.#constants.get(key);
    if (known) return known;
    const value: Value = { id: this.#nextId++, shape, type, data: data.slice() as ConstantData };
    this.#constants.set(key, value);
    return value;
  }

  /** A scalar of the given type. */
  scalar(value: number, type: ElementType = 'float32'): Value {
    switch (type) {
      case 'float32': return this.constant(Float32Array.of(value), [], type);
      case 'int32': return this.constant(Int32Array.of(value), [], type);
      case 'bool': return this.constant(Uint8Array.of(value ? 1 : 0), [], type);
      case 'int64': return this.constant(BigInt64Array.of(BigInt(value)), [], type);
    }
  }

  /** An int64 vector: shapes, axes, pads. */
  ints(values: readonly number[]): Value {
    return this.constant(BigInt64Array.from(values, BigInt), [values.length], 'int64');
  }

  /** Adds a node (or finds its twin) and returns all its outputs. */
  nodes(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>>, outputs: readonly OutputSpec[]): readonly Value[] {
    const empty = this.#withoutElements(op, inputs, outputs);
    if (empty) return empty;
    const key = `${op}|${inputs.map((v) => v.id).join()}|${JSON.stringify(attributes)}|${outputs.length}`;
    const known = this.#nodes.get(key);
    if (known) return known.outputs;
    const node: Node = { op, inputs, attributes, outputs: [] };
    for (const { shape, type, standard } of outputs) node.outputs.push({ id: this.#nextId++, shape, type, node, ...(standard && { standard }) });
    this.#nodes.set(key, node);
    return node.outputs;
  }

  /** What a node gives when there is nothing to compute; onnxruntime rejects many operators over no elements. */
  #withoutElements(op: string, inputs: readonly Value[], outputs: readonly OutputSpec[]): readonly Value[] | undefined {
    const none = ({ shape }: OutputSpec): boolean => sizeOf(shape) === 0;
    if (outputs.every(none)) return outputs.map(({ shape, type }) => this.constant(emptyData(type), shape, type));
    if (!inputs.some(none)) return undefined;
    if (sumsOfProducts.has(op)) return outputs.map(({ shape, type }) => this.filled(0, shape, type));
    return scatters.has(op) && none(inputs[2]!) ? [inputs[0]!] : undefined;
  }

  /** A tensor of equal elements. */
  filled(value: number, shape: readonly number[], type: ElementType = 'float32'): Value {
    return this.expand(this.reshape(this.scalar(value, type), shape.map(() => 1)), shape);
  }

  /** Adds a node with one output, by default of the type of its first input. */
  node(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>>, shape: readonly number[], type: ElementType = inputs[0]!.type): Value {
    return this.nodes(op, inputs, attributes, [{ shape, type }])[0]!;
  }

  /** An element-wise node with broadcasting. */
  elementwise(op: string, inputs: readonly Value[], type: ElementType = inputs[0]!.type, attributes: Readonly<Record<string, Attribute>> = {}): Value {
    const shape = broadcastShapes(inputs.map((v) => v.shape));
    // onnxruntime meets a single number beside [O, I, 1, 1] element by element, a hundred times as slowly, unless it has as many axes.
    const operands = shape.length > 1 && shape.at(-1) === 1 && sizeOf(shape) > 1
      ? inputs.map((v) => (sizeOf(v.shape) === 1 && v.shape.length < shape.length ? this.reshape(v, shape.map(() => 1)) : v)) : inputs;
    return this.node(op, operands, attributes, shape, type);
  }

  cast(value: Value, type: ElementType): Value {
    if (value.type === type) return value;
    const constant = uniform(value);
    if (constant !== undefined) {
      return this.filled(type === 'int32' ? Math.trunc(constant) : constant, value.shape, type);
    }
    return this.node('Cast', [value], { to: typeCode[type] }, value.shape, type);
  }

  reshape(value: Value, shape: readonly number[]): Value {
    if (sameShape(value.shape, shape)) return value;
    if (sizeOf(value.shape) !== sizeOf(shape)) throw new RangeError(`cannot reshape [${value.shape.join(', ')}] to [${shape.join(', ')}]`);
    if (isSmallConstant(value)) return this.constant(value.data!, shape, value.type);
    if (value.node?.op === 'Reshape') return this.reshape(value.node.inputs[0]!, shape);
    if (value.node?.op === 'Expand' && sizeOf(value.node.inputs[0]!.shape) === 1) {
      return this.expand(this.reshape(value.node.inputs[0]!, shape.map(() => 1)), shape);
    }
    return this.node('Reshape', [value, this.ints(shape)], {}, shape);
  }

  /** Output axis i is input axis `order[i]`. */
  transpose(value: Value, order: readonly number[]): Value {
    const shape = order.map((axis) => value.shape[axis]!);
    const moved = order.filter((axis) => value.shape[axis] !== 1);
    if (moved.every((axis, i) => i === 0 || moved[i - 1]! < axis)) return this.reshape(value, shape);
    if (value.node?.op === 'Transpose') {
      const before = value.node.attributes['perm'] as readonly number[];
      return this.transpose(value.node.inputs[0]!, order.map((axis) => before[axis]!));
    }
    if (value.node?.op === 'Expand') {
      return this.expand(this.transpose(value.node.inputs[0]!, order), shape);
    }
    if (isSmallConstant(value)) return this.constant(permuteData(value.data!, value.shape, order), shape, value.type);
    return this.node('Transpose', [value], { perm: order }, shape);
  }

  /** Repeats axes of size 1 (new axes come first). */
  expand(value: Value, shape: readonly number[]): Value {
    if (sameShape(value.shape, shape)) return value;
    const missing = shape.length - value.shape.length;
    if (missing > 0) return this.expand(this.reshape(value, [...Array<number>(missing).fill(1), ...value.shape]), shape);
    if (value.node?.op === 'Expand') return this.expand(value.node.inputs[0]!, shape);
    return this.node('Expand', [value, this.ints(shape)], {}, shape);
  }

  /** Elements from `begin` in steps of `step` (which may be negative), `shape` of them. */
  slice(value: Value, begin: readonly number[], shape: readonly number[], step: readonly number[] = shape.map(() => 1)): Value {
    const axes = shape.map((_, i) => i).filter((i) => begin[i] !== 0 || shape[i] !== value.shape[i] || step[i] !== 1);
    if (axes.length === 0) return value;
    // ONNX counts a negative end from the back, so "before the first element" needs a very negative number.
    const ends = axes.map((i) => {
      const end = begin[i]! + (shape[i]! - 1) * step[i]! + Math.sign(step[i]!);
      return end < 0 ? -2147483648 : end;
    });
    return this.node('Slice', [value, this.ints(axes.map((i) => begin[i]!)), this.ints(ends), this.ints(axes), this.ints(axes.map((i) => step[i]!))], {}, shape);
  }

  /** Constant padding: `before[i]` and `after[i]` elements on axis i. */
  pad(value: Value, before: readonly number[], after: readonly number[], constant = 0): Value {
    if ([...before, ...after].every((n) => n === 0)) return value;
    const shape = value.shape.map((n, i) => n + before[i]! + after[i]!);
    if (sizeOf(value.shape) === 0) return this.filled(constant, shape, value.type);
    return this.node('Pad', [value, this.ints([...before, ...after]), this.scalar(constant, value.type)], { mode: 'constant' }, shape);
  }

  /** Reduces physical axes and keeps them with size 1; an empty list reduces nothing. */
  reduce(op: string, value: Value, axes: readonly number[]): Value {
    const kept = value.shape.map((n, i) => (axes.includes(i) ? 1 : n));
    if (sameShape(kept, value.shape)) return value;
    const nothing = emptyReductions[op];
    if (nothing !== undefined && sizeOf(value.shape) === 0 && sizeOf(kept) > 0) {
      return this.filled(value.type === 'int32' ? Math.max(-2147483648, Math.min(2147483647, nothing)) : nothing, kept, value.type);
    }
    // The squares of a norm need no pass of their own.
    const { node } = value, squared = op === 'ReduceSum' && node?.op === 'Mul' && node.inputs[0] === node.inputs[1] ? node.inputs[0] : undefined;
    return this.node(squared ? 'ReduceSumSquare' : op, [squared ?? value, this.ints([...axes].sort((a, b) => a - b))], { keepdims: 1 }, kept);
  }
}

/** Element types as ONNX numbers them (TensorProto.DataType). */
export const typeCode: Readonly<Record<ElementType, number>> = { float32: 1, int32: 6, int64: 7, bool: 9 };

/** Operators whose result is zero where they add up nothing. */
const sumsOfProducts = new Set(['MatMul', 'Gemm', 'Conv', 'ConvTranspose']);

const scatters = new Set(['ScatterElements', 'ScatterND']);

/** What a reduction gives over no elements (TensorFlow's values). */
const emptyReductions: Readonly<Record<string, number>> = { ReduceSum: 0, ReduceProd: 1, ReduceMean: NaN, ReduceMax: -Infinity, ReduceMin: Infinity };

function emptyData(type: ElementType): ConstantData {
  switch (type) {
    case 'float32': return new Float32Array();
    case 'int32': return new Int32Array();
    case 'bool': return new Uint8Array();
    case 'int64': return new BigInt64Array();
  }
}

const isSmallConstant = (value: Value): boolean => value.data !== undefined && value.name === undefined && value.data.length <= SMALL;

/** The number every element is known to have, if it is known. */
export function uniform(value: Value): number | undefined {
  if (value.node) return value.node.op === 'Expand' ? uniform(value.node.inputs[0]!) : undefined;
  return value.data?.length === 1 && value.name === undefined ? Number(value.data[0]) : undefined;
}

function permuteData(data: ConstantData, shape: readonly number[], order: readonly number[]): ConstantData {
  const result = data.slice() as ConstantData;
  const from = stridesOf(shape), to = stridesOf(order.map((axis) => shape[axis]!));
  for (let i = 0; i < data.length; i++) {
    let rest = i, source = 0;
    for (let k = 0; k < to.length; k++) {
      source += Math.floor(rest / to[k]!) * from[order[k]!]!;
      rest %= to[k]!;
    }
    result[i] = data[source]!;
  }
  return result;
}
