import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { totalmem } from 'node:os';
import { promisify } from 'node:util';
import { executorName } from '../runtime/executor.ts';
import { currentDevice, describeEngine, gpuIndex, parseDevice } from '../runtime/device.ts';

/** What a program runs on, for the first line of its log. */
export interface Health {
  /** As a sentence. */
  readonly text: string;
  readonly executor: string;
  /** `cpu` or `cuda:<n>`; `auto` where the executor itself chooses. */
  readonly device: string;
  /** Name, driver and memory of the GPU, as nvidia-smi says. */
  readonly gpu?: string;
  readonly versions: Readonly<Record<'genview' | 'node' | 'onnxruntime', string>>;
  /** Of this process: its container's limit, else the machine's. */
  readonly memoryGiB: number;
  readonly threads: number;
}

/** @throws GenViewError as `describeEngine` does, where the engine that was asked for cannot be had */
export async function health(threads: number, env: NodeJS.ProcessEnv = process.env): Promise<Health> {
  const engine = await describeEngine(env);
  const executor = executorName(undefined, env);
  const device = executor === 'onnxruntime' ? (await currentDevice(undefined, env)).device : parseDevice(env['GENVIEW_DEVICE']) ?? 'auto';
  const gpu = device === 'auto' ? undefined : await describeGpu(gpuIndex(device));
  const versions = { genview: versionOf(new URL('../../package.json', import.meta.url)), node: process.versions.node, onnxruntime: versionOf('onnxruntime-node') };
  const memoryGiB = Math.round(memoryLimit() / 2 ** 30 * 10) / 10;
  const text = `genview ${versions.genview}, node ${versions.node}, onnxruntime ${versions.onnxruntime}, ${threads} threads, ${memoryGiB.toFixed(1)} GiB of memory; ${engine}${gpu === undefined ? '' : ` (${gpu})`}`;
  return { text, executor, device, ...(gpu !== undefined && { gpu }), versions, memoryGiB, threads };
}

/** Bytes that this process may use. */
function memoryLimit(): number {
  // Without a limit, control groups name a number beyond any machine's memory, or nothing.
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

function versionOf(where: URL | string): string {
  try {
    const file = typeof where === 'string' ? createRequire(import.meta.url).resolve(`${where}/package.json`) : where;
    return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  } catch {
    return 'unknown';
  }
}

async function describeGpu(index: number | undefined): Promise<string | undefined> {
  if (index === undefined) return undefined;
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', [`--id=${index}`, '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'], { timeout: 5000 });
    const [name, driver, memory] = stdout.trim().split(', ');
    return `${name}, driver ${driver}, ${memory}`;
  } catch {
    return undefined;
  }
}
