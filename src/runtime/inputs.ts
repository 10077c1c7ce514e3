import { GenViewError } from '../errors.ts';
import { sizeOf, type NamedTensors } from '../tensor.ts';
import type { TensorSpec } from './program.ts';

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;

/** Throws when the tensors are not exactly those of the signature. */
export function checkInputs(name: string, specs: Readonly<Record<string, TensorSpec>>, given: NamedTensors): void {
  const fail = (message: string): never => { throw new GenViewError('ProgramInput', `${name}: ${message}`); };
  for (const [key, { shape, dtype = 'float32' }] of Object.entries(specs)) {
    const tensor = given[key] ?? fail(`input "${key}" is missing`);
    if (tensor.dtype !== dtype || tensor.shape.join() !== shape.join()) {
      fail(`input "${key}" is ${tensor.dtype}[${tensor.shape.join(', ')}], expected ${dtype}[${shape.join(', ')}]`);
    }
    if (!(tensor.data instanceof arrays[dtype])) fail(`input "${key}" is ${dtype} by its name, and its data a ${(tensor.data as object).constructor.name}; give a ${arrays[dtype].name}`);
    if (tensor.data.length !== sizeOf(shape)) fail(`input "${key}" has ${tensor.data.length} values, its shape [${shape.join(', ')}] needs ${sizeOf(shape)}`);
  }
  const unknown = Object.keys(given).find((key) => !(key in specs));
  if (unknown !== undefined) fail(`unknown input "${unknown}"; inputs are ${Object.keys(specs).join(', ') || 'none'}`);
}
