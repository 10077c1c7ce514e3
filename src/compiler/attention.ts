import type { Names, WrittenNode } from './blocking.ts';
import type { Node, Value } from './graph.ts';

/** Operator domain of onnxruntime's own operators. */
export const microsoftDomain = 'com.microsoft';

/** Attention as one operator of onnxruntime, which never stores the probabilities; for results whose gradient nobody asks for. */
export function writeFusedAttention({ inputs, outputs, attributes }: Node, names: Names): WrittenNode[] {
  return [{ op: 'MultiHeadAttention', domain: microsoftDomain, inputs: inputs.map((value) => names.of(value)), outputs: [names.of(outputs[0]!)], attributes }];
}

/** The same in standard operators: softmax(scale q k') v for every head. */
export function writeStandardAttention({ inputs, outputs, attributes }: Node, names: Names): WrittenNode[] {
  const [q, k, v] = inputs as [Value, Value, Value], [result, probabilities] = outputs as [Value, Value];
  const heads = attributes['num_heads'] as number, name = names.of(result), written: WrittenNode[] = [];
  const write = (op: string, read: string[], made: string, more: WrittenNode['attributes'] = {}): string => {
    written.push({ op, inputs: read, outputs: [made], attributes: more });
    return made;
  };
  const split = (value: Value, label: string, order: readonly number[], from = names.of(value)): string => {
    const [n, tokens, channels] = value.shape as [number, number, number];
    return write('Transpose', [write('Reshape', [from, names.ints([n, tokens, heads, channels / heads])], `${name}:split ${label}`)], `${name}:heads of ${label}`, { perm: order });
  };
  // Queries are fewer numbers than scores.
  const scaled = (): string => write('Mul', [names.of(q), write('Constant', [], `${name}:scale`, { value_float: attributes['scale']! })], `${name}:scaled q`);
  const queries = split(q, 'q', [0, 2, 1, 3], (attributes['scale'] as { float: number }).float === 1 ? names.of(q) : scaled());
  const scores = write('MatMul', [queries, split(k, 'k', [0, 2, 3, 1])], `${name}:scores`);
  const shares = write('Softmax', [scores], names.of(probabilities), { axis: -1 });
  const mixed = write('MatMul', [shares, split(v, 'v', [0, 2, 1, 3])], `${name}:mixed`);
  write('Reshape', [write('Transpose', [mixed], `${name}:joined`, { perm: [0, 2, 1, 3] }), names.ints(result.shape)], name);
  return written;
}
