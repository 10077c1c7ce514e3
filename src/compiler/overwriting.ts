import type { Node, Value } from './graph.ts';

/** Operators that compute element i of their result from elements i of their operands. */
const elementwise = new Set(['Add', 'Sub', 'Mul', 'Div', 'Where', 'Max', 'Min']);

/**
 * Which inputs of a graph may lie where their successor is written: those that one node reads, and only as element i for element i of the successor: the node is
 * element-wise and is the successor's, or is read by the successor's, which is element-wise too. So it holds in whatever order an engine runs the nodes, and
 * when it runs the two as one.
 * @param outputs all outputs of the graph
 * @param pairs inputs and the outputs that replace them
 */
export function overwritable(outputs: readonly Value[], pairs: Readonly<Record<string, { readonly input: Value; readonly next: Value }>>): Set<string> {
  const readers = new Map<Value, Node[]>(), seen = new Set<Node>();
  const stack = outputs.flatMap((value) => [value, ...(value.standard ? [value.standard.value] : [])]);
  while (stack.length > 0) {
    const { node } = stack.pop()!;
    if (!node || seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) {
      const known = readers.get(input);
      if (known) known.push(node); else readers.set(input, [node]);
      stack.push(input, ...(input.standard ? [input.standard.value] : []));
    }
  }
  const returned = new Map<Value, number>();
  for (const value of outputs) returned.set(value, (returned.get(value) ?? 0) + 1);
  return new Set(Object.entries(pairs).filter(([, { input, next }]) => {
    const [reader, ...others] = readers.get(input) ?? [];
    // One that is returned twice is copied from one place to the other.
    if (!reader || others.length > 0 || !next.node || returned.get(next) !== 1 || returned.has(input)) return false;
    const alike = (value: Value): boolean => value.shape.join() === next.shape.join();
    if (!elementwise.has(reader.op) || !elementwise.has(next.node.op) || !alike(input)) return false;
    return reader === next.node || (alike(reader.outputs[0]!) && next.node.inputs.includes(reader.outputs[0]!));
  }).map(([name]) => name));
}
