import * as tf from '@tensorflow/tfjs';
import { broadcasting } from './broadcasting.ts';
import { convolutions } from './convolution.ts';
import { indexing } from './indexing.ts';
import { missingGradients } from './missing.ts';
import { moving } from './moving.ts';
import { predicates } from './predicates.ts';
import { products } from './products.ts';

let done = false;

/**
 * Registers the gradients that tf.js lacks or gets wrong (sums over broadcast axes, dilation, mirrored and strided access, indexing) with
 * tf.js, for the whole process, once. They are written in tf.js operations, so that every backend has them.
 */
export function completeGradients(): void {
  if (done) return;
  done = true;
  for (const config of [...broadcasting, ...convolutions(), ...moving, ...indexing(), ...products, ...predicates, ...missingGradients]) tf.registerGradient(config);
}
