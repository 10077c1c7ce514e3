import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emit, readModel } from '../../src/compiler/emit.ts';
import { record } from '../../src/compiler/record.ts';
import { gelu } from '../../src/nn/gelu.ts';
import { sessionOptions } from '../../src/runtime/onnxruntime.ts';

describe('gelu', () => {
  let folder: string;
  beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'genview-')); });
  afterAll(async () => { await rm(folder, { recursive: true }); });

  it('without gradient is one operator of onnxruntime', async () => {
    const { outputs } = record(({ x }) => ({ y: gelu(x!) }), { name: 'test', inputs: { x: { shape: [4, 8] } } });
    const optimized = join(folder, 'optimized.onnx');
    // logSeverityLevel 4: onnxruntime warns that a model optimized for this machine runs there only.
    const session = await ort.InferenceSession.create(emit('test', outputs).bytes, { ...sessionOptions(1), optimizedModelFilePath: optimized, logSeverityLevel: 4 });
    await session.release();
    expect(readModel(await readFile(optimized)).graph.node.map(({ op_type }) => op_type)).toEqual(['Gelu']);
  });
});
