import { describe, expect, it } from 'vitest';
import { convnext, convnextBase } from '../../src/nn/convnext.ts';
import { declaredShapes, engines, expectGradients, expectValues, networkReference, runNetwork } from './networkReference.ts';

const widths = [8, 12, 16, 24];

describe('ConvNeXt', () => {
  const expected = networkReference('convnext');
  const network = convnext({ stages: widths.map((width, i) => ({ width, blocks: i === 1 ? 2 : 1 })) });

  it('owns the tensors that timm names', () => {
    expect(declaredShapes(network)).toEqual(expected.shapes);
  });

  it.each(engines)('agrees with timm in feature map, pooled features and gradients (%s)', async (engine) => {
    const results = await runNetwork(engine, network, expected.images, (x, weights) => {
      const features = network.apply(x, weights, { training: true }), map = network.featureMap(x, weights);
      return { outputs: { features, map: map.transpose([0, 3, 1, 2]) }, features };
    });
    expect(results['map']!.shape).toEqual([2, 24, 2, 2]);
    expectValues(results['features'], expected['features']);
    expectValues(results['map'], expected['featureMap'], 24 * 4);
    if (engine !== 'onnxruntime, weights constant') expectGradients(results, expected);
  });

  it('B has the parameters of timm\'s convnext_base without classifier', () => {
    const count = convnext(convnextBase).parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(count).toBe(87_566_464);
  });
});
