import type { HostTensor, NamedTensors } from '../../tensor.ts';
import type { Session } from '../onnxruntime.ts';
import type { ExternalConstant } from '../../compiler/emit.ts';
import { typeCode } from '../../compiler/graph.ts';
import type { Api, Handle } from './api.ts';

/** Entries of a session's configuration (onnxruntime_session_options_config_keys.h). */
export const configuration: Readonly<Record<string, string>> = {
  // Denormals (decaying momentum and moving averages) cost a hundredfold and change nothing.
  'session.set_denormal_as_zero': '1',
  // Idle threads sleep instead of spinning: image decoding and other processes need the cores.
  'session.intra_op.allow_spinning': '0',
};

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

interface NativeOptions {
  readonly profile?: string | undefined;
  readonly constants?: readonly ExternalConstant[] | undefined;
  readonly folder?: string | undefined;
}

/** A model loaded through the C API. Inputs are read and outputs are written where they lie: nothing is copied. */
export class NativeSession implements Session {
  readonly #api: Api;
  readonly #memory: Handle;
  readonly #session: Handle;
  readonly #profiled: boolean;
  /** What the session reads where it lies. */
  readonly #constants: readonly ExternalConstant[];
  readonly #names = new Map<string, Buffer>();

  private constructor(api: Api, memory: Handle, session: Handle, profiled: boolean, constants: readonly ExternalConstant[]) {
    this.#api = api; this.#memory = memory; this.#session = session; this.#profiled = profiled; this.#constants = constants;
  }

  /**
   * @param options.profile beginning of the name of a file for onnxruntime's own profile
   * @param options.constants those that are not in the model, which have to stay as they are
   * @param options.folder where a file holds the constants too: they are then not copied (onnxruntime reads of the file what it needs while it optimizes), else once
   */
  static create(api: Api, model: Uint8Array, threads: number, { profile, constants = [], folder }: NativeOptions = {}): NativeSession {
    const { env, memory } = environment(api), options = api.make('CreateSessionOptions'), values: Handle[] = [];
    try {
      api.call('SetSessionLogSeverityLevel', options, errorsOnly);
      api.call('SetSessionGraphOptimizationLevel', options, graphOptimizationAll);
      api.call('SetIntraOpNumThreads', options, threads);
      api.call('SetInterOpNumThreads', options, 1);
      // A pattern is one more block as large as all that the first run needed, beside it.
      api.call('DisableMemPattern', options);
      if (profile !== undefined) api.call('EnableProfiling', options, profile);
      // Without the packed form of weights beside the weights, products take a few per cent longer.
      const compact = folder !== undefined;
      const entries = { ...configuration, 'session.use_env_allocators': '1', ...(compact && { 'session.disable_prepacking': '1' }) };
      for (const [key, value] of Object.entries(entries)) api.call('AddSessionConfigEntry', options, key, value);
      const names = constants.map(({ name }) => Buffer.from(`${name}\0`));
      for (const { data, shape, type } of constants) {
        values.push(api.make('CreateTensorWithDataAsOrtValue', memory, data, data.byteLength, BigInt64Array.from(shape, BigInt), shape.length, typeCode[type]));
      }
      if (folder !== undefined) {
        api.call('AddSessionConfigEntry', options, 'session.model_external_initializers_file_folder_path', folder);
        for (const [i, { name }] of constants.entries()) api.call('AddInitializer', options, name, values[i]!);
      } else if (names.length > 0) api.call('AddExternalInitializers', options, BigUint64Array.from(names, (name) => api.addressOf(name)), BigUint64Array.from(values), names.length);
      return new NativeSession(api, memory, api.make('CreateSessionFromArray', env, model, model.byteLength, options), profile !== undefined, constants);
    } finally {
      for (const value of values) api.release('ReleaseValue', value);
      api.release('ReleaseSessionOptions', options);
    }
  }

  async run(feeds: NamedTensors, results: NamedTensors): Promise<void> {
    const api = this.#api, made: Handle[] = [], kept: unknown[] = [];
    const value = ({ dtype, shape, data }: HostTensor): Handle => {
      const contents = data.length === 0 ? new Uint8Array(8) : data, dimensions = BigInt64Array.from(shape, BigInt);
      kept.push(contents);
      made.push(api.make('CreateTensorWithDataAsOrtValue', this.#memory, contents, data.byteLength, dimensions, shape.length, typeCode[dtype]));
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
    void this.#constants;
  }

  #name(text: string): Buffer {
    let name = this.#names.get(text);
    if (!name) this.#names.set(text, name = Buffer.from(`${text}\0`));
    return name;
  }
}
