import type * as tf from '@tensorflow/tfjs';
import { GenViewError } from '../errors.ts';
import { emptyTensor, type DataOf, type DataType, type HostTensor, type NamedTensors } from '../tensor.ts';
import type { State, TensorSpec } from './program.ts';

interface Slot {
  readonly shape: readonly number[];
  readonly dtype: DataType;
  /** The current value in main memory; absent while only the device has it. */
  host?: HostTensor | undefined;
  /** Memory for the next value, where that may not be written over the current one. */
  spare?: DataOf[DataType] | undefined;
  /** The current value on the device of a tensorflow program. */
  device?: tf.Tensor | undefined;
}

/** State in main memory and, between runs of a tensorflow program, on its device. Its arrays belong to it: what it is given and what it gives away are copies. */
export class MemoryState implements State {
  readonly #slots = new Map<string, Slot>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(tensors: NamedTensors) {
    for (const [name, { shape, dtype, data }] of Object.entries(tensors)) {
      this.#slots.set(name, { shape: [...shape], dtype, host: { shape: [...shape], dtype, data: data.slice() as DataOf[DataType] } });
    }
  }

  #slot(name: string): Slot {
    const slot = this.#slots.get(name);
    if (!slot) throw new GenViewError('StateMismatch', `state has no tensor "${name}"; it holds ${this.#slots.size === 0 ? 'nothing' : [...this.#slots.keys()].slice(0, 5).join(', ')}`);
    return slot;
  }

  names(): string[] { return [...this.#slots.keys()]; }

  spec(name: string): TensorSpec {
    const { shape, dtype } = this.#slot(name);
    return { shape, dtype };
  }

  get(name: string): HostTensor {
    const { shape, dtype, data } = this.#read(this.#slot(name));
    return { shape: [...shape], dtype, data: data.slice() as DataOf[DataType] };
  }

  /** The current value itself, which the next run may write over. */
  current(name: string): HostTensor { return this.#read(this.#slot(name)); }

  /** Where the next value may be written: not where the current one lies. */
  spare(name: string): HostTensor {
    const slot = this.#slot(name), { shape, dtype } = slot;
    slot.spare ??= emptyTensor(dtype, shape).data;
    return { shape, dtype, data: slot.spare };
  }

  set(name: string, value: HostTensor): void {
    const slot = this.#slot(name);
    if (value.dtype !== slot.dtype || value.shape.join() !== slot.shape.join() || value.data.length !== slot.shape.reduce((a, b) => a * b, 1)) {
      throw new GenViewError('StateMismatch', `state "${name}" is ${slot.dtype}[${slot.shape.join(', ')}], cannot become ${value.dtype}[${value.shape.join(', ')}]`);
    }
    slot.device?.dispose();
    slot.device = undefined;
    slot.host = { shape: slot.shape, dtype: slot.dtype, data: value.data.slice() as DataOf[DataType] };
  }

  snapshot(): NamedTensors {
    return Object.fromEntries(this.names().map((name) => [name, this.get(name)]));
  }

  restore(tensors: NamedTensors): void {
    const missing = this.names().filter((name) => !(name in tensors)), unknown = Object.keys(tensors).filter((name) => !this.#slots.has(name));
    if (missing.length > 0 || unknown.length > 0) {
      const say = (what: string, names: string[]): string => (names.length > 0 ? `${what} ${names.slice(0, 3).map((n) => `"${n}"`).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}` : '');
      throw new GenViewError('StateMismatch', `tensors do not fit the state: ${[say('missing', missing), say('unknown', unknown)].filter(Boolean).join('; ')}`);
    }
    for (const [name, tensor] of Object.entries(tensors)) {
      const slot = this.#slot(name);
      if (tensor.dtype !== slot.dtype || tensor.shape.join() !== slot.shape.join()) {
        throw new GenViewError('StateMismatch', `state "${name}" is ${slot.dtype}[${slot.shape.join(', ')}], the tensor to restore is ${tensor.dtype}[${tensor.shape.join(', ')}]`);
      }
    }
    for (const [name, tensor] of Object.entries(tensors)) this.set(name, tensor);
  }

  /** Runs `body` when every earlier one has ended: programs that share a state take turns. */
  async exclusive<T>(body: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(body);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  #read(slot: Slot): HostTensor {
    slot.host ??= { shape: slot.shape, dtype: slot.dtype, data: slot.device!.dataSync().slice() as DataOf[DataType] };
    return slot.host;
  }

  /** Makes `data`, which is the spare or the current array, the current value. */
  commit(name: string, data: DataOf[DataType]): void {
    const slot = this.#slot(name);
    slot.device?.dispose();
    slot.device = undefined;
    if (slot.spare === data) slot.spare = slot.host?.data;
    slot.host = { shape: slot.shape, dtype: slot.dtype, data };
  }

  /** The current value as a tensor kept on the device of the selected tf.js backend. */
  onDevice(name: string, upload: (value: HostTensor) => tf.Tensor): tf.Tensor {
    const slot = this.#slot(name);
    slot.device ??= upload(slot.host!);
    return slot.device;
  }

  /** Makes a kept device tensor the current value; it is read back when somebody asks for it. */
  commitDevice(name: string, tensor: tf.Tensor): void {
    const slot = this.#slot(name);
    slot.device?.dispose();
    slot.device = tensor;
    slot.host = undefined;
  }

  /** Brings everything back to main memory and frees the device. */
  releaseDevice(): void {
    for (const slot of this.#slots.values()) {
      this.#read(slot);
      slot.device?.dispose();
      slot.device = undefined;
    }
  }
}

/** A state holding copies of the given tensors. */
export function createState(tensors: NamedTensors): State {
  return new MemoryState(tensors);
}
