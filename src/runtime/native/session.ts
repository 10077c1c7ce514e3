import { emptyTensor, type HostTensor, type NamedTensors } from '../../tensor.ts';
import type { Session } from '../onnxruntime.ts';
import { emit, type ExternalConstant } from '../../compiler/emit.ts';
import { Graph, typeCode } from '../../compiler/graph.ts';
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
interface Environment {
  readonly env: Handle;
  readonly memory: Handle;
  shrinker?: { readonly session: NativeSession; readonly options: Handle };
}

const environments = new WeakMap<Api, Environment>();

let kept: unknown;
/** A use of what native code reads, after it has read it. */
const keep = (value: unknown): void => { kept = value; kept = undefined; void kept; };

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
  keep(names);
  api.call('CreateAndRegisterAllocator', env, memory, config);
  api.release('ReleaseArenaCfg', config);
  const made: Environment = { env, memory };
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
  /** What the session reads where it lies, and its handles. */
  readonly #constants: readonly ExternalConstant[];
  readonly #values: readonly Handle[];
  #disposed = false;
  readonly #names = new Map<string, Buffer>();

  private constructor(api: Api, memory: Handle, session: Handle, profiled: boolean, constants: readonly ExternalConstant[], values: readonly Handle[]) {
    this.#api = api; this.#memory = memory; this.#session = session; this.#profiled = profiled; this.#constants = constants; this.#values = values;
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
      const session = api.make('CreateSessionFromArray', env, model, model.byteLength, options);
      keep(names);
      return new NativeSession(api, memory, session, profile !== undefined, constants, values);
    } catch (error) {
      for (const value of values) api.release('ReleaseValue', value);
      throw error;
    } finally {
      api.release('ReleaseSessionOptions', options);
    }
  }

  async run(feeds: NamedTensors, results: NamedTensors): Promise<void> {
    // Between two runs timers, signals and requests get their turn: a run keeps the thread.
    await new Promise((resolve) => { setImmediate(resolve); });
    this.#compute(feeds, results, null);
  }

  #compute(feeds: NamedTensors, results: NamedTensors, options: Handle | null): void {
    if (this.#disposed) throw new Error('the program has been disposed of');
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
      api.call('Run', this.#session, options, inputNames, inputs, inputs.length, outputNames, outputs.length, outputs);
    } finally {
      for (const handle of made) api.release('ReleaseValue', handle);
      keep(kept);
    }
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#profiled) this.#api.make('SessionEndProfiling', this.#session, this.#api.make('GetAllocatorWithDefaultOptions'));
    this.#api.release('ReleaseSession', this.#session);
    for (const value of this.#values) this.#api.release('ReleaseValue', value);
    keep(this.#constants);
    NativeSession.#shrink(this.#api);
  }

  /** Gives the memory that no session holds back to the system: the arena does so at the end of a run that asks for it, here of one that does nothing else. */
  static #shrink(api: Api): void {
    const shared = environment(api);
    if (!shared.shrinker) {
      const graph = new Graph(), x = graph.input('x', [1], 'float32');
      const options = api.make('CreateRunOptions');
      api.call('AddRunConfigEntry', options, 'memory.enable_memory_arena_shrinkage', 'cpu:0');
      shared.shrinker = { session: NativeSession.create(api, emit('nothing', { y: graph.node('Neg', [x], {}, [1]) }).bytes, 1), options };
    }
    shared.shrinker.session.#compute({ x: emptyTensor('float32', [1]) }, { y: emptyTensor('float32', [1]) }, shared.shrinker.options);
  }

  #name(text: string): Buffer {
    let name = this.#names.get(text);
    if (!name) this.#names.set(text, name = Buffer.from(`${text}\0`));
    return name;
  }
}
