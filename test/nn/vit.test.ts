import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { initialize } from '../../src/nn/module.ts';
import { sinCosPositions, vit, vitSizes, type ViTConfig } from '../../src/nn/vit.ts';
import { declaredShapes, engines, expectGradients, expectValues, networkReference, runNetwork } from './networkReference.ts';

const base: ViTConfig = { imageSize: 64, patch: 16, width: 24, depth: 2, heads: 2, hidden: 72, positions: 'learned' };

describe.each([
  ['vit-patch16', base],
  ['vit-patch14', { ...base, imageSize: 42, patch: 14, heads: 4 }],
])('Vision Transformer like timm\'s, %s', (name, config) => {
  const expected = networkReference(name), network = vit(config);

  it('owns the tensors that timm names', () => {
    expect(declaredShapes(network)).toEqual(expected.shapes);
  });

  it.each(engines)('agrees with timm in class token, patch tokens and gradients (%s)', async (engine) => {
    const results = await runNetwork(engine, network, expected.images, (x, weights) => {
      const features = network.apply(x, weights, { training: true }), { classToken, patchTokens } = network.tokens(x, weights);
      return { outputs: { features, classToken, patchTokens }, features };
    });
    expectValues(results['features'], expected['features']);
    expectValues(results['classToken'], expected['features']);
    expectValues(results['patchTokens'], expected['patchTokens'], results['patchTokens']!.data.length / 2);
    if (engine !== 'onnxruntime, weights constant') expectGradients(results, expected);
  });
});

describe('Vision Transformer of moco-v3', () => {
  const network = vit({ ...base, positions: 'sincos', frozenPatches: true });
  const kinds = Object.fromEntries(network.parameters.map(({ name, kind }) => [name, kind]));

  it('trains neither positions nor the patch projection', () => {
    expect(Object.keys(kinds).filter((name) => kinds[name] === 'buffer').sort()).toEqual(['patch_embed.proj.bias', 'patch_embed.proj.weight', 'pos_embed']);
    expect(declaredShapes(network)).toEqual(networkReference('vit-patch16').shapes);
  });

  it('starts as vits.py does', () => {
    const weights = initialize(network, 1);
    const [patch, qkv, classToken] = ['patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'cls_token'].map((name) => weights[name]!.data as Float32Array) as [Float32Array, Float32Array, Float32Array];
    for (const [values, bound] of [[patch, Math.sqrt(6 / (3 * 256 + 24))], [qkv, Math.sqrt(6 / (24 + 24))]] as const) {
      expect(Math.max(...values.map(Math.abs)) / bound).toBeGreaterThan(0.99);
      expect(Math.max(...values.map(Math.abs)) / bound).toBeLessThanOrEqual(1);
    }
    expect(Math.max(...classToken.map(Math.abs))).toBeLessThan(1e-5);
    expect([...weights['pos_embed']!.data]).toEqual([...sinCosPositions(24, 4, 4).data]);
  });

  it('refuses images of another size, and sizes that patches do not fill', () => {
    expect(() => tf.tidy(() => network.apply(tf.zeros([1, 32, 32, 3]), Object.fromEntries(network.parameters.map((p) => [p.name, tf.zeros([...p.shape])])), { training: false })))
      .toThrow('2 x 2 patches and a class token do not fit 17 positions');
    expect(() => vit({ ...base, imageSize: 60 })).toThrow('images of 60 pixels do not divide into patches of 16');
  });
});

describe('sin-cos positions', () => {
  it('have the golden values of ViT-B/16 at 224 pixels: zeros for the class token, patch 17 in row 1 and column 3', () => {
    const { shape, data } = sinCosPositions(768, 14, 14);
    expect(shape).toEqual([197, 768]);
    expect(data.subarray(0, 768).every((value) => value === 0)).toBe(true);
    const patch = data.subarray(18 * 768, 19 * 768);
    const golden = { 0: 0.841470985, 1: 0.81525065, 192: 0.540302306, 384: 0.141120008, 385: 0.278379981, 576: -0.989992497, 767: 0.99999995 };
    for (const [i, value] of Object.entries(golden)) expect(patch[Number(i)], `element ${i}`).toBeCloseTo(value, 7);
  });
});

it.each([
  // Parameters of timm's vit_{tiny,small,base}_patch16_224 and vit_huge_patch14_224 without classifier.
  ['tiny', 5_524_416], ['small', 21_665_664], ['small-mocov3', 21_665_664], ['base', 85_798_656], ['huge', 630_764_800],
] as const)('ViT %s has %d parameters at 224 pixels', (name, count) => {
  const { parameters } = vit({ imageSize: 224, ...vitSizes[name], positions: 'learned' });
  expect(parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(count);
});
