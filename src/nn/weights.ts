import { GenViewError } from '../errors.ts';
import type { NamedTensors } from '../tensor.ts';
import type { ParameterSpec } from './module.ts';

export interface LoadOptions {
  /** Named in errors: a path or URL. @default 'weights' */
  readonly source?: string;
  /** What the file's names begin with, for example `visual.trunk.`; tensors with other names belong to something else. @default '' */
  readonly prefix?: string;
  /** Names (behind the prefix) of further tensors that the network does without, for example a classifier's: `/^fc\./`. */
  readonly ignore?: RegExp;
  /** What errors tell the user to do. @default 'give the weights of this very architecture' */
  readonly remedy?: string;
}

/** Book-keeping of PyTorch modules that no network computes with. */
const bookkeeping = /(^|\.)(num_batches_tracked|position_ids)$/;

/**
 * The tensors of a network, under its own names and in its order, out of those of a weights file.
 * @throws GenViewError `WeightsInvalid` naming the first tensor that is missing, of another type or shape, or superfluous
 */
export function loadWeights(network: { readonly parameters: readonly ParameterSpec[] }, tensors: NamedTensors, options: LoadOptions = {}): NamedTensors {
  const { source = 'weights', prefix = '', ignore, remedy = 'give the weights of this very architecture' } = options;
  const invalid = (name: string, what: string): GenViewError =>
    new GenViewError('WeightsInvalid', `${source}: tensor ${prefix}${name} ${what}; ${remedy}`);
  const listed = (shape: readonly number[]): string => `[${shape.join(', ')}]`;
  const result: NamedTensors = {};
  for (const { name, shape } of network.parameters) {
    const tensor = tensors[prefix + name];
    if (!tensor) throw invalid(name, `is missing; the network needs it as float32 of shape ${listed(shape)}`);
    if (tensor.dtype !== 'float32' || tensor.shape.join() !== shape.join()) {
      throw invalid(name, `is ${tensor.dtype} of shape ${listed(tensor.shape)}; the network needs float32 of shape ${listed(shape)}`);
    }
    result[name] = tensor;
  }
  for (const [full, { shape }] of Object.entries(tensors)) {
    if (!full.startsWith(prefix)) continue;
    const name = full.slice(prefix.length);
    if (name in result || bookkeeping.test(name) || ignore?.test(name)) continue;
    throw invalid(name, `of shape ${listed(shape)} belongs to no part of the network`);
  }
  return result;
}
