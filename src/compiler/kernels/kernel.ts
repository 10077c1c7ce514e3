import type { Graph } from '../graph.ts';
import type { Recorded } from '../layout.ts';

/**
 * A kernel records the ONNX nodes of one tf.js kernel. Inputs and attributes are named as tf.js names them
 * (`tfjs-core/src/kernel_names.ts`); kernels over a list receive it under '0', '1', ...
 */
export type Kernel<Names extends string, Attributes = unknown> = (g: Graph, inputs: Record<Names, Recorded>, attributes: Attributes) => Recorded | Recorded[];

/** A kernel of whatever inputs and attributes, as the registry keeps it. */
export type AnyKernel = (g: Graph, inputs: never, attributes: never) => Recorded | Recorded[];

/** The inputs of a kernel over a list, in order. */
export const listOf = (inputs: Record<string, Recorded>): Recorded[] =>
  Object.keys(inputs).sort((a, b) => Number(a) - Number(b)).map((key) => inputs[key]!);
