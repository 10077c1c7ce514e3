import * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../../errors.ts';
import { withoutGradient } from '../unsupported.ts';

/** Says what is missing where tf.js would only say that a function was not found. */
const missing = ([kernelName, instead]: [string, string]): tf.GradConfig => ({
  kernelName,
  gradFunc: (dy) => {
    const shapes = [dy].flat().map((t) => `${t.dtype}[${t.shape.join(', ')}]`).join(', ');
    throw new GenViewError('UnsupportedOperation', `the gradient of ${kernelName}, whose result is ${shapes}, does not exist; use ${instead}`);
  },
});

export const missingGradients: readonly tf.GradConfig[] = Object.entries(withoutGradient).map(missing);
