/** Element types that cross the border between our code and an engine. */
export type DataType = 'float32' | 'int32' | 'bool';

/** Typed array of each {@link DataType}; `bool` is one byte an element, 0 or 1. */
export interface DataOf {
  float32: Float32Array;
  int32: Int32Array;
  bool: Uint8Array;
}

/** A dense, row-major tensor in main memory. The only tensor type outside `compiler`, `runtime` and `nn`. */
export interface HostTensor<T extends DataType = DataType> {
  readonly shape: readonly number[];
  readonly dtype: T;
  readonly data: DataOf[T];
}

/** Tensors by name, for example the parameters of a network in torchvision's names. */
export type NamedTensors = Record<string, HostTensor>;

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** A tensor of zeros. */
export function emptyTensor(dtype: DataType, shape: readonly number[]): HostTensor {
  const size = sizeOf(shape);
  switch (dtype) {
    case 'float32': return { shape: [...shape], dtype, data: new Float32Array(size) };
    case 'int32': return { shape: [...shape], dtype, data: new Int32Array(size) };
    case 'bool': return { shape: [...shape], dtype, data: new Uint8Array(size) };
  }
}

/** A float32 tensor over `data` (not copied). Throws a RangeError when the length does not match the shape. */
export function float32(data: Float32Array | readonly number[], shape: readonly number[]): HostTensor<'float32'> {
  const values = data instanceof Float32Array ? data : Float32Array.from(data);
  if (values.length !== sizeOf(shape)) throw new RangeError(`${values.length} values do not fill shape [${shape.join(', ')}]`);
  return { shape, dtype: 'float32', data: values };
}

/** An int32 tensor over `data` (not copied when it is an Int32Array). */
export function int32(data: Int32Array | readonly number[], shape: readonly number[]): HostTensor<'int32'> {
  const values = data instanceof Int32Array ? data : Int32Array.from(data);
  if (values.length !== sizeOf(shape)) throw new RangeError(`${values.length} values do not fill shape [${shape.join(', ')}]`);
  return { shape, dtype: 'int32', data: values };
}

/** A float32 scalar. */
export function scalar(value: number): HostTensor<'float32'> {
  return { shape: [], dtype: 'float32', data: Float32Array.of(value) };
}
