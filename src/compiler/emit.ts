import protobuf from 'protobufjs';
import { GenViewError } from '../errors.ts';
import { writeNodes, type Names, type WrittenNode } from './blocking.ts';
import { typeCode, type Attribute, type ElementType, type Node, type Value } from './graph.ts';
import { onnxProto } from './onnxProto.ts';
import { writeHalfPrecision, type Precision } from './precision.ts';

/** Operator set our nodes are written for, and the IR version that goes with it (onnx/docs/Versioning.md). */
const opset = 18, irVersion = 8;

const modelType = protobuf.parse(onnxProto, { keepCase: true }).root.lookupType('onnx.ModelProto');

/** An ONNX model and the names of what it really reads. */
export interface Model {
  readonly bytes: Uint8Array;
  /** Names of the graph inputs that some output depends on. */
  readonly inputs: readonly string[];
  /** The constants that are in a file beside the model, in order, each at a multiple of {@link externalAlignment}; absent when all are in the model. */
  readonly external?: readonly ExternalConstant[];
}

/** A constant outside the model. */
export interface ExternalConstant {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: ElementType;
  readonly data: Uint8Array;
}

/** When constants go into a file beside the model, and the name of that file. */
export interface External {
  readonly location: string;
  /** Total size of the constants above which they do, in bytes. */
  readonly above: number;
}

/** Offsets in the file of constants are multiples of a page, so that it can be mapped (onnx/docs/ExternalData.md). */
export const externalAlignment = 4096;

/** Constants below this size stay in the model: shapes, axes and the like, which tools want to see. */
const smallest = 1024;

/** How a model is written. */
export interface EmitOptions {
  /**
   * Channel block of this machine's onnxruntime, for faster convolutions with filters that are computed or given; such a model runs
   * there only, and in float32 only. @default 0, a model of standard operators
   */
  readonly block?: number;
  /** Whether onnxruntime's own operators may be used (attention); such a model runs in onnxruntime only. @default false */
  readonly fused?: boolean;
  /** Whether convolutions with constant filters are blocked here, see `Blocking.constants`. @default when the constants are {@link large} */
  readonly compact?: boolean;
  /** Where large constants go. @default into the model */
  readonly external?: External;
  /** @default 'float32' */
  readonly precision?: Precision;
}

/** Size of constants (bytes, altogether) above which memory comes before speed. */
export const large = 2 ** 30;

/** A protobuf message cannot be larger than 2^31 - 1 bytes; the nodes need some of them. */
export const largestModel = 2 ** 31 - 1 - 64 * 2 ** 20;

/** AttributeProto.AttributeType. */
const attributeType = { float: 1, int: 2, string: 3, ints: 7 } as const;

const attributeProto = (name: string, value: Attribute): object => {
  if (typeof value === 'number') return { name, type: attributeType.int, i: value };
  if (typeof value === 'string') return { name, type: attributeType.string, s: Buffer.from(value) };
  if ('float' in value) return { name, type: attributeType.float, f: value.float };
  return { name, type: attributeType.ints, ints: [...value] };
};

/** Which of two computations of a value is written. */
type Choice = (value: Value) => Value;

/** onnxruntime's own operators where they are allowed and no part of the standard computation is needed anyway. */
function choiceOf(values: readonly Value[], fused: boolean): Choice {
  if (!fused) return (value) => value.standard?.value ?? value;
  const needed = new Set(schedule(values, (value) => value).nodes);
  return (value) => (value.standard && needed.has(value.standard.shared.node!) ? value.standard.value : value);
}

/** Nodes that the values depend on, in an order that computes inputs first (depth first: a value is used soon after it is made). */
function schedule(values: readonly Value[], choose: Choice): { nodes: Node[]; leaves: Set<Value> } {
  const nodes: Node[] = [];
  const seen = new Set<Node>();
  const leaves = new Set<Value>();
  for (const value of values.map(choose)) {
    if (!value.node) { leaves.add(value); continue; }
    const stack: { node: Node; next: number }[] = [];
    const enter = (node: Node): void => { if (!seen.has(node)) { seen.add(node); stack.push({ node, next: 0 }); } };
    enter(value.node);
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const given = top.node.inputs[top.next++];
      if (!given) { nodes.push(top.node); stack.pop(); continue; }
      const input = choose(given);
      if (input.node) enter(input.node); else leaves.add(input);
    }
  }
  // Recording order is the order the program was written in, forward before backward: it keeps fewest values alive.
  return { nodes: nodes.sort((a, b) => a.outputs[0]!.id - b.outputs[0]!.id), leaves };
}

const rawData = (data: NonNullable<Value['data']>): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** TensorProto messages of constants, and what goes into the file beside the model where that is asked for. */
export function tensorMessages(constants: readonly Labelled[], program: string, external?: External): { messages: object[]; file?: ExternalConstant[] } {
  const contents = constants.map(({ value }) => rawData(value.data!));
  const total = contents.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const outside = external !== undefined && total > external.above;
  if (!outside && total > largestModel) {
    throw new GenViewError('ProgramTooLarge', `${program}: its weights take ${(total / 1e9).toFixed(1)} GB, an .onnx file alone at most ${(largestModel / 1e9).toFixed(1)}; save() writes them into a file beside it`);
  }
  const file: ExternalConstant[] = [];
  let offset = 0;
  const messages = constants.map(({ label, value: { shape, type } }, i) => {
    const data = contents[i]!, message = { name: label, dims: [...shape], data_type: typeCode[type] };
    if (!outside || data.byteLength < smallest) return { ...message, raw_data: data };
    const entries = { location: external.location, offset: String(offset), length: String(data.byteLength) };
    file.push({ name: label, shape, type, data });
    offset += Math.ceil(data.byteLength / externalAlignment) * externalAlignment;
    return { ...message, data_location: 1, external_data: Object.entries(entries).map(([key, value]) => ({ key, value })) };
  });
  return { messages, ...(outside && { file }) };
}

export interface Labelled { readonly label: string; readonly value: Value }

/** The parts of a GraphProto, and what the nodes read from outside. */
export interface Written {
  readonly nodes: readonly object[];
  readonly constants: readonly Labelled[];
  /** Graph inputs that some output depends on, by their own names. */
  readonly reads: readonly Value[];
  readonly outputs: readonly object[];
  /** Operator domains of the nodes beside ONNX's own. */
  readonly domains: readonly string[];
}

export const valueInfo = (label: string, { shape, type }: Pick<Value, 'shape' | 'type'>): object =>
  ({ name: label, type: { tensor_type: { elem_type: typeCode[type], shape: { dim: shape.map((n) => ({ dim_value: n })) } } } });

export const nodeMessage = ({ op, domain, inputs, outputs, attributes }: WrittenNode): object => ({
  op_type: op,
  ...(domain === undefined ? {} : { domain }),
  name: `${op} ${outputs[0]!}`,
  input: inputs,
  output: outputs,
  attribute: Object.entries(attributes).map(([key, value]) => attributeProto(key, value)),
});

/** Writes the nodes that compute `outputs`. `inputName` names what a graph input is called here. */
export function writeGraph(outputs: Readonly<Record<string, Value>>, { block = 0, fused = false, compact, precision = 'float32' }: EmitOptions, inputName: (value: Value) => string = (value) => value.name!): Written {
  // Half precision is for matrix products, which attention as one operator hides.
  const choose = choiceOf(Object.values(outputs), fused && precision === 'float32'), { nodes, leaves } = schedule(Object.values(outputs), choose);
  const inOrder = (values: Value[]): Value[] => values.sort((a, b) => a.id - b.id);
  const reads = inOrder([...leaves].filter((v) => v.data === undefined)), initializers = inOrder([...leaves].filter((v) => v.data !== undefined));
  const names = new Map<Value, string>();
  for (const leaf of initializers) names.set(leaf, leaf.name ?? `#constant ${leaf.id}`);
  for (const leaf of reads) names.set(leaf, inputName(leaf));
  const copies: WrittenNode[] = [];
  for (const [output, returned] of Object.entries(outputs)) {
    const value = choose(returned);
    // A value has one name: inputs, constants and values returned twice are copied.
    if (names.has(value)) copies.push({ op: 'Identity', inputs: [names.get(value)!], outputs: [output], attributes: {} });
    else names.set(value, output);
  }
  const nameOf = (value: Value): string => names.get(choose(value)) ?? `#${choose(value).id}`;
  const vectors = new Map<string, Value>(), total = initializers.reduce((sum, { data }) => sum + data!.byteLength, 0);
  const naming: Names = {
    of: nameOf,
    ints(values) {
      const label = `#ints ${values.join()}`;
      vectors.set(label, { id: -1, shape: [values.length], type: 'int64', data: BigInt64Array.from(values, BigInt) });
      return label;
    },
    constant(label, shape, data) {
      vectors.set(label, { id: -1, shape, type: 'float32', data });
      return label;
    },
  };
  const written = precision === 'float32' ? writeNodes(nodes, naming, { block, constants: compact ?? total > large }, [...Object.keys(outputs), ...copies.flatMap(({ inputs }) => inputs)]) : writeHalfPrecision(nodes, naming, Object.values(outputs), precision, choose);
  // Blocked filters replace the filters that they were made of.
  const read = new Set([...written, ...copies].flatMap(({ inputs }) => inputs));
  return {
    nodes: [...written, ...copies].map(nodeMessage),
    constants: [...initializers.map((value) => ({ label: nameOf(value), value })), ...[...vectors].map(([label, value]) => ({ label, value }))].filter(({ label }) => read.has(label)),
    reads,
    outputs: Object.entries(outputs).map(([label, value]) => valueInfo(label, value)),
    domains: [...new Set(written.flatMap(({ domain }) => domain ?? []))],
  };
}

export const encodeModel = (graph: object, domains: readonly string[]): Uint8Array => modelType.encode({
  ir_version: irVersion,
  producer_name: 'genview',
  opset_import: [{ domain: '', version: opset }, ...domains.map((domain) => ({ domain, version: 1 }))],
  graph,
}).finish();

/**
 * Writes the graph that computes `outputs` as a model. Nodes that no output depends on are left out.
 * @throws GenViewError `ProgramTooLarge` when its constants do not fit into it
 */
export function emit(name: string, outputs: Readonly<Record<string, Value>>, options: EmitOptions = {}): Model {
  const { nodes, constants, reads, outputs: described, domains } = writeGraph(outputs, options);
  const { messages, file } = tensorMessages(constants, name, options.external);
  const graph = { name, node: nodes, initializer: messages, input: reads.map((v) => valueInfo(v.name!, v)), output: described };
  return { bytes: encodeModel(graph, domains), inputs: reads.map((v) => v.name!), ...(file && { external: file }) };
}

/** The parts of a model that we look at. */
export interface DecodedModel {
  readonly graph: {
    readonly node: readonly { readonly op_type: string; readonly domain: string; readonly input: readonly string[]; readonly output: readonly string[] }[];
    readonly initializer: readonly { readonly name: string; readonly dims: readonly unknown[] }[];
  };
}

export function readModel(bytes: Uint8Array): DecodedModel {
  return modelType.decode(bytes) as unknown as DecodedModel;
}
