import { writeNodes, type Names, type WrittenNode } from './blocking.ts';
import { typeCode, type Node, type Value } from './graph.ts';

/**
 * In what matrix products and convolutions are computed. With a half type the rest (statistics, losses, updates) stays float32, and so
 * does everything that is kept: weights are rounded where they are used.
 */
export type Precision = 'float32' | 'float16' | 'bfloat16';
export type HalfPrecision = Exclude<Precision, 'float32'>;

/** TensorProto.DataType */
const halfCode: Readonly<Record<HalfPrecision, number>> = { float16: 10, bfloat16: 16 };

/** What is computed in half precision. ONNX has no bfloat16 convolution before operator set 22. */
const products: Readonly<Record<HalfPrecision, ReadonlySet<string>>> = {
  float16: new Set(['MatMul', 'Gemm', 'Conv', 'ConvTranspose']),
  bfloat16: new Set(['MatMul', 'Gemm']),
};

const moving = ['Reshape', 'Transpose', 'Slice', 'Concat', 'Expand', 'Gather', 'Identity', 'Relu', 'Neg'] as const;

/**
 * What gives the same in half precision as rounding its result: done there when only products read it, with half the traffic.
 * onnxruntime pads bfloat16 on the CPU only.
 */
const exact: Readonly<Record<HalfPrecision, ReadonlySet<string>>> = { float16: new Set([...moving, 'Pad']), bfloat16: new Set(moving) };

const isHalfable = (node: Node, ops: ReadonlySet<string>): boolean =>
  ops.has(node.op) && node.outputs.length === 1 && node.outputs[0]!.type === 'float32';

/**
 * Writes nodes with their products in half precision and casts around them. A value that several products read is rounded once;
 * a product that only products read is not widened in between.
 * @param nodes in an order that computes inputs first
 * @param outputs values that the graph returns, which stay float32
 * @param choose which of two computations of a value is written
 */
export function writeHalfPrecision(nodes: readonly Node[], names: Names, outputs: readonly Value[], precision: HalfPrecision, choose: (value: Value) => Value): WrittenNode[] {
  const readers = new Map<Value, Node[]>(), returned = new Set(outputs.map(choose));
  for (const node of nodes) for (const value of node.inputs.map(choose)) readers.set(value, [...(readers.get(value) ?? []), node]);
  const half = new Set<Node>();
  const isReadAsFloat = (value: Value): boolean => returned.has(value) || readers.get(value)!.some((reader) => !half.has(reader));
  for (const node of nodes.toReversed()) {
    if (isHalfable(node, products[precision]) || (isHalfable(node, exact[precision]) && !isReadAsFloat(node.outputs[0]!))) half.add(node);
  }

  const written: WrittenNode[] = [], rounded = new Set<string>();
  const nameOfHalf = (value: Value): string => `${names.of(value)}:half`;
  const cast = (from: string, to: string, type: number): void => { written.push({ op: 'Cast', inputs: [from], outputs: [to], attributes: { to: type } }); };
  const asHalf = (value: Value): string => {
    const name = nameOfHalf(value);
    if (!(value.node && half.has(value.node)) && !rounded.has(name)) {
      rounded.add(name);
      cast(names.of(value), name, halfCode[precision]);
    }
    return name;
  };
  for (const node of nodes) {
    const { op, attributes } = node;
    if (!half.has(node)) {
      written.push(...writeNodes([node], names, { block: 0 }));
      continue;
    }
    const output = node.outputs[0]!;
    const inputs = node.inputs.map(choose).map((value) => (value.type === 'float32' ? asHalf(value) : names.of(value)));
    written.push({ op, inputs, outputs: [nameOfHalf(output)], attributes });
    if (isReadAsFloat(output)) cast(nameOfHalf(output), names.of(output), typeCode.float32);
  }
  return written;
}
