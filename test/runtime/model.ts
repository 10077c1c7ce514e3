import protobuf from 'protobufjs';
import { onnxProto } from '../../src/compiler/onnxProto.ts';

interface NodeMessage { op_type: string; name: string; input: string[]; output: string[]; attribute: { name: string; i?: unknown; ints?: unknown[]; g?: ModelMessage['graph'] }[] }
export interface ModelMessage {
  graph: { node: NodeMessage[]; initializer: { name: string; dims: unknown[]; data_location: number; external_data: { key: string; value: string }[] }[]; input: { name: string }[]; output: { name: string }[] };
}

/** An .onnx file as an object. */
export function decodeModel(bytes: Uint8Array): ModelMessage {
  const type = protobuf.parse(onnxProto, { keepCase: true }).root.lookupType('onnx.ModelProto');
  return type.toObject(type.decode(bytes), { longs: Number, defaults: true, arrays: true }) as ModelMessage;
}

/** How often each operator occurs. */
export function countOperators(bytes: Uint8Array): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op_type } of decodeModel(bytes).graph.node) counts[op_type] = (counts[op_type] ?? 0) + 1;
  return counts;
}

/** Axis orders of the Transpose nodes. */
export function transposes(bytes: Uint8Array): number[][] {
  return decodeModel(bytes).graph.node.filter((n) => n.op_type === 'Transpose').map((n) => n.attribute[0]!.ints as number[]);
}
