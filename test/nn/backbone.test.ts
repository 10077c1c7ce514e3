import { describe, expect, it } from 'vitest';
import { backboneNetwork } from '../../src/nn/backbone.ts';
import { featureSize } from '../../src/recipe/backbone.ts';
import type { BackboneRecipe } from '../../src/recipe/recipe.ts';

const residual = { stem: 'imagenet', width: 64, norm: 'batch' } as const;
/** Features as published, and the last layer of each network. */
const backbones: [BackboneRecipe, number, string][] = [
  [{ name: 'resnet18', ...residual }, 512, 'layer4.1.bn2.weight'],
  [{ name: 'resnet50', ...residual }, 2048, 'layer4.2.bn3.weight'],
  [{ name: 'resnet-small', ...residual }, 256, 'layer3.0.bn2.weight'],
  [{ name: 'vit-small', patch: 16 }, 384, 'norm.weight'],
  [{ name: 'vit-base', patch: 16 }, 768, 'norm.weight'],
];

describe.each(backbones)('backbone %j', (recipe, width, last) => {
  const network = backboneNetwork(recipe, 224, { frozenPatches: true });

  it(`has ${width} features`, () => {
    expect(network.featureSize).toBe(width);
    expect(featureSize(recipe)).toBe(width);
    expect(network.parameters.find(({ name }) => name === last)!.shape).toEqual([width]);
  });

  it('trains the patch projection in fine-tuning only', () => {
    const frozen = network.parameters.filter(({ name, kind }) => name.startsWith('patch_embed') && kind === 'buffer');
    expect(frozen).toHaveLength(recipe.name.startsWith('vit') ? 2 : 0);
    const tuned = backboneNetwork(recipe, 224, { frozenPatches: false }).parameters;
    expect(tuned.filter(({ name, kind }) => name.startsWith('patch_embed') && kind === 'buffer')).toEqual([]);
  });
});
