import { sizeOf, type DataOf, type DataType, type HostTensor, type NamedTensors } from '../tensor.ts';
import { checkInputs } from './inputs.ts';
import type { Program, TensorSpec } from './program.ts';

/** The inputs of `steps` steps, stacked along a new first axis. */
export function stackedInputs(inputs: Readonly<Record<string, TensorSpec>>, steps: number): Record<string, TensorSpec> {
  return Object.fromEntries(Object.entries(inputs).map(([name, { shape, dtype }]) => [name, { shape: [steps, ...shape], ...(dtype && { dtype }) }]));
}

/** Tensors of several steps as one of each name, [steps, ...]. Throws a RangeError when names or shapes differ. */
export function stack(steps: readonly NamedTensors[]): NamedTensors {
  const first = steps[0] ?? {};
  return Object.fromEntries(Object.entries(first).map(([name, { shape, dtype, data }]) => {
    const all = new (data.constructor as new (length: number) => DataOf[DataType])(steps.length * data.length);
    steps.forEach((step, k) => {
      const tensor = step[name];
      if (!tensor || tensor.dtype !== dtype || tensor.shape.join() !== shape.join()) throw new RangeError(`"${name}" of step ${k} is not like that of step 0`);
      all.set(tensor.data, k * data.length);
    });
    return [name, { shape: [steps.length, ...shape], dtype, data: all } as HostTensor];
  }));
}

/** Step `k` of stacked tensors, without copying. */
function stepOf(stacked: NamedTensors, k: number): NamedTensors {
  return Object.fromEntries(Object.entries(stacked).map(([name, { shape, dtype, data }]) => {
    const size = sizeOf(shape.slice(1));
    return [name, { shape: shape.slice(1), dtype, data: data.subarray(k * size, (k + 1) * size) } as HostTensor];
  }));
}

/** `steps` runs of a program as one, with stacked inputs and outputs: what `compileLoop` makes of an eager program, which is on the device anyway. */
export function repeated(program: Program, name: string, steps: number): Program {
  const inputs = stackedInputs(program.inputs, steps);
  return {
    inputs,
    state: program.state,
    async run(given) {
      checkInputs(name, inputs, given);
      const results: NamedTensors[] = [];
      for (let k = 0; k < steps; k++) results.push(await program.run(stepOf(given, k)));
      return stack(results);
    },
    toOnnx: () => program.toOnnx(),
    save: (file, options) => program.save(file, options),
    dispose: () => program.dispose(),
  };
}
