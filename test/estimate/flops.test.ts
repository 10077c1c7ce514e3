import { expect, it } from 'vitest';
import { autoencoderDecoderMacs, backboneMacs, clipViTH14Macs, resnetMacs, stableDiffusionUnetMacs, vitMacs } from '../../src/estimate/flops.ts';

it('Vision Transformers: ViT-B/16 by hand, ViT-H/14 as open_clip profiles it', () => {
  // 12 blocks of 12 x 768^2 x 197 + 2 x 197^2 x 768, and 196 patches of 768 values.
  expect(vitMacs({ imageSize: 224, patch: 16, width: 768, depth: 12 })).toBe(12 * (1_394_343_936 + 59_610_624) + 115_605_504);
  expect(backboneMacs({ name: 'vit-base', patch: 16 }, 224)).toBe(17_563_060_224);
  // open_clip's table (docs/model_profile.csv): 334.59 GFLOP for the image tower.
  expect(2 * clipViTH14Macs / 1e9).toBeCloseTo(334.59, 1);
});

it('ResNets: as torchvision counts them, without the classifier', () => {
  const backbone = (name: 'resnet18' | 'resnet50', stem: 'imagenet' | 'cifar') => ({ name, stem, width: 64, norm: 'batch' }) as const;
  expect(resnetMacs(backbone('resnet18', 'imagenet'), 224)).toBe(1_814_073_344 - 512 * 1000);
  expect(resnetMacs(backbone('resnet50', 'imagenet'), 224)).toBe(4_089_184_256 - 2048 * 1000);
  // The CIFAR stem by hand: conv1 3 x 3 x 3 x 64 on 32^2, four 64-wide convolutions, then 3.5 such and a shortcut a stage.
  const wide = 32 ** 2 * 64 * 64 * 9;
  expect(resnetMacs(backbone('resnet18', 'cifar'), 32)).toBe(32 ** 2 * 3 * 64 * 9 + 4 * wide + 3 * (3.5 * wide + 16 ** 2 * 64 * 128));
});

it('Stable Diffusion: 339 G multiply-adds at 64 x 64 latents without the products of attention, as published', () => {
  const products = (tokens: number, width: number): number => 2 * tokens * (tokens + 77) * width;
  const attention = 5 * (products(64 ** 2, 320) + products(32 ** 2, 640) + products(16 ** 2, 1280)) + products(8 ** 2, 1280);
  expect((stableDiffusionUnetMacs(64) - attention) / 339e9).toBeCloseTo(1, 1.7);
  // 768 pixels: 2.25 times the convolutions, 5.06 times the products.
  expect(stableDiffusionUnetMacs(96) / 1e9).toBeCloseTo(1074.5, 1);
  // Twice 1.24 T: the decoder's published 2.5 TFLOP for an image of 512 pixels.
  expect(2 * autoencoderDecoderMacs(64) / 1e12).toBeCloseTo(2.5, 1);
});
