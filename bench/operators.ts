import { parseArgs } from 'node:util';
import { emit } from '../src/compiler/emit.ts';
import { Graph, type Value } from '../src/compiler/graph.ts';
import { convolutions } from '../src/compiler/kernels/convolution.ts';
import { cost, largeTiles, winograd, winogradFilterGradient, winogradInputGradient } from '../src/compiler/kernels/winograd.ts';
import type { Recorded } from '../src/compiler/layout.ts';
import type { Log } from '../src/log.ts';
import { channelBlock } from '../src/runtime/channelBlock.ts';
import { loadApi } from '../src/runtime/native/api.ts';
import { NativeSession } from '../src/runtime/native/session.ts';
import { emptyTensor, float32, sizeOf, type NamedTensors } from '../src/tensor.ts';

/** [batch, channels, side]: 3 x 3 convolutions of ResNet-18 on 32 pixels, batch 64, and of ResNet-50 on 224 pixels, batch 8. */
const layers = { 'ResNet-18, 32': [64, 64, 32], 'ResNet-18, 16': [64, 128, 16], 'ResNet-18, 8': [64, 256, 8], 'ResNet-18, 4': [64, 512, 4], 'ResNet-50, 56': [8, 64, 56], 'ResNet-50, 28': [8, 128, 28], 'ResNet-50, 14': [8, 256, 14], 'ResNet-50, 7': [8, 512, 7] } as const;

const imagePerm = [0, 2, 3, 1], filterPerm = [2, 3, 1, 0];

/** The plain form of a kernel's result: what it writes into a model of standard operators. */
const plainForm = (result: Recorded | Recorded[]): Value => {
  const { value } = result as Recorded, inner = value.node?.op === 'Reshape' ? value.node.inputs[0]! : value;
  return inner.standard?.shared ?? value;
};

/** Median seconds of each graph, taking turns. */
async function times(graphs: readonly { graph: Value; feeds: NamedTensors }[], threads: number, rounds: number): Promise<number[]> {
  const api = await loadApi(), block = await channelBlock();
  const sessions = graphs.map(({ graph, feeds }) => {
    const { bytes, inputs } = emit('bench', { result: graph }, { block, fused: true });
    return { session: NativeSession.create(api, bytes, threads), feeds: Object.fromEntries(inputs.map((name) => [name, feeds[name]!])), result: emptyTensor('float32', graph.shape), seconds: [] as number[] };
  });
  for (let round = 0; round < rounds + 2; round++) {
    for (const { session, feeds, result, seconds } of sessions) {
      const start = performance.now();
      await session.run(feeds, { result });
      if (round >= 2) seconds.push((performance.now() - start) / 1000);
    }
  }
  for (const { session } of sessions) await session.dispose();
  return sessions.map(({ seconds }) => seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)]!);
}

const noise = (shape: readonly number[]) => float32(Float32Array.from({ length: sizeOf(shape) }, () => Math.random() - 0.5), shape);
const milliseconds = (seconds: number): string => `${(seconds * 1000).toFixed(2)} ms`;

/** `npm run bench -- operators [--threads 2] [--rounds 7]`: the forms that the compiler chooses between, side by side: convolutions directly and in Winograd's form, and a number beside [O, I, 1, 1]. */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: { threads: { type: 'string', default: '2' }, rounds: { type: 'string', default: '7' } } }), threads = Number(values.threads), rounds = Number(values.rounds);
  console.log('| 3 x 3 convolution, map | output: blocked, Winograd | gradient of the input | gradient of the filter: one product a tap, Winograd | chosen |\n| --- | --- | --- | --- | --- |');
  for (const [label, [n, c, side]] of Object.entries(layers)) {
    log.info(`${label}: ${c} channels`);
    const images = [n, c, side, side], feeds = { x: noise(images), dy: noise(images), filter: noise([c, c, 3, 3]) }, axis = { input: side, output: side, before: 1 }, axes = { rows: axis, columns: axis };
    const g = new Graph(), x = g.input('x', images, 'float32'), dy = g.input('dy', images, 'float32'), filter = g.input('filter', [c, c, 3, 3], 'float32');
    const image = (value: Value) => ({ value, perm: imagePerm }), weights = { value: filter, perm: filterPerm }, attributes = { strides: 1, pad: 'same' as const, dilations: 1, dimRoundingMode: undefined as never, dataFormat: 'NHWC' as const };
    const output = plainForm(convolutions.Conv2D(g, { x: image(x), filter: weights }, attributes));
    const dx = plainForm(convolutions.Conv2DBackpropInput(g, { dy: image(dy), filter: weights }, { ...attributes, inputShape: [n, side, side, c] }));
    const df = plainForm(convolutions.Conv2DBackpropFilter(g, { x: image(x), dy: image(dy) }, { ...attributes, filterShape: [3, 3, c, c] }));
    const [a, b, d, e, f, h] = await times([output, winograd(g, largeTiles, x, filter, axes, output), dx, winogradInputGradient(g, largeTiles, dy, filter, axes, dx), df, winogradFilterGradient(g, largeTiles, x, dy, axes, df)]
      .map((graph) => ({ graph, feeds })), threads, rounds) as [number, number, number, number, number, number];
    const estimate = cost(largeTiles, n, c, c, axes), chosen = (instead: number): string => (estimate.winograd < 0.9 * instead ? 'Winograd' : 'direct');
    console.log(`| ${label} x ${side}, ${c} channels | ${milliseconds(a)}, ${milliseconds(b)} | ${milliseconds(d)}, ${milliseconds(e)} | ${milliseconds(f)}, ${milliseconds(h)} | ${chosen(estimate.direct)}, filter ${chosen(estimate.taps)} |`);
  }
  const shape = [2048, 512, 1, 1], g = new Graph(), x = g.input('x', shape, 'float32'), number = g.input('number', [], 'float32');
  const [slow, fast] = await times([g.node('Mul', [x, number], {}, shape), g.elementwise('Mul', [x, number])].map((graph) => ({ graph, feeds: { x: noise(shape), number: float32([1.5], []) } })), threads, rounds) as [number, number];
  console.log(`\na number times [${shape.join(', ')}]: ${milliseconds(slow)} as a scalar, ${milliseconds(fast)} as [1, 1, 1, 1]`);
}
