import type { Attribute, Node, Value } from './graph.ts';

/** Operator domain of onnxruntime's blocked convolutions: channels in blocks of 8 or 16 that are stored side by side (CPU only). */
export const blockedDomain = 'com.microsoft.nchwc';

/** Operator domain of onnxruntime's other own operators, and those that kernels record: their values know a standard computation. */
export const microsoftDomain = 'com.microsoft';
const microsoftOperators = new Set(['MultiHeadAttention']);

/** A node as it is written into a model; names instead of values. */
export interface WrittenNode {
  readonly op: string;
  readonly domain?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** What the writer of a model offers: names of values, and constants by their contents. */
export interface Names {
  of(value: Value): string;
  ints(values: readonly number[]): string;
}

/**
 * Whether a convolution is worth blocking: onnxruntime blocks those with constant filters itself, when it loads the model;
 * of the others it would unfold the input into a matrix, which is 1.5 to 2 times slower. One with 1 x 1 filters is a matrix
 * product as it stands.
 */
function isBlockable({ op, inputs, attributes }: Node, block: number): boolean {
  if (op !== 'Conv' || inputs.length !== 2 || attributes['group'] !== 1) return false;
  const [, filter] = inputs as [Value, Value];
  return filter.data === undefined && filter.shape.length === 4 && filter.shape[0]! % block === 0 && filter.shape[1]! % block === 0 && filter.shape[2]! * filter.shape[3]! > 1;
}

/**
 * Writes nodes with their convolutions blocked: ReorderInput, a blocked Conv, ReorderOutput, and the filter reordered in the
 * graph. An input or a filter that several convolutions read is reordered once.
 * @param block channels that are stored side by side; 0 leaves convolutions as they are
 */
export function writeNodes(nodes: readonly Node[], names: Names, block: number): WrittenNode[] {
  const written: WrittenNode[] = [], done = new Set<string>();
  /** The name of what `write` makes, written once. */
  const once = (name: string, write: () => void): string => {
    if (!done.has(name)) { done.add(name); write(); }
    return name;
  };
  const reorderedInput = (x: Value): string => {
    const name = `${names.of(x)}:blocked`;
    return once(name, () => written.push({ op: 'ReorderInput', domain: blockedDomain, inputs: [names.of(x)], outputs: [name], attributes: {} }));
  };
  const reorderedFilter = (filter: Value): string => {
    const name = `${names.of(filter)}:blocked filter`;
    // A filter with its channels exchanged (of an input gradient) is moved once, not twice.
    const exchanged = filter.node?.op === 'Transpose' && (filter.node.attributes['perm'] as readonly number[]).join() === '1,0,2,3';
    const source = exchanged ? filter.node.inputs[0]! : filter, [a, b, h, w] = source.shape as [number, number, number, number];
    return once(name, () => written.push(
      { op: 'Reshape', inputs: [names.of(source), names.ints([a / block, block, b / block, block, h, w])], outputs: [`${name}:blocks`], attributes: {} },
      { op: 'Transpose', inputs: [`${name}:blocks`], outputs: [`${name}:moved`], attributes: { perm: exchanged ? [2, 0, 4, 5, 1, 3] : [0, 2, 4, 5, 3, 1] } },
      { op: 'Reshape', inputs: [`${name}:moved`, names.ints(filter.shape)], outputs: [name], attributes: {} },
    ));
  };
  for (const node of nodes) {
    const outputs = node.outputs.map((value) => names.of(value));
    if (block === 0 || !isBlockable(node, block)) {
      written.push({ op: node.op, ...(microsoftOperators.has(node.op) && { domain: microsoftDomain }), inputs: node.inputs.map((value) => names.of(value)), outputs, attributes: node.attributes });
      continue;
    }
    const [x, filter] = node.inputs as [Value, Value], result = `${outputs[0]!}:blocked result`;
    const inputs = [reorderedInput(x), reorderedFilter(filter)];
    written.push(
      { op: 'Conv', domain: blockedDomain, inputs, outputs: [result], attributes: node.attributes },
      { op: 'ReorderOutput', domain: blockedDomain, inputs: [result], outputs, attributes: { channels: filter.shape[0]! } },
    );
  }
  return written;
}
