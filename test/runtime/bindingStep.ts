/** Three steps of the small step; prints outputs and state as JSON. The environment says which binding of onnxruntime computes them. */
import { compile, createState } from '../../src/runtime/compile.ts';
import type { NamedTensors } from '../../src/tensor.ts';
import { batch, initialState, signature, step } from './smallStep.ts';

const program = await compile(step, signature, { state: createState(initialState()), threads: 1 });
const plain = (tensors: NamedTensors) => Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, [...data]]));
const losses: unknown[] = [];
for (let k = 0; k < 3; k++) losses.push(plain(await program.run(batch(k))));
await program.dispose();
console.log(JSON.stringify({ losses, state: plain(program.state.snapshot()) }));
