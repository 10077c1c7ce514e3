import protobuf from 'protobufjs';
import { writeNodes } from './blocking.ts';
import { typeCode, type Attribute, type Node, type Value } from './graph.ts';
import { onnxProto } from './onnxProto.ts';

/** Operator set our nodes are written for, and the IR version that goes with it (onnx/docs/Versioning.md). */
const opset = 18, irVersion = 8;

const modelType = protobuf.parse(onnxProto, { keepCase: true }).root.lookupType('onnx.ModelProto');

/** An ONNX model and the names of what it really reads. */
export interface Model {
  readonly bytes: Uint8Array;
  /** Names of the graph inputs that some output depends on. */
  readonly inputs: readonly string[];
}

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

/**
 * Writes the graph that computes `outputs` as a self-contained model. Nodes that no output depends on are left out.
 * @param block channel block of this machine's onnxruntime, for faster convolutions with filters that are computed or given; such a
 *   model runs there only. @default 0, a model of standard operators
 * @param fused whether onnxruntime's own operators may be used (attention); such a model runs in onnxruntime only. @default false
 */
export function emit(name: string, outputs: Readonly<Record<string, Value>>, block = 0, fused = false): Model {
  const choose = choiceOf(Object.values(outputs), fused), { nodes, leaves } = schedule(Object.values(outputs), choose);
  const inputs = [...leaves].filter((v) => v.data === undefined).sort((a, b) => a.id - b.id);
  const initializers = [...leaves].filter((v) => v.data !== undefined).sort((a, b) => a.id - b.id);
  const names = new Map<Value, string>();
  for (const leaf of leaves) names.set(leaf, leaf.name ?? `constant_${leaf.id}`);
  const copies: object[] = [];
  for (const [output, returned] of Object.entries(outputs)) {
    const value = choose(returned);
    // A value has one name: inputs, constants and values returned twice are copied.
    if (names.has(value)) copies.push({ op_type: 'Identity', name: `copy ${output}`, input: [names.get(value)!], output: [output] });
    else names.set(value, output);
  }
  const nameOf = (value: Value): string => names.get(choose(value)) ?? `_${choose(value).id}`;
  const vectors = new Map<string, readonly number[]>();
  const written = writeNodes(nodes, {
    of: nameOf,
    ints(values) {
      const label = `ints_${values.join('_')}`;
      vectors.set(label, values);
      return label;
    },
  }, block);
  const domains = new Set(written.flatMap(({ domain }) => domain ?? []));
  const valueInfo = (label: string, { shape, type }: Value): object =>
    ({ name: label, type: { tensor_type: { elem_type: typeCode[type], shape: { dim: shape.map((n) => ({ dim_value: n })) } } } });
  const rawData = (data: NonNullable<Value['data']>): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const message = {
    ir_version: irVersion,
    producer_name: 'genview',
    opset_import: [{ domain: '', version: opset }, ...[...domains].map((domain) => ({ domain, version: 1 }))],
    graph: {
      name,
      node: [
        ...written.map(({ op, domain, inputs: read, outputs: made, attributes }) => ({
          op_type: op,
          ...(domain === undefined ? {} : { domain }),
          name: `${op} ${made[0]!}`,
          input: read,
          output: made,
          attribute: Object.entries(attributes).map(([key, value]) => attributeProto(key, value)),
        })),
        ...copies,
      ],
      initializer: [
        ...initializers.map((v) => ({ name: nameOf(v), dims: [...v.shape], data_type: typeCode[v.type], raw_data: rawData(v.data!) })),
        ...[...vectors].map(([label, values]) => ({ name: label, dims: [values.length], data_type: typeCode.int64, raw_data: rawData(BigInt64Array.from(values, BigInt)) })),
      ],
      input: inputs.map((v) => valueInfo(nameOf(v), v)),
      output: Object.entries(outputs).map(([label, value]) => valueInfo(label, value)),
    },
  };
  return { bytes: modelType.encode(message).finish(), inputs: inputs.map((v) => v.name!) };
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
