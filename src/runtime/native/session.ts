import type { DataType, HostTensor, NamedTensors } from '../../tensor.ts';
import type { Session } from '../onnxruntime.ts';
import type { Api, Handle } from './api.ts';

/** Entries of a session's configuration (onnxruntime_session_options_config_keys.h). */
export const configuration: Readonly<Record<string, string>> = {
  // Denormals (decaying momentum and moving averages) cost a hundredfold and change nothing.
  'session.set_denormal_as_zero': '1',
  // Idle threads sleep instead of spinning: image decoding and other processes need the cores.
  'session.intra_op.allow_spinning': '0',
};

/** ONNXTensorElementDataType. */
const elementType: Readonly<Record<DataType, number>> = { float32: 1, int32: 6, bool: 9 };
const graphOptimizationAll = 99, errorsOnly = 3, arenaAllocator = 1, defaultMemory = 0;

/** What all sessions of a process share. */
interface Environment { readonly env: Handle; readonly memory: Handle }

const environments = new WeakMap<Api, Environment>();

/**
 * The environment with one arena for the main memory of all sessions, which grows by what is asked for. (The default doubles with each growth: a
 * training step then holds up to twice the memory that it uses.)
 */
function environment(api: Api): Environment {
  const known = environments.get(api);
  if (known) return known;
  const env = api.make('CreateEnv', errorsOnly, 'genview'), memory = api.make('CreateCpuMemoryInfo', arenaAllocator, defaultMemory);
  // 1: by what is asked for. A piece that was found too large is split from 1 MiB on.
  const settings = { arena_extend_strategy: 1n, max_dead_bytes_per_chunk: 1n << 20n };
  const names = Object.keys(settings).map((name) => Buffer.from(`${name}\0`));
  const config = api.make('CreateArenaCfgV2', BigUint64Array.from(names, (name) => api.addressOf(name)), BigUint64Array.from(Object.values(settings)), names.length);
  api.call('CreateAndRegisterAllocator', env, memory, config);
  api.release('ReleaseArenaCfg', config);
  const made = { env, memory };
  environments.set(api, made);
  return made;
}

/** A model loaded through the C API. Inputs are read and outputs are written where they lie: nothing is copied. */
export class NativeSession implements Session {
  readonly #api: Api;
  readonly #memory: Handle;
  readonly #session: Handle;
  readonly #profiled: boolean;
  readonly #names = new Map<string, Buffer>();

  private constructor(api: Api, memory: Handle, session: Handle, profiled: boolean) {
    this.#api = api; this.#memory = memory; this.#session = session; this.#profiled = profiled;
  }

  /**
   * @param model a model, or the path of one with external data beside it
   * @param profile beginning of the name of a file for onnxruntime's own profile
   */
  static create(api: Api, model: Uint8Array | string, threads: number, profile?: string): NativeSession {
    const { env, memory } = environment(api), options = api.make('CreateSessionOptions');
    try {
      api.call('SetSessionLogSeverityLevel', options, errorsOnly);
      api.call('SetSessionGraphOptimizationLevel', options, graphOptimizationAll);
      api.call('SetIntraOpNumThreads', options, threads);
      api.call('SetInterOpNumThreads', options, 1);
      // A pattern is one more block as large as all that the first run needed, beside it.
      api.call('DisableMemPattern', options);
      if (profile !== undefined) api.call('EnableProfiling', options, profile);
      const entries = { ...configuration, 'session.use_env_allocators': '1' };
      for (const [key, value] of Object.entries(entries)) api.call('AddSessionConfigEntry', options, key, value);
      const session = typeof model === 'string' ? api.make('CreateSession', env, model, options) : api.make('CreateSessionFromArray', env, model, model.byteLength, options);
      return new NativeSession(api, memory, session, profile !== undefined);
    } finally {
      api.release('ReleaseSessionOptions', options);
    }
  }

  async run(feeds: NamedTensors, results: NamedTensors): Promise<void> {
    const api = this.#api, made: Handle[] = [], kept: unknown[] = [];
    const value = ({ dtype, shape, data }: HostTensor): Handle => {
      const contents = data.length === 0 ? new Uint8Array(8) : data, dimensions = BigInt64Array.from(shape, BigInt);
      kept.push(contents);
      made.push(api.make('CreateTensorWithDataAsOrtValue', this.#memory, contents, data.byteLength, dimensions, shape.length, elementType[dtype]));
      return made.at(-1)!;
    };
    const names = (tensors: NamedTensors): BigUint64Array => BigUint64Array.from(Object.keys(tensors), (name) => api.addressOf(this.#name(name)));
    try {
      const inputNames = names(feeds), outputNames = names(results);
      const inputs = BigUint64Array.from(Object.values(feeds), value), outputs = BigUint64Array.from(Object.values(results), value);
      api.call('Run', this.#session, null, inputNames, inputs, inputs.length, outputNames, outputs.length, outputs);
    } finally {
      for (const handle of made) api.release('ReleaseValue', handle);
    }
  }

  async dispose(): Promise<void> {
    if (this.#profiled) this.#api.make('SessionEndProfiling', this.#session, this.#api.make('GetAllocatorWithDefaultOptions'));
    this.#api.release('ReleaseSession', this.#session);
  }

  #name(text: string): Buffer {
    let name = this.#names.get(text);
    if (!name) this.#names.set(text, name = Buffer.from(`${text}\0`));
    return name;
  }
}
