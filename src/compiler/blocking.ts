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
  /** Adds a constant of that name. */
  constant(name: string, shape: readonly number[], data: Float32Array): string;
}

/** How convolutions are blocked. */
export interface Blocking {
  /** Channels that are stored side by side; 0 leaves convolutions as they are. */
  readonly block: number;
  /** Whether also those with constant filters are blocked here: onnxruntime, which does so itself when it loads the model, has the filters three times meanwhile. @default false */
  readonly constants?: boolean;
}

/**
 * Whether a convolution is worth blocking: onnxruntime blocks those with constant filters itself, when it loads the model;
 * of the others it would unfold the input into a matrix, which is 1.5 to 2 times slower. One with 1 x 1 filters is a matrix
 * product as it stands.
 */
function isBlockable({ op, inputs, attributes }: Node, { block, constants = false }: Blocking): boolean {
  if (op !== 'Conv' || inputs.length !== 2 || attributes['group'] !== 1) return false;
  const [, filter] = inputs as [Value, Value];
  return (constants || filter.data === undefined) && filter.shape.length === 4 && filter.shape[0]! % block === 0 && filter.shape[1]! % block === 0 && filter.shape[2]! * filter.shape[3]! > 1;
}

/** Where a filter comes from: of an input gradient it is one with its channels exchanged, its taps rotated by 180 degrees. */
function originOf(filter: Value): { source: Value; exchanged: boolean; rotated: boolean } {
  if (filter.node?.op !== 'Transpose' || (filter.node.attributes['perm'] as readonly number[]).join() !== '1,0,2,3') return { source: filter, exchanged: false, rotated: false };
  const exchanged = filter.node.inputs[0]!, slice = exchanged.node?.op === 'Reshape' ? exchanged.node.inputs[0]!.node : undefined;
  const [flat, begin, , axes, step] = slice?.op === 'Slice' ? slice.inputs : [];
  const only = (value: Value | undefined): number => (value?.data?.length === 1 ? Number(value.data[0]) : NaN);
  if (flat?.node?.op !== 'Reshape' || flat.shape.length !== 3 || only(axes) !== 2 || only(step) !== -1 || only(begin) !== flat.shape[2]! - 1 || slice!.outputs[0]!.shape[2] !== flat.shape[2]) return { source: exchanged, exchanged: true, rotated: false };
  const source = flat.node.inputs[0]!;
  // All taps lie on the axis that is turned.
  const whole = source.shape.join() === exchanged.shape.join() && flat.shape[2] === source.shape[2]! * source.shape[3]!;
  return whole ? { source, exchanged: true, rotated: true } : { source: exchanged, exchanged: true, rotated: false };
}

/** A constant filter [O, I, h, w] as [O / block, I / block, h, w, block, block], input channels before output channels. */
function blockedData({ data, shape }: Value, block: number): Float32Array {
  const [outputs, inputs, h, w] = shape as [number, number, number, number], taps = h * w, source = data as Float32Array, result = new Float32Array(source.length);
  let at = 0;
  for (let o = 0; o < outputs; o += block) {
    for (let i = 0; i < inputs; i += block) {
      for (let tap = 0; tap < taps; tap++) {
        for (let input = 0; input < block; input++) {
          for (let output = 0; output < block; output++) result[at++] = source[((o + output) * inputs + i + input) * taps + tap]!;
        }
      }
    }
  }
  return result;
}

/** Nodes that something reads; what only the unblocked form of a convolution needed goes. */
function withoutUnused(nodes: readonly WrittenNode[], read: Set<string>): WrittenNode[] {
  const kept = nodes.toReversed().filter(({ inputs, outputs }) => {
    if (!outputs.some((output) => read.has(output))) return false;
    for (const input of inputs) read.add(input);
    return true;
  });
  return kept.toReversed();
}

/**
 * Writes nodes with their convolutions blocked: ReorderInput, a blocked Conv, ReorderOutput, and the filter reordered in the
 * graph. An input or a filter that several convolutions read is reordered once.
 * @param needed names of the values that something outside the nodes reads: nodes that serve none of them are left out. @default all
 */
export function writeNodes(nodes: readonly Node[], names: Names, blocking: Blocking, needed?: readonly string[]): WrittenNode[] {
  const { block } = blocking;
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
    return once(name, () => {
      if (filter.data) { names.constant(name, filter.shape, blockedData(filter, block)); return; }
      let last = '';
      const write = (op: string, suffix: string, more: readonly string[], attributes: WrittenNode['attributes'] = {}): void => {
        written.push({ op, inputs: [last, ...more], outputs: [`${name}${suffix}`], attributes });
        last = `${name}${suffix}`;
      };
      const { source, exchanged, rotated } = originOf(filter), [a, b, h, w] = source.shape as [number, number, number, number];
      last = names.of(source);
      // A few exchanges of axes, each of large pieces: one Transpose over all of them takes twice as long.
      if (exchanged) {
        write('Reshape', ':taps', [names.ints([a, b, h * w])]);
        write('Transpose', ':outer', [], { perm: [0, 2, 1] });
        if (rotated) write('Slice', ':rotated', [names.ints([h * w - 1]), names.ints([-2147483648]), names.ints([1]), names.ints([-1])]);
        write('Reshape', ':blocks', [names.ints([a / block, block, h * w, b / block, block])]);
        write('Transpose', ':moved', [], { perm: [3, 0, 2, 1, 4] });
      } else {
        write('Reshape', ':taps', [names.ints([a * b, h * w])]);
        write('Transpose', ':outer', [], { perm: [1, 0] });
        write('Reshape', ':rows', [names.ints([h * w * a / block, block, b])]);
        write('Transpose', ':inner', [], { perm: [0, 2, 1] });
        write('Reshape', ':blocks', [names.ints([h * w, a * b / block ** 2, block ** 2])]);
        write('Transpose', ':moved', [], { perm: [1, 0, 2] });
      }
      write('Reshape', '', [names.ints(filter.shape)]);
    });
  };
  for (const node of nodes) {
    const outputs = node.outputs.map((value) => names.of(value));
    if (block === 0 || !isBlockable(node, blocking)) {
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
  return needed ? withoutUnused(written, new Set(needed)) : written;
}
