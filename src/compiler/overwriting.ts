import type { Node, Value } from './graph.ts';

/** Operators that compute element i of their result from elements i of their operands. */
const elementwise = new Set(['Add', 'Sub', 'Mul', 'Div', 'Where', 'Max', 'Min']);

/**
 * Which inputs of a graph may lie where their successor is written: those that one node reads, and only before the successor is computed, or while it is,
 * element by element. Holds in whatever order an engine runs the nodes.
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
    const shape = (value: Value): string => value.shape.join();
    if (reader === next.node) return elementwise.has(reader.op) && shape(input) === shape(next);
    return dependsOn(next.node, reader);
  }).map(([name]) => name));
}

function dependsOn(node: Node, earlier: Node): boolean {
  const seen = new Set<Node>(), stack = [node];
  while (stack.length > 0) {
    for (const { node: source } of stack.pop()!.inputs) {
      if (source === earlier) return true;
      // What was recorded before it cannot depend on it.
      if (source && !seen.has(source) && source.outputs[0]!.id > earlier.outputs[0]!.id) { seen.add(source); stack.push(source); }
    }
  }
  return false;
}
