import '../telemetry.ts';
import path from 'node:path';
import type { TypeObject } from 'koffi';
import { libraryFolder } from '../device.ts';

type Callable = (...args: readonly unknown[]) => unknown;

/** An address in the library: an OrtEnv, OrtSession, OrtValue, … */
export type Handle = bigint;

/**
 * The functions of onnxruntime's C API that we call: their place in the table `OrtApi` (onnxruntime_c_api.h; the table only grows at its end, so places
 * never change) and their parameters after koffi's fashion. Every one of them returns an OrtStatus, null on success.
 */
const functions = {
  CreateEnv: [3, 'int level, const char* id, void* out'],
  CreateSessionFromArray: [8, 'void* env, void* model, size_t length, void* options, void* out'],
  Run: [9, 'void* session, void* options, void* inputNames, void* inputs, size_t inputCount, void* outputNames, size_t outputCount, void* outputs'],
  CreateSessionOptions: [10, 'void* out'],
  EnableProfiling: [14, 'void* options, const char* prefix'],
  DisableMemPattern: [17, 'void* options'],
  SetSessionLogSeverityLevel: [22, 'void* options, int level'],
  SetSessionGraphOptimizationLevel: [23, 'void* options, int level'],
  SetIntraOpNumThreads: [24, 'void* options, int threads'],
  SetInterOpNumThreads: [25, 'void* options, int threads'],
  CreateRunOptions: [39, 'void* out'],
  CreateTensorWithDataAsOrtValue: [49, 'void* memory, void* data, size_t bytes, void* shape, size_t rank, int type, void* out'],
  CreateCpuMemoryInfo: [69, 'int allocator, int memory, void* out'],
  GetAllocatorWithDefaultOptions: [78, 'void* out'],
  SessionEndProfiling: [110, 'void* session, void* allocator, void* out'],
  AddSessionConfigEntry: [130, 'void* options, const char* key, const char* value'],
  CreateAndRegisterAllocator: [144, 'void* env, void* memory, void* config'],
  CreateArenaCfgV2: [164, 'void* keys, void* values, size_t count, void* out'],
  AddInitializer: [150, 'void* options, const char* name, void* value'],
  AddRunConfigEntry: [165, 'void* options, const char* key, const char* value'],
  AddExternalInitializers: [210, 'void* options, void* names, void* values, size_t count'],
} as const satisfies Record<string, readonly [number, string]>;

const releases = { ReleaseStatus: 93, ReleaseMemoryInfo: 94, ReleaseSession: 95, ReleaseValue: 96, ReleaseSessionOptions: 100, ReleaseArenaCfg: 157 } as const;

type Argument = Handle | number | string | ArrayBufferView | null;

/** onnxruntime's C API. A status that is no success is thrown as an Error with onnxruntime's own message. */
export interface Api {
  call(name: keyof typeof functions, ...args: readonly Argument[]): void;
  /** As `call`, for functions whose last parameter receives a pointer, which is returned. */
  make(name: keyof typeof functions, ...args: readonly Argument[]): Handle;
  release(name: keyof typeof releases, handle: Handle): void;
  /** Address of an array's first byte. Arrays of Node lie outside V8's heap and do not move; whoever hands the address on keeps the array. */
  addressOf(array: ArrayBufferView): Handle;
}

/** The library beside onnxruntime-node's own binding (its dist/binding.js). */
export function libraryFile(): string {
  const names: Partial<Record<NodeJS.Platform, string>> = { linux: 'libonnxruntime.so.1', darwin: 'libonnxruntime.1.dylib' };
  const name = names[process.platform];
  // On Windows, paths have another type.
  if (name === undefined) throw new Error(`the C API is not called on ${process.platform}`);
  return path.join(libraryFolder(), name);
}

/** `void* env, int level` -> `['void*', 'int']` */
const parameterTypes = (parameters: string): string[] => parameters.split(', ').map((parameter) => parameter.slice(0, parameter.lastIndexOf(' ')));

/** Version of the API that is asked for: that of onnxruntime 1.22, far behind ours, with every function above. */
const apiVersion = 22;

/** Libraries that functions were taken from: koffi closes one that nothing holds. */
const held: unknown[] = [];

/** Loads the library. @throws when koffi has no binary for this platform, or onnxruntime has none */
export async function loadApi(): Promise<Api> {
  const { default: koffi } = await import('koffi');
  const library = koffi.load(libraryFile());
  held.push(library);
  const callable = (address: unknown, type: TypeObject): Callable => koffi.decode(address, type) as Callable;
  const [getApi] = koffi.decode(library.func('void* OrtGetApiBase()')(), koffi.array('void*', 2)) as [Handle];
  const table: unknown = callable(getApi, koffi.proto('void*', ['uint32_t']))(apiVersion);
  if (table === null) throw new Error(`onnxruntime is older than API version ${apiVersion}`);
  const last = Math.max(...Object.values(functions).map(([place]) => place), ...Object.values(releases));
  const addresses = koffi.decode(table, koffi.array('void*', last + 1)) as Handle[];
  const bound = new Map<string, Callable>();
  for (const [name, [place, parameters]] of Object.entries(functions)) bound.set(name, callable(addresses[place], koffi.proto('void*', parameterTypes(parameters))));
  for (const [name, place] of Object.entries(releases)) bound.set(name, callable(addresses[place], koffi.proto('void', ['void*'])));
  const message = callable(addresses[2], koffi.proto('const char*', ['void*']));

  const call: Api['call'] = (name, ...args) => {
    const status: unknown = bound.get(name)!(...args);
    if (status === null) return;
    const text = message(status) as string;
    bound.get('ReleaseStatus')!(status);
    throw new Error(text);
  };
  return {
    call,
    make(name, ...args) {
      const out = new BigUint64Array(1);
      call(name, ...args, out);
      return out[0]!;
    },
    release(name, handle) { bound.get(name)!(handle); },
    addressOf: (array) => koffi.address(array) as Handle,
  };
}
