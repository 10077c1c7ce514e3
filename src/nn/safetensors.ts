import { GenViewError } from '../errors.ts';
import { sizeOf, type DataType, type HostTensor, type NamedTensors } from '../tensor.ts';

/** Element types of the file format that we read; 16-bit floats are widened to float32, 64-bit integers become int32. */
type StoredType = 'F32' | 'F16' | 'BF16' | 'I32' | 'I64' | 'BOOL';

interface Entry { dtype: StoredType; shape: number[]; data_offsets: [number, number] }

const storedTypeOf: Record<DataType, StoredType> = { float32: 'F32', int32: 'I32', bool: 'BOOL' };
const bytesOf: Record<StoredType, number> = { F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8, BOOL: 1 };

/**
 * A safetensors file: 8 bytes of header length, a JSON header, the tensors one behind another in the order of their
 * names (so equal tensors give equal bytes). `half` stores float32 tensors as F16, at a relative error of 2^-11.
 * Source: the format page of huggingface/safetensors.
 */
export function encodeSafetensors(tensors: NamedTensors, metadata: Record<string, string> = {}, options: { half?: boolean } = {}): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const name of Object.keys(tensors).sort()) {
    const tensor = tensors[name]!;
    const half = options.half === true && tensor.dtype === 'float32';
    const part = half ? toHalf(tensor.data as Float32Array) : new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    header[name] = { dtype: half ? 'F16' : storedTypeOf[tensor.dtype], shape: [...tensor.shape], data_offsets: [offset, offset + part.byteLength] };
    parts.push(part);
    offset += part.byteLength;
  }
  let text = JSON.stringify(header);
  text += ' '.repeat((8 - Buffer.byteLength(text) % 8) % 8);
  const head = Buffer.from(text);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.byteLength));
  return Buffer.concat([length, head, ...parts]);
}

/**
 * Reads a safetensors file; each tensor gets memory of its own.
 * @param source named in errors: a path or URL
 * @throws GenViewError `WeightsInvalid`
 */
export function decodeSafetensors(bytes: Uint8Array, source = 'safetensors file'): { tensors: NamedTensors; metadata: Record<string, string> } {
  const invalid = (why: string): GenViewError => new GenViewError('WeightsInvalid', `${source}: ${why}; the file is damaged or no safetensors file, fetch or write it again`);
  if (bytes.byteLength < 8) throw invalid('shorter than its 8-byte header length');
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.readBigUInt64LE(0));
  if (headerBytes > bytes.byteLength - 8) throw invalid(`header of ${headerBytes} bytes in a file of ${bytes.byteLength}`);
  let header: Record<string, unknown>;
  try { header = JSON.parse(view.toString('utf8', 8, 8 + headerBytes)) as Record<string, unknown>; } catch { throw invalid('its header is no JSON'); }
  const tensors: NamedTensors = {};
  const start = 8 + headerBytes;
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const { dtype, shape, data_offsets: [from, to] } = value as Entry;
    if (!(dtype in bytesOf)) throw invalid(`tensor ${name} has type ${dtype} (read here: ${Object.keys(bytesOf).join(', ')})`);
    if (to - from !== sizeOf(shape) * bytesOf[dtype] || start + to > bytes.byteLength) throw invalid(`tensor ${name} does not fit its place`);
    tensors[name] = decode(dtype, shape, new Uint8Array(bytes.subarray(start + from, start + to)));
  }
  return { tensors, metadata: (header['__metadata__'] ?? {}) as Record<string, string> };
}

function decode(dtype: StoredType, shape: number[], own: Uint8Array): HostTensor {
  switch (dtype) {
    case 'F32': return { shape, dtype: 'float32', data: new Float32Array(own.buffer) };
    case 'I32': return { shape, dtype: 'int32', data: new Int32Array(own.buffer) };
    // PyTorch's counters and positions; values beyond 32 bits wrap.
    case 'I64': return { shape, dtype: 'int32', data: Int32Array.from(new BigInt64Array(own.buffer), (value) => Number(BigInt.asIntN(32, value))) };
    case 'BOOL': return { shape, dtype: 'bool', data: own };
    case 'F16': return { shape, dtype: 'float32', data: Float32Array.from(new Uint16Array(own.buffer), fromHalf) };
    case 'BF16': {
      const wide = Uint32Array.from(new Uint16Array(own.buffer), (bits) => bits << 16 >>> 0);
      return { shape, dtype: 'float32', data: new Float32Array(wide.buffer) };
    }
  }
}

/** IEEE 754 binary16 bits -> number. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Rounds to nearest, ties to even; overflow becomes infinity. */
function toHalf(values: Float32Array): Uint8Array {
  const result = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!, magnitude = Math.abs(value), sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
    if (Number.isNaN(value)) { result[i] = 0x7e00; continue; }
    if (magnitude >= 65520) { result[i] = sign | 0x7c00; continue; }
    // The spacing of half floats at this magnitude; below 2^-14 they are evenly spaced.
    const exponent = Math.max(Math.floor(Math.log2(magnitude || 2 ** -15)), -14);
    const units = roundToEven(magnitude / 2 ** (exponent - 10));
    result[i] = sign | (units < 1024 ? units : units >= 2048 ? (exponent + 16) << 10 : ((exponent + 15) << 10) | (units - 1024));
  }
  return new Uint8Array(result.buffer);
}

function roundToEven(value: number): number {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
