import type * as tf from '@tensorflow/tfjs';
import { arrange, logicalShape, type Recorded } from '../layout.ts';
import { imagePerm } from './convolution.ts';
import type { Kernel } from './kernel.ts';
import { separable } from './pooling.ts';
import type { Graph, Value } from '../graph.ts';

interface ResizeAttributes { readonly alignCorners: boolean; readonly halfPixelCenters: boolean }

/** Source coordinate of each output position (TensorFlow's conventions). */
function coordinates(from: number, to: number, { alignCorners, halfPixelCenters }: ResizeAttributes, bilinear: boolean): number[] {
  const scale = alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;
  return Array.from({ length: to }, (_, i) => (halfPixelCenters ? scale * (i + 0.5) - (bilinear ? 0.5 : 0) : scale * i));
}

/** Weights of linear interpolation along one axis: [from][to]. */
function linearWeights(from: number, to: number, attributes: ResizeAttributes): number[][] {
  const weights = Array.from({ length: from }, () => Array<number>(to).fill(0));
  coordinates(from, to, attributes, true).forEach((place, i) => {
    const low = Math.max(0, Math.floor(place)), high = Math.min(from - 1, Math.ceil(place));
    const fraction = place - low;
    weights[low]![i]! += 1 - fraction;
    weights[high]![i]! += fraction;
  });
  return weights;
}

const nearestPlaces = (from: number, to: number, attributes: ResizeAttributes): number[] =>
  coordinates(from, to, attributes, false).map((place) => Math.min(from - 1, attributes.alignCorners ? Math.round(place) : Math.floor(place)));

function nearestWeights(from: number, to: number, attributes: ResizeAttributes): number[][] {
  const places = nearestPlaces(from, to, attributes);
  return Array.from({ length: from }, (_, k) => places.map((place) => (place === k ? 1 : 0)));
}

const transposed = (matrix: readonly (readonly number[])[]): number[][] => matrix[0]!.map((_, j) => matrix.map((row) => row[j]!));

type Weights = (from: number, to: number, attributes: ResizeAttributes) => number[][];

/** Interpolation is linear and separable: one constant matrix per axis forward, its transpose backward. */
const resize = (weights: Weights): Kernel<'images', tf.ResizeBilinearAttrs> => (g, { images }, attributes) => {
  const [, h, w] = logicalShape(images) as [number, number, number, number];
  const [height, width] = attributes.size;
  return { value: separable(g, arrange(g, images, imagePerm), weights(h, height, attributes), weights(w, width, attributes)), perm: imagePerm };
};

const resizeGrad = (weights: Weights): Kernel<'images' | 'dy', tf.ResizeBilinearAttrs> => (g, { images, dy }, attributes) => {
  const [, h, w] = logicalShape(images) as [number, number, number, number];
  const [, height, width] = logicalShape(dy) as [number, number, number, number];
  const back = (from: number, to: number): number[][] => transposed(weights(from, to, attributes));
  return { value: separable(g, arrange(g, dy, imagePerm), back(h, height), back(w, width)), perm: imagePerm };
};

/** Whole factors repeat every element: cheaper than a product with a matrix. */
function repeatFactors(from: readonly number[], to: readonly number[], { alignCorners }: ResizeAttributes): [number, number] | undefined {
  const factors = to.map((n, i) => n / from[i]!);
  return !alignCorners && factors.every((f) => Number.isInteger(f)) ? [factors[0]!, factors[1]!] : undefined;
}

function repeat(g: Graph, x: Value, [rows, columns]: [number, number]): Value {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const spread = g.expand(g.reshape(x, [n, c, h, 1, w, 1]), [n, c, h, rows, w, columns]);
  return g.reshape(spread, [n, c, h * rows, w * columns]);
}

const resizeNearest: Kernel<'images', tf.ResizeNearestNeighborAttrs> = (g, { images }, attributes) => {
  const [, h, w] = logicalShape(images) as [number, number, number, number];
  const factors = repeatFactors([h, w], attributes.size, attributes);
  if (factors) return { value: repeat(g, arrange(g, images, imagePerm), factors), perm: imagePerm };
  const nearest = (x: Recorded, axis: number, from: number, to: number): Recorded => {
    const physical = x.perm[axis]!;
    const shape = x.value.shape.map((n, i) => (i === physical ? to : n));
    return { value: g.node('Gather', [x.value, g.ints(nearestPlaces(from, to, attributes))], { axis: physical }, shape), perm: x.perm };
  };
  return nearest(nearest(images, 1, h, attributes.size[0]), 2, w, attributes.size[1]);
};

const resizeNearestGrad: Kernel<'images' | 'dy', tf.ResizeNearestNeighborAttrs> = (g, { images, dy }, attributes) => {
  const [n, h, w, c] = logicalShape(images) as [number, number, number, number];
  const [, height, width] = logicalShape(dy) as [number, number, number, number];
  const factors = repeatFactors([h, w], [height, width], attributes);
  if (!factors) return resizeGrad(nearestWeights)(g, { images, dy }, attributes);
  const blocks = g.reshape(arrange(g, dy, imagePerm), [n, c, h, factors[0], w, factors[1]]);
  return { value: g.reshape(g.reduce('ReduceSum', blocks, [3, 5]), [n, c, h, w]), perm: imagePerm };
};

export const resizing = {
  ResizeBilinear: resize(linearWeights), ResizeBilinearGrad: resizeGrad(linearWeights),
  ResizeNearestNeighbor: resizeNearest, ResizeNearestNeighborGrad: resizeNearestGrad,
};
