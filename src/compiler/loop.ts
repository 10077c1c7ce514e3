import { encodeModel, nodeMessage, tensorMessages, valueInfo, writeGraph, type EmitOptions, type Model } from './emit.ts';
import type { Value } from './graph.ts';

/** A step that is repeated inside one graph. */
export interface LoopedStep {
  readonly steps: number;
  /** What each step is given; the model reads the values of all steps, stacked along a new first axis. */
  readonly inputs: Readonly<Record<string, Value>>;
  /** What each step returns; the model returns the values of all steps, stacked. */
  readonly outputs: Readonly<Record<string, Value>>;
  /** What a step hands on to the next, by the name under which the model returns the last of it; `first` is an input of the model. */
  readonly carried: Readonly<Record<string, { readonly first: Value; readonly next: Value }>>;
}

/** AttributeProto.AttributeType.GRAPH */
const graphType = 5;

/** Names inside the body must differ from those around it. */
const inside = (name: string): string => `${name}:step`;

/**
 * Writes a model that takes all steps in one ONNX `Loop`: what is carried stays where the engine computes, so that on a GPU weights
 * cross to main memory once for all steps. What the step reads and does not carry (frozen weights) is taken from outside the body.
 * Its constants are always in the model.
 */
export function emitLoop(name: string, { steps, inputs, outputs, carried }: LoopedStep, options: EmitOptions = {}): Model {
  const stacked = new Set(Object.values(inputs)), changes = Object.entries(carried);
  const replaced = new Set([...stacked, ...changes.map(([, { first }]) => first)]);
  const results = {
    ...Object.fromEntries(changes.map(([label, { next }]) => [inside(label), next])),
    ...Object.fromEntries(Object.entries(outputs).map(([label, value]) => [inside(label), value])),
  };
  const written = writeGraph(results, options, (value) => (replaced.has(value) ? inside(value.name!) : value.name!));
  const number = { shape: [], type: 'int64' } as const, flag = { shape: [], type: 'bool' } as const;
  const body = {
    name: inside(name),
    node: [
      nodeMessage({ op: 'Identity', inputs: ['loop:condition'], outputs: ['loop:go on'], attributes: {} }),
      ...written.reads.filter((value) => stacked.has(value)).map(({ name: label }) =>
        nodeMessage({ op: 'Gather', inputs: [label!, 'loop:number'], outputs: [inside(label!)], attributes: { axis: 0 } })),
      ...written.nodes,
    ],
    initializer: tensorMessages(written.constants, name).messages,
    input: [valueInfo('loop:number', number), valueInfo('loop:condition', flag), ...changes.map(([, { first }]) => valueInfo(inside(first.name!), first))],
    output: [valueInfo('loop:go on', flag), ...written.outputs],
  };
  const stack = (value: Value): Pick<Value, 'shape' | 'type'> => ({ shape: [steps, ...value.shape], type: value.type });
  const reads = [...new Set([...written.reads, ...changes.map(([, { first }]) => first)])];
  const graph = {
    name,
    node: [{
      op_type: 'Loop', name: `Loop ${name}`,
      // Without a condition: as many times as there are steps.
      input: ['loop:steps', '', ...changes.map(([, { first }]) => first.name!)],
      output: [...Object.keys(carried), ...Object.keys(outputs)],
      attribute: [{ name: 'body', type: graphType, g: body }],
    }],
    initializer: tensorMessages([{ label: 'loop:steps', value: { id: -1, ...number, data: BigInt64Array.of(BigInt(steps)) } }], name).messages,
    input: reads.map((value) => valueInfo(value.name!, stacked.has(value) ? stack(value) : value)),
    output: [...changes.map(([label, { next }]) => valueInfo(label, next)), ...Object.entries(outputs).map(([label, value]) => valueInfo(label, stack(value)))],
  };
  return { bytes: encodeModel(graph, written.domains), inputs: reads.map((value) => value.name!) };
}
