import type * as tf from '@tensorflow/tfjs';
import type { Module } from '../../src/nn/module.ts';
import { resnet, resnetConfig } from '../../src/nn/resnet.ts';
import { vit, vitSizes } from '../../src/nn/vit.ts';

/** A network to time, and what its classifier is called where PyTorch has it (torchvision, timm). */
export interface TimedNetwork {
  readonly network: Module<tf.Tensor4D, tf.Tensor2D> & { readonly featureSize: number };
  readonly head: string;
}

const torchvision = (name: 'resnet18' | 'resnet50') => (): TimedNetwork => ({ network: resnet(resnetConfig({ name, width: 64, stem: 'imagenet', norm: 'batch' })), head: 'fc' });

/** By the names of `torch_networks` in bench.py; the tensors have the names and shapes that torchvision's and timm's have. */
export const networks: Readonly<Record<string, (imageSize: number) => TimedNetwork>> = {
  resnet18: torchvision('resnet18'),
  resnet50: torchvision('resnet50'),
  'vit-base': (imageSize) => ({ network: vit({ imageSize, ...vitSizes.base, positions: 'learned' }), head: 'head' }),
};
