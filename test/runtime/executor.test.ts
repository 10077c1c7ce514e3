import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs';
import { afterEach, expect, it, vi } from 'vitest';
import { compile, compileInference } from '../../src/runtime/compile.ts';
import { executorName } from '../../src/runtime/executor.ts';
import { float32 } from '../../src/tensor.ts';

afterEach(() => { vi.unstubAllEnvs(); });

it('is the option, else GENVIEW_EXECUTOR, else onnxruntime', () => {
  expect(executorName(undefined, {})).toBe('onnxruntime');
  expect(executorName(undefined, { GENVIEW_EXECUTOR: '' })).toBe('onnxruntime');
  expect(executorName(undefined, { GENVIEW_EXECUTOR: 'tensorflow' })).toBe('tensorflow');
  expect(executorName('onnxruntime', { GENVIEW_EXECUTOR: 'tensorflow' })).toBe('onnxruntime');
});

it('GENVIEW_EXECUTOR chooses the executor of every program', async () => {
  const x = { x: float32([4, 9], [2]) };
  const root = (inputs: Record<string, tf.Tensor>): Record<string, tf.Tensor> => ({ y: tf.sqrt(inputs['x']!) });
  const programs = () => Promise.all([compile(root, { x: { shape: [2] } }, { threads: 1 }), compileInference(root, { x: { shape: [2] } }, {}, { threads: 1 })]);
  for (const [executor, exported] of [['onnxruntime', true], ['tensorflow', false]] as const) {
    vi.stubEnv('GENVIEW_EXECUTOR', executor);
    for (const program of await programs()) {
      expect([...(await program.run(x))['y']!.data], executor).toEqual([2, 3]);
      if (exported) expect(program.toOnnx().length).toBeGreaterThan(0);
      else expect(() => program.toOnnx()).toThrow(/executor "tensorflow" has no ONNX form/);
      await program.dispose();
    }
  }
});

it('refuses an unknown executor', async () => {
  vi.stubEnv('GENVIEW_EXECUTOR', 'cuda');
  await expect(compile(({ x }) => ({ y: x! }), { x: { shape: [] } })).rejects.toMatchObject({ code: 'ExecutorInvalid', message: 'GENVIEW_EXECUTOR is "cuda"; give onnxruntime or tensorflow' });
});

it('refuses a folder in GENVIEW_TFJS_NODE that holds no engine', async () => {
  vi.resetModules();
  vi.stubEnv('GENVIEW_TFJS_NODE', 'nowhere');
  const fresh = await import('../../src/runtime/compile.ts');
  await expect(fresh.compile(({ x }) => ({ y: x! }), { x: { shape: [] } }, { executor: 'tensorflow' })).rejects.toMatchObject({ code: 'EngineUnavailable', message: expect.stringContaining('GENVIEW_TFJS_NODE is "nowhere"') as string });
});

it('refuses a GPU without the package that uses one', async () => {
  if (installed('@tensorflow/tfjs-node-gpu')) return console.log('skipped: @tensorflow/tfjs-node-gpu is installed');
  vi.resetModules();
  vi.stubEnv('GENVIEW_DEVICE', 'cuda:1');
  vi.stubEnv('CUDA_VISIBLE_DEVICES', '4,5');
  const fresh = await import('../../src/runtime/compile.ts');
  await expect(fresh.compile(({ x }) => ({ y: x! }), { x: { shape: [] } }, { executor: 'tensorflow' })).rejects.toMatchObject({
    code: 'DeviceUnavailable',
    message: 'device cuda:1 cannot be had by executor tensorflow: @tensorflow/tfjs-node-gpu does not load; install it, or choose the device cpu or the executor onnxruntime',
  });
  expect(process.env['CUDA_VISIBLE_DEVICES']).toBe('5');
});

function installed(name: string): boolean {
  try { createRequire(import.meta.url).resolve(name); return true; } catch { return false; }
}
