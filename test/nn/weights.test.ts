import { describe, expect, it } from 'vitest';
import { GenViewError } from '../../src/errors.ts';
import { convnext } from '../../src/nn/convnext.ts';
import { resnet } from '../../src/nn/resnet.ts';
import { decodeSafetensors, encodeSafetensors } from '../../src/nn/safetensors.ts';
import { loadWeights } from '../../src/nn/weights.ts';
import { prefixed } from '../../src/nn/module.ts';
import { float32, int32, type NamedTensors } from '../../src/tensor.ts';
import { referenceTensors } from './reference.ts';

const network = resnet({ stem: { width: 4, kernel: 3, stride: 1, pool: false }, stages: [{ width: 4, blocks: 1, stride: 1 }], block: 'bottleneck', norm: 'batch' });
const weights = referenceTensors(network.parameters);
const stored = (tensors: NamedTensors): NamedTensors => decodeSafetensors(encodeSafetensors(tensors)).tensors;
const without = (name: string): NamedTensors => Object.fromEntries(Object.entries(weights).filter(([key]) => key !== name));

describe('loadWeights', () => {
  it('finds every tensor of a safetensors file by name, in the network\'s order', () => {
    const loaded = loadWeights(network, stored(weights));
    expect(Object.keys(loaded)).toEqual(network.parameters.map(({ name }) => name));
    for (const [name, { data }] of Object.entries(loaded)) expect([...data], name).toEqual([...weights[name]!.data]);
  });

  it('does without PyTorch\'s book-keeping, and without what it is told to ignore', () => {
    const more = { ...weights, 'bn1.num_batches_tracked': int32([7], []), 'fc.weight': float32([1], [1, 1]) };
    expect(loadWeights(network, stored(more), { ignore: /^fc\./ })).toEqual(loadWeights(network, weights));
  });

  it('takes a part of a larger file by its prefix', () => {
    const trunk = convnext({ stages: [{ width: 4, blocks: 1 }] }), tensors = referenceTensors(trunk.parameters);
    const file = stored({ ...prefixed(tensors, 'visual.trunk.'), logit_scale: float32([1], []), 'visual.head.proj.weight': float32([1], [1, 1]) });
    expect(loadWeights(trunk, file, { prefix: 'visual.trunk.' })).toEqual(loadWeights(trunk, tensors));
    expect(() => loadWeights(trunk, file, { prefix: 'trunk.', source: 'open_clip.safetensors' })).toThrow('open_clip.safetensors: tensor trunk.stem.0.weight is missing; the network needs it as float32 of shape [4, 3, 4, 4]');
  });

  it.each<[string, NamedTensors, string]>([
    ['missing', without('layer1.0.bn2.running_var'), 'tensor layer1.0.bn2.running_var is missing; the network needs it as float32 of shape [4]'],
    ['superfluous', { ...weights, 'layer2.0.conv1.weight': float32([1, 2], [1, 2]) }, 'tensor layer2.0.conv1.weight of shape [1, 2] belongs to no part of the network'],
    ['wrongly shaped', { ...weights, 'conv1.weight': float32(new Float32Array(588), [4, 3, 7, 7]) }, 'tensor conv1.weight is float32 of shape [4, 3, 7, 7]; the network needs float32 of shape [4, 3, 3, 3]'],
    ['wrongly typed', { ...weights, 'bn1.bias': int32([0, 0, 0, 0], [4]) }, 'tensor bn1.bias is int32 of shape [4]; the network needs float32 of shape [4]'],
  ])('names a %s tensor', (_what, tensors, message) => {
    const load = (): NamedTensors => loadWeights(network, stored(tensors), { source: 'model.safetensors' });
    expect(load).toThrow(GenViewError);
    expect(load).toThrow(`model.safetensors: ${message}; give the weights of this very architecture`);
  });
});
