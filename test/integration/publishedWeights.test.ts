import * as tf from '@tensorflow/tfjs';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convnext, convnextBase } from '../../src/nn/convnext.ts';
import { inference, type ParameterSpec, type Weights } from '../../src/nn/module.ts';
import { resnet, resnetConfig } from '../../src/nn/resnet.ts';
import { decodeSafetensors } from '../../src/nn/safetensors.ts';
import { vit, vitSizes } from '../../src/nn/vit.ts';
import { loadWeights, type LoadOptions } from '../../src/nn/weights.ts';
import { compileInference } from '../../src/runtime/compile.ts';
import type { NamedTensors } from '../../src/tensor.ts';

/** A Python that has torch, torchvision, timm, open_clip_torch and safetensors. */
const python = process.env['GENVIEW_TEST_PYTHON'] ?? 'python3';
const script = fileURLToPath(new URL('../fixtures/nn/published.py', import.meta.url));

/** Why the libraries that define these networks cannot be had. */
function unavailable(): string | undefined {
  try {
    execFileSync(python, ['-c', 'import torch, torchvision, timm, open_clip, safetensors.torch'], { stdio: 'pipe', timeout: 300_000 });
    return undefined;
  } catch (error) {
    return `${python} lacks torch, torchvision, timm, open_clip_torch or safetensors (${String((error as Error).message).trim().split('\n').at(-1)}); GENVIEW_TEST_PYTHON names one that has them`;
  }
}

const reason = unavailable();
if (reason) console.warn(`skipped: full-size networks: ${reason}`);

interface Case {
  readonly network: { readonly parameters: readonly ParameterSpec[] };
  readonly load: LoadOptions;
  readonly forward: (x: tf.Tensor4D, weights: Weights) => Record<string, tf.Tensor>;
}

function vision(size: 'small' | 'base'): Case {
  const network = vit({ imageSize: 224, ...vitSizes[size], positions: 'learned' });
  return {
    network, load: { ignore: /^head\./ },
    forward: (x, weights) => ({ features: network.apply(x, weights, inference), patchTokens: network.tokens(x, weights).patchTokens }),
  };
}

const residual = resnet(resnetConfig({ name: 'resnet50', stem: 'imagenet', width: 64, norm: 'batch' }));
const scorer = convnext(convnextBase);
const cases: Record<string, Case> = {
  resnet50: { network: residual, load: { ignore: /^fc\./ }, forward: (x, weights) => ({ features: residual.apply(x, weights, inference) }) },
  vit_small_patch16_224: vision('small'),
  vit_base_patch16_224: vision('base'),
  convnext_base_w: {
    network: scorer, load: { prefix: 'visual.trunk.' },
    forward: (x, weights) => ({ features: scorer.apply(x, weights, inference), featureMap: tf.transpose(scorer.featureMap(x, weights), [0, 3, 1, 2]) }),
  },
};

describe.skipIf(reason)('safetensors files as their libraries save them', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-published-'));
    execFileSync(python, [script, folder], { stdio: ['ignore', 'ignore', 'pipe'], timeout: 600_000 });
  });
  afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

  const read = (name: string): NamedTensors => decodeSafetensors(readFileSync(path.join(folder, `${name}.safetensors`)), name).tensors;

  it.each(Object.keys(cases))('of %s give the features that the library computes', async (name) => {
    const { network, load, forward } = cases[name]!;
    const { images, ...expected } = read(`${name}.reference`);
    const weights = loadWeights(network, read(name), { source: name, ...load });
    const program = await compileInference((given, constants) => forward(tf.transpose(given['images']!, [0, 2, 3, 1]) as tf.Tensor4D, constants), { images: { shape: images!.shape } }, weights);
    const actual = await program.run({ images: images! });
    await program.dispose();
    for (const [output, { shape, data }] of Object.entries(expected)) {
      expect(actual[output]!.shape, output).toEqual(shape);
      const values = data as Float32Array;
      const scale = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      const worst = values.reduce((largest, value, i) => Math.max(largest, Math.abs(value - actual[output]!.data[i]!)), 0);
      expect(worst / scale, `${output}, relative to its largest magnitude`).toBeLessThan(1e-4);
    }
  });
});
