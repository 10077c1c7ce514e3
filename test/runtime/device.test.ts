import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { compile } from '../../src/runtime/compile.ts';
import { chooseDevice, cudaFailure, currentDevice, describeEngine, gpuIndex, missingLibraries, needs, parseDevice, type Machine } from '../../src/runtime/device.ts';
import { sessionOptions } from '../../src/runtime/onnxruntime.ts';

afterEach(() => { vi.unstubAllEnvs(); });

const machine = (gpus: number, missing?: string): Machine => ({
  gpus, cudaProblem: async () => Promise.resolve(missing === undefined ? undefined : { what: `onnxruntime's CUDA library needs ${missing}`, remedy: 'install cuDNN 9' }),
});

describe('a device', () => {
  it('is written cpu, cuda or cuda:<n>; anything else is refused by name', () => {
    expect(['cpu', 'cuda', 'cuda:0', 'cuda:7', '', 'auto', undefined].map((text) => parseDevice(text))).toEqual(['cpu', 'cuda:0', 'cuda:0', 'cuda:7', undefined, undefined, undefined]);
    for (const text of ['gpu', 'cuda:', 'cuda:-1', 'cuda:x', 'CPU']) {
      expect(() => parseDevice(text)).toThrow(expect.objectContaining({ code: 'DeviceInvalid', message: `GENVIEW_DEVICE is "${text}"; give cpu, cuda or cuda:<n>` }) as Error);
    }
    expect([gpuIndex('cpu'), gpuIndex('cuda:3')]).toEqual([undefined, 3]);
  });

  it('is the first GPU where one can be used, else the CPU, and says why', async () => {
    expect(await chooseDevice(undefined, machine(2))).toEqual({ device: 'cuda:0', reason: 'an NVIDIA GPU is visible' });
    expect(await chooseDevice(undefined, machine(0))).toEqual({ device: 'cpu', reason: 'no NVIDIA GPU is visible' });
    expect(await chooseDevice(undefined, machine(1, 'libcudnn.so.9'))).toEqual({ device: 'cpu', reason: "onnxruntime's CUDA library needs libcudnn.so.9; install cuDNN 9" });
    expect(await chooseDevice('cpu', machine(2))).toEqual({ device: 'cpu', reason: 'as asked' });
    expect(await chooseDevice('cuda:1', machine(2))).toEqual({ device: 'cuda:1', reason: 'as asked' });
  });

  it('that was asked for and cannot be had is one line: what is missing, and what to do', async () => {
    const refusal = (asked: 'cuda:0' | 'cuda:2', given: Machine): Promise<unknown> => chooseDevice(asked, given).catch((error: unknown) => error);
    expect(await refusal('cuda:0', machine(0))).toMatchObject({ code: 'DeviceUnavailable', exitCode: 2, message: 'device cuda:0 cannot be had: no NVIDIA GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or choose the device cpu' });
    expect(await refusal('cuda:2', machine(2))).toMatchObject({ message: 'device cuda:2 cannot be had: there are 2 GPUs; choose cuda:0 to cuda:1, or choose the device cpu' });
    expect(await refusal('cuda:0', machine(1, 'libcudnn.so.9'))).toMatchObject({ message: "device cuda:0 cannot be had: onnxruntime's CUDA library needs libcudnn.so.9; install cuDNN 9, or choose the device cpu" });
  });
});

it('GENVIEW_DEVICE chooses the device of every program; a hidden GPU is not visible', async () => {
  vi.stubEnv('CUDA_VISIBLE_DEVICES', '-1');
  vi.stubEnv('GENVIEW_DEVICE', 'cuda:5');
  const program = (): Promise<unknown> => compile(({ x }) => ({ y: tf.neg(x!) }), { x: { shape: [2] } }, { threads: 1 });
  await expect(program()).rejects.toMatchObject({ code: 'DeviceUnavailable', message: expect.stringMatching(/^device cuda:5 cannot be had: no NVIDIA GPU is visible; [^\n]*$/) as string });
  await expect(currentDevice('cuda:6')).rejects.toMatchObject({ code: 'DeviceUnavailable' });
  vi.stubEnv('GENVIEW_DEVICE', 'cpu');
  expect(await describeEngine()).toBe('executor onnxruntime, device cpu: as asked');
  expect(await describeEngine({ GENVIEW_EXECUTOR: 'tensorflow' })).toBe("executor tensorflow, device of TensorFlow's choice");
  await expect(describeEngine({ GENVIEW_EXECUTOR: 'tensorflow', GENVIEW_DEVICE: 'cuda' })).rejects.toMatchObject({ message: 'device cuda:0 cannot be had: no NVIDIA GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or choose the device cpu' });
  await expect(program()).resolves.toBeDefined();
});

it('missing libraries are named as the loader names them', async () => {
  const packageFile = createRequire(import.meta.url).resolve('onnxruntime-node/package.json');
  const binding = path.join(path.dirname(packageFile), 'bin', 'napi-v6', process.platform, process.arch, 'onnxruntime_binding.node');
  if (process.platform !== 'linux') return console.log('skipped: libraries are looked for on Linux only');
  expect(await missingLibraries(binding)).toEqual([]);
  // Away from its folder it does not find the library beside it.
  const folder = mkdtempSync(path.join(tmpdir(), 'genview-device-'));
  try {
    copyFileSync(binding, path.join(folder, 'binding.node'));
    expect(await missingLibraries(path.join(folder, 'binding.node'))).toEqual(['libonnxruntime.so.1']);
  } finally { rmSync(folder, { recursive: true }); }
});

it('the driver\'s library is told from those of CUDA, and what CUDA says from where onnxruntime says it', () => {
  expect(needs(['libcuda.so.1'])).toMatchObject({ what: "onnxruntime's CUDA library needs libcuda.so.1", remedy: expect.stringMatching(/^it belongs to NVIDIA's driver: /) as string });
  expect(needs(['libcublas.so.13', 'libcuda.so.1'])).toMatchObject({ what: "onnxruntime's CUDA library needs libcublas.so.13, libcuda.so.1", remedy: expect.stringMatching(/^install the CUDA version /) as string });
  const message = '/src/cuda_call.cc:154 std::conditional_t<THRW, void> CudaCall(int) [with THRW = true] CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=a ; file=/src/provider.cc ; line=352';
  expect(cudaFailure(message)).toBe('CUDA failure 100: no CUDA-capable device is detected');
  expect(cudaFailure('Failed to load library\nwith more')).toBe('Failed to load library');
});

it('a GPU gets its number, the CPU as a second choice, and memory of their own size for weights', () => {
  expect(sessionOptions(2, 'cuda:3')).toMatchObject({
    executionProviders: [{ name: 'cuda', deviceId: 3 }, 'cpu'], executionMode: 'sequential', extra: { 'session.use_device_allocator_for_initializers': '1' },
  });
  expect(sessionOptions(2)).toMatchObject({ executionProviders: ['cpu'], intraOpNumThreads: 2 });
  expect(JSON.stringify(sessionOptions(2))).not.toContain('use_device_allocator');
});
