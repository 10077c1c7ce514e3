import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { clipVision, clipVitH14 } from '../../src/nn/clip.ts';
import { declaredShapes, engines, expectGradients, expectValues, networkReference, runNetwork } from './networkReference.ts';

describe('CLIP\'s vision transformer', () => {
  const expected = networkReference('clip');
  const network = clipVision({ imageSize: 42, patch: 14, width: 24, depth: 2, heads: 2, hidden: 64, projection: 10 });

  it('owns the tensors of CLIPVisionModelWithProjection', () => {
    expect(declaredShapes(network)).toEqual(expected.shapes);
  });

  it.each(engines)('agrees with transformers in embedding, normalised patch tokens and gradients (%s)', async (engine) => {
    const results = await runNetwork(engine, network, expected.images, (x, weights) => {
      const { embedding, patchTokens } = network.apply(x, weights);
      return { outputs: { embedding, patchTokens }, features: tf.concat([tf.reshape(embedding, [-1]), tf.reshape(patchTokens, [-1])]) };
    });
    expect(results['patchTokens']!.shape).toEqual([2, 9, 24]);
    expectValues(results['embedding'], expected['embedding']);
    expectValues(results['patchTokens'], expected['patchTokens'], 9 * 24);
    if (engine !== 'onnxruntime, weights constant') expectGradients(results, expected);
  });

  it('of size H/14 has the parameters of open_clip\'s', () => {
    const { parameters } = clipVision(clipVitH14);
    expect(parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(632_076_800);
  });
});
