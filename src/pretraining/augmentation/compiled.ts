import * as tf from '@tensorflow/tfjs';
import type { TensorSpec } from '../../runtime/program.ts';
import { float32, type NamedTensors } from '../../tensor.ts';
import { blue, green, red, type ColourJitter } from './colour.ts';
import { blurReach } from './gaussianBlur.ts';
import type { PhotometricDraw } from './photometric.ts';

/*
 * The photometric part of the augmentation as a tf.js program for a whole batch, so that it runs where the network runs. Every
 * sample has parameters of its own; a sample that skips an operation gets parameters that change nothing.
 */

/** Brightness, contrast and saturation are x -> clip(a x + b mean(luma) + c luma); up to three come before the hue and three after it. */
const steps = 6;

/** Inputs of {@link photometric} for `n` samples: coefficients (a, b, c) of the six steps, turns of the hue, shares of grayscale, blur radii, shares of solarize, flips. */
export function photometricInputs(n: number): Record<string, TensorSpec> {
  return { jitter: { shape: [n, steps, 3] }, hue: { shape: [n] }, grayscale: { shape: [n] }, blurRadius: { shape: [n] }, solarize: { shape: [n] }, flip: { shape: [n], dtype: 'bool' } };
}

/** (a, b, c) of the steps: those before the hue in the first three places, those after it in the others. */
function coefficients({ order, amounts }: ColourJitter): number[] {
  const result = Array.from({ length: steps }, () => [1, 0, 0]), hueAt = order.indexOf(3);
  order.filter((operation) => operation !== 3).forEach((operation, i) => {
    const factor = amounts[operation]!;
    result[i < hueAt ? i : i + 3] = [factor, operation === 1 ? 1 - factor : 0, operation === 2 ? 1 - factor : 0];
  });
  return result.flat();
}

const unchanged: ColourJitter = { order: [0, 1, 2, 3], amounts: [1, 1, 1, 0] };

/** The tensors of {@link photometricInputs} for the given samples. */
export function photometricTensors(draws: readonly PhotometricDraw[]): NamedTensors {
  const vector = (value: (draw: PhotometricDraw) => number) => float32(draws.map(value), [draws.length]);
  return {
    jitter: float32(draws.flatMap(({ jitter }) => coefficients(jitter ?? unchanged)), [draws.length, steps, 3]),
    hue: vector(({ jitter }) => jitter?.amounts[3] ?? 0),
    grayscale: vector((draw) => (draw.grayscale ? 1 : 0)),
    blurRadius: vector((draw) => draw.blurRadius ?? 0),
    solarize: vector((draw) => (draw.solarize ? 1 : 0)),
    flip: { shape: [draws.length], dtype: 'bool', data: Uint8Array.from(draws, (draw) => (draw.flip ? 1 : 0)) },
  };
}

const clip = (x: tf.Tensor): tf.Tensor => tf.clipByValue(x, 0, 1);

/** [n, h, w, 3] -> [n, h, w, 1] */
const luma = (x: tf.Tensor): tf.Tensor => tf.sum(tf.mul(x, tf.tensor1d([red, green, blue])), -1, true);

/** A number for each sample, to meet images. */
const each = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [x.shape[0]!, 1, 1, 1]);

/** Turns the hue of each sample; in HSV a channel is value - chroma max(0, min(k, 4 - k, 1)), k = 5, 3, 1 (red, green, blue) plus six hues, modulo 6. */
function turnHue(x: tf.Tensor, turns: tf.Tensor): tf.Tensor {
  const high = tf.max(x, -1, true), chroma = tf.sub(high, tf.min(x, -1, true)), gray = tf.equal(chroma, 0);
  const [r, g, b] = tf.split(x, 3, -1) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const part = (from: tf.Tensor, to: tf.Tensor): tf.Tensor => tf.div(tf.sub(from, to), tf.where(gray, tf.onesLike(chroma), chroma));
  const sixths = tf.where(tf.equal(high, r), part(g, b), tf.where(tf.equal(high, g), tf.add(part(b, r), 2), tf.add(part(r, g), 4)));
  const place = tf.div(tf.add(tf.add(sixths, tf.mul(each(turns), 6)), tf.tensor1d([5, 3, 1])), 6);
  const k = tf.mul(tf.sub(place, tf.floor(place)), 6);
  return tf.sub(high, tf.mul(chroma, clip(tf.minimum(k, tf.sub(4, k)))));
}

/** Colour jitter in any order per sample. @param x [n, h, w, 3] in [0, 1] */
function jitter(x: tf.Tensor, amounts: tf.Tensor, turns: tf.Tensor): tf.Tensor {
  const [n] = x.shape as [number];
  const step = (image: tf.Tensor, i: number): tf.Tensor => {
    const [a, b, c] = [0, 1, 2].map((k) => each(tf.slice(amounts, [0, i, k], [n, 1, 1]))) as [tf.Tensor, tf.Tensor, tf.Tensor], grays = luma(image);
    return clip(tf.add(tf.mul(image, a), tf.add(tf.mul(tf.mean(grays, [1, 2], true), b), tf.mul(grays, c))));
  };
  const half = (image: tf.Tensor, first: number): tf.Tensor => [first, first + 1, first + 2].reduce(step, image);
  return half(turnHue(half(x, 0), turns), steps / 2);
}

/** Radius of a blur that leaves every pixel alone: all other taps vanish. */
const none = 1e-3;

/** Separable Gaussian of its own radius for each sample: a depthwise convolution over n·3 channels, borders reflected without the border pixel. */
function blur(x: tf.Tensor, radii: tf.Tensor, reach: number): tf.Tensor {
  const [n, h, w] = x.shape as [number, number, number], taps = 2 * reach + 1;
  const distances = tf.div(tf.range(-reach, reach + 1), tf.reshape(tf.maximum(radii, none), [n, 1]));
  const shares = tf.exp(tf.mul(tf.square(distances), -0.5)), kernels = tf.div(shares, tf.sum(shares, 1, true));
  // [taps, n 3]: the same kernel for the three channels of a sample.
  const filter = tf.reshape(tf.mul(tf.expandDims(tf.transpose(kernels), 2), tf.ones([1, 1, 3])), [taps, n * 3]);
  const reflected = (image: tf.Tensor, axis: number): tf.Tensor => {
    const size = image.shape[axis]!;
    // Images smaller than the reach repeat their far border.
    const places = Array.from({ length: size + 2 * reach }, (_, i) => {
      const place = i - reach;
      return place < 0 ? Math.min(-place, size - 1) : place >= size ? size - 1 - Math.min(place - size + 1, size - 1) : place;
    });
    return tf.gather(image, tf.tensor1d(places, 'int32'), axis);
  };
  const smooth = (image: tf.Tensor, axis: 1 | 2): tf.Tensor =>
    tf.depthwiseConv2d(reflected(image, axis) as tf.Tensor4D, tf.reshape(filter, axis === 1 ? [taps, 1, n * 3, 1] : [1, taps, n * 3, 1]), 1, 'valid');
  // The samples' channels side by side: [1, h, w, n 3].
  const together = tf.reshape(tf.transpose(x, [1, 2, 0, 3]), [1, h, w, n * 3]);
  return tf.transpose(tf.reshape(smooth(smooth(together, 2), 1), [h, w, n, 3]), [2, 0, 1, 3]);
}

/**
 * Colour jitter in any order per sample, grayscale, blur, solarize and horizontal flip, as {@link applyPhotometric} does them to one crop.
 *
 * @param x [n, h, w, 3] in [0, 1]
 * @param given the tensors of {@link photometricInputs}
 * @returns [n, h, w, 3] in [0, 1]
 */
export function photometric(x: tf.Tensor4D, given: Readonly<Record<string, tf.Tensor>>): tf.Tensor4D {
  const jittered = jitter(x, given['jitter']!, given['hue']!);
  const gray = tf.add(jittered, tf.mul(each(given['grayscale']!), tf.sub(clip(luma(jittered)), jittered)));
  const blurred = blur(gray, given['blurRadius']!, blurReach(x.shape[2]));
  const bright = tf.cast(tf.greaterEqual(blurred, 0.5), 'float32');
  const solarized = tf.add(blurred, tf.mul(tf.mul(each(given['solarize']!), bright), tf.sub(1, tf.mul(blurred, 2))));
  return tf.where(each(given['flip']!), tf.reverse(solarized, 2), solarized) as tf.Tensor4D;
}

/** (x - mean) / std of each channel. @param x [n, h, w, 3] */
export function normalize(x: tf.Tensor4D, mean: readonly number[], std: readonly number[]): tf.Tensor4D {
  return tf.mul(tf.sub(x, tf.tensor1d([...mean])), tf.tensor1d(std.map((s) => 1 / s)));
}
