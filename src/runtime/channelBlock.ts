import './telemetry.ts';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { sessionOptions } from './onnxruntime.ts';
import { blockedDomain } from '../compiler/blocking.ts';
import { emit, readModel } from '../compiler/emit.ts';
import { Graph } from '../compiler/graph.ts';

let found: Promise<number> | undefined;

/**
 * Channels in a block of onnxruntime's blocked convolutions on this machine (16 with AVX-512, 8 with AVX2), 0 where it has none.
 * Asked of onnxruntime itself, once a process: it blocks a convolution with one output channel, and the model it then
 * writes has as many filters as a block has channels.
 */
export function channelBlock(): Promise<number> {
  found ??= probe();
  return found;
}

async function probe(): Promise<number> {
  const graph = new Graph(), channels = 64;
  const image = graph.input('image', [1, channels, 4, 4], 'float32');
  const filter = graph.weight('filter', [1, channels, 1, 1], 'float32', Float32Array.from({ length: channels }, (_, i) => i));
  const result = graph.node('Conv', [image, filter], { kernel_shape: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0, 0, 0], group: 1 }, [1, 1, 4, 4]);
  const folder = await mkdtemp(join(tmpdir(), 'genview-'));
  try {
    const file = join(folder, 'optimized.onnx');
    const session = await ort.InferenceSession.create(emit('probe', { result }).bytes, { ...sessionOptions(1), optimizedModelFilePath: file });
    await session.release();
    const model = readModel(await readFile(file));
    const blocked = model.graph.node.find(({ op_type, domain }) => op_type === 'Conv' && domain === blockedDomain);
    return blocked ? Number(model.graph.initializer.find(({ name }) => name === blocked.input[1])!.dims[0]) : 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
