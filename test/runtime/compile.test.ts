import * as tf from '@tensorflow/tfjs';
import * as ort from 'onnxruntime-node';
import { afterEach, describe, expect, it } from 'vitest';
import { Random } from '../../src/random.ts';
import { compile, compileInference, createState } from '../../src/runtime/compile.ts';
import type { Program, StepFunction } from '../../src/runtime/program.ts';
import { float32, int32, scalar, type HostTensor, type NamedTensors } from '../../src/tensor.ts';
import { expectClose, normal, reference } from '../compiler/agreement.ts';
import { countOperators, decodeModel, transposes } from './model.ts';

const programs: Program[] = [];
const kept = async (program: Promise<Program>): Promise<Program> => { const p = await program; programs.push(p); return p; };
afterEach(async () => { await Promise.all(programs.splice(0).map((p) => p.dispose())); });

const conv = (x: tf.Tensor, w: tf.Tensor, stride = 1): tf.Tensor => tf.conv2d(x as tf.Tensor4D, tf.transpose(w, [2, 3, 1, 0]) as tf.Tensor4D, stride, [[0, 0], [1, 1], [1, 1], [0, 0]]);

/** A small residual network with batch statistics; filters [O, I, h, w], linear layer [out, in]. */
function network(x: tf.Tensor, w: Record<string, tf.Tensor>): tf.Tensor {
  const first = conv(x, w['conv1']!);
  const { mean, variance } = tf.moments(first, [0, 1, 2]);
  let y = tf.relu(tf.add(tf.mul(tf.mul(tf.sub(first, mean), tf.rsqrt(tf.add(variance, 1e-5))), w['scale']!), w['shift']!));
  y = tf.maxPool(y as tf.Tensor4D, 3, 2, 'same');
  y = tf.relu(conv(y, w['conv2']!, 2));
  y = tf.relu(tf.add(conv(y, w['conv3']!), y));
  return tf.matMul(tf.mean(y, [1, 2]) as tf.Tensor2D, w['linear']! as tf.Tensor2D, false, true);
}

const parameterNames = ['conv1', 'scale', 'shift', 'conv2', 'conv3', 'linear'];

function parameters(): NamedTensors {
  return {
    conv1: normal([6, 3, 3, 3], 0.3), scale: float32([1, 0.9, 1.1, 1, 1, 0.8], [6]), shift: normal([6], 0.1),
    conv2: normal([8, 6, 3, 3], 0.2), conv3: normal([8, 8, 3, 3], 0.2), linear: normal([5, 8], 0.3),
  };
}

function trainingState(): NamedTensors {
  const weights = parameters();
  return {
    ...weights,
    ...Object.fromEntries(Object.entries(weights).map(([k, v]) => [`ema/${k}`, { ...v, data: v.data.slice() } as HostTensor])),
    queue: normal([12, 5]),
  };
}

/** Contrast against a queue, gradient descent, moving average of the weights, and the queue advanced by one batch. */
const step: StepFunction = (inputs, state) => {
  const weights = Object.fromEntries(parameterNames.map((k) => [k, state[k]!]));
  const average = Object.fromEntries(parameterNames.map((k) => [k, state[`ema/${k}`]!]));
  const unit = (x: tf.Tensor): tf.Tensor => tf.div(x, tf.norm(x, 'euclidean', 1, true));
  const keys = unit(network(inputs['b']!, average));
  const loss = (): tf.Scalar => {
    const queries = unit(network(inputs['a']!, weights));
    const positive = tf.sum(tf.mul(queries, keys), 1, true);
    const logits = tf.div(tf.concat([positive, tf.matMul(queries as tf.Tensor2D, state['queue']! as tf.Tensor2D, false, true)], 1), 0.2);
    return tf.neg(tf.mean(tf.slice(tf.logSoftmax(logits), [0, 0], [-1, 1])));
  };
  const { value, grads } = tf.variableGrads(loss, Object.values(weights));
  for (const k of parameterNames) {
    state[k]!.assign(tf.sub(state[k]!, tf.mul(grads[k]!, inputs['rate']!)));
    state[`ema/${k}`]!.assign(tf.add(tf.mul(state[`ema/${k}`]!, 0.9), tf.mul(state[k]!, 0.1)));
  }
  state['queue']!.assign(tf.concat([keys, tf.slice(state['queue']!, [0, 0], [8, 5])], 0));
  return { loss: value, keys };
};

const signature = { a: { shape: [4, 11, 10, 3] }, b: { shape: [4, 11, 10, 3] }, rate: { shape: [] } };
const batch = (): NamedTensors => ({ a: normal([4, 11, 10, 3]), b: normal([4, 11, 10, 3]), rate: scalar(0.1) });

describe('a compiled training step', () => {
  it('equals tf.js over 5 steps: loss, weights, moving average and queue', async () => {
    const initial = trainingState();
    const program = await kept(compile(step, signature, { state: createState(initial), name: 'train' }));
    let expected = initial;
    for (let k = 0; k < 5; k++) {
      const inputs = batch();
      const { loss, keys } = await program.run(inputs);
      const results = reference((given) => {
        const variables = Object.fromEntries(Object.keys(expected).map((name) => [name, tf.variable(given[`state/${name}`]!, true, name)]));
        const outputs = step(given, { ...variables });
        const next = Object.fromEntries(Object.entries(variables).map(([name, v]) => [`state/${name}`, v.clone()]));
        for (const v of Object.values(variables)) v.dispose();
        return { ...outputs, ...next };
      }, { ...inputs, ...Object.fromEntries(Object.entries(expected).map(([name, v]) => [`state/${name}`, v])) });
      expectClose(loss!, results['loss']!, 1e-4, `loss of step ${k}`);
      expectClose(keys!, results['keys']!, 1e-4, `keys of step ${k}`);
      expected = Object.fromEntries(Object.keys(expected).map((name) => [name, results[`state/${name}`]!]));
    }
    for (const [name, value] of Object.entries(expected)) expectClose(program.state.get(name), value, 1e-4, name);
  });

  it('gives the same bytes every time, on two threads', async () => {
    const initial = trainingState();
    const inputs = [batch(), batch(), batch()];
    const runs = await Promise.all([0, 1].map(async () => {
      const program = await kept(compile(step, signature, { state: createState(initial), threads: 2 }));
      const losses: number[] = [];
      for (const given of inputs) losses.push((await program.run(given))['loss']!.data[0]!);
      return { losses, state: program.state.snapshot() };
    }));
    expect(runs[1]).toEqual(runs[0]);
  });

  it('agrees with the tensorflow executor', async () => {
    const initial = trainingState();
    const compiled = await kept(compile(step, signature, { state: createState(initial) }));
    const eager = await kept(compile(step, signature, { state: createState(initial), executor: 'tensorflow' }));
    const before = tf.memory().numTensors;
    for (let k = 0; k < 3; k++) {
      const inputs = batch();
      expectClose((await compiled.run(inputs))['loss']!, (await eager.run(inputs))['loss']!, 1e-4, 'loss');
    }
    for (const name of compiled.state.names()) expectClose(compiled.state.get(name), eager.state.get(name), 1e-4, name);
    // Only the state stays on the device.
    expect(tf.memory().numTensors).toBe(before + eager.state.names().length);
    await eager.dispose();
    expect(tf.memory().numTensors).toBe(before);
    expectClose(eager.state.get('conv1'), compiled.state.get('conv1'), 1e-4, 'conv1 after dispose');
  });

  it('moves no filter between layouts', async () => {
    const forward = await kept(compile(({ x }, state) => ({ y: network(x!, state) }), { x: { shape: [2, 12, 12, 3] } }, { state: createState(parameters()) }));
    // The image arrives as NHWC: the only transpose there is.
    expect(transposes(forward.toOnnx())).toEqual([[0, 3, 1, 2]]);
    const train = await kept(compile(step, signature, { state: createState(trainingState()) }));
    for (const perm of transposes(train.toOnnx())) expect([[2, 3, 1, 0], [3, 2, 0, 1]]).not.toContainEqual(perm);
  });

  it('leaves no tensor behind in tf.js and restores the backend', async () => {
    const before = tf.memory().numTensors, backend = tf.getBackend();
    await kept(compile(step, signature, { state: createState(trainingState()) }));
    await expect(compile(({ x }) => { tf.add(x!, 1).dataSync(); return { x: x! }; }, { x: { shape: [2] } })).rejects.toThrow();
    expect(tf.memory().numTensors).toBe(before);
    expect(tf.getBackend()).toBe(backend);
  });

  it('needs no more memory after 500 steps', async () => {
    const state = createState({ w: normal([256, 256]), m: normal([256, 256]) });
    const program = await kept(compile(({ x }, s) => {
      const { value, grads } = tf.variableGrads(() => tf.mean(tf.square(tf.matMul(x as tf.Tensor2D, s['w']! as tf.Tensor2D))), [s['w']!]);
      s['m']!.assign(tf.add(tf.mul(s['m']!, 0.9), grads['w']!));
      s['w']!.assign(tf.sub(s['w']!, tf.mul(s['m']!, 0.01)));
      return { loss: value };
    }, { x: { shape: [16, 256] } }, { state, threads: 1 }));
    const x = normal([16, 256]);
    for (let k = 0; k < 100; k++) await program.run({ x });
    const before = process.memoryUsage(), tensors = tf.memory().numTensors;
    for (let k = 0; k < 500; k++) await program.run({ x });
    const after = process.memoryUsage();
    expect(tf.memory().numTensors).toBe(tensors);
    // 500 steps make 262 MB of new state; what is not collected yet stays far below.
    expect(after.rss - before.rss).toBeLessThan(130e6);
  });
});

describe('state', () => {
  it('is shared by programs: one writes gradients, another applies them', async () => {
    const state = createState({ w: float32([1, 2], [2]), g: float32([0, 0], [2]), unused: float32([7], [1]) });
    const gradient = await kept(compile(({ x }, s) => {
      const { value, grads } = tf.variableGrads(() => tf.sum(tf.square(tf.mul(x!, s['w']!))), [s['w']!]);
      s['g']!.assign(grads['w']!);
      return { loss: value };
    }, { x: { shape: [2] } }, { state }));
    const update = await kept(compile((_inputs, s) => {
      s['w']!.assign(tf.sub(s['w']!, tf.mul(s['g']!, 0.1)));
      return {};
    }, {}, { state }));
    const { loss } = await gradient.run({ x: float32([1, 2], [2]) });
    expect(loss!.data[0]).toBe(17);
    expect([...state.get('g').data]).toEqual([2, 16]);
    await update.run({});
    expect(state.get('w').data[0]).toBeCloseTo(0.8, 6);
    expect(state.get('w').data[1]).toBeCloseTo(0.4, 6);
    // Only what a program reads is an input of its graph, only what it assigns an output.
    expect(decodeModel(gradient.toOnnx()).graph.input.map((i) => i.name).sort()).toEqual(['state/w', 'x']);
    expect(decodeModel(gradient.toOnnx()).graph.output.map((o) => o.name).sort()).toEqual(['loss', 'state/g:next']);
  });

  it('takes turns when runs overlap', async () => {
    const program = await kept(compile((_i, s) => { s['n']!.assign(tf.add(s['n']!, 1)); return { n: s['n']! }; }, {}, { state: createState({ n: scalar(0) }) }));
    const results = await Promise.all(Array.from({ length: 20 }, () => program.run({})));
    expect(results.map((r) => r['n']!.data[0])).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  });

  it('exchanges variables, assigns inputs and constants', async () => {
    const program = await kept(compile(({ x }, s) => {
      const a = s['a']!.clone();
      s['a']!.assign(s['b']!);
      s['b']!.assign(a);
      s['c']!.assign(x!);
      s['d']!.assign(tf.tensor1d([5, 6]));
      return { x: x!, twice: x!, c: s['c']! };
    }, { x: { shape: [2] } }, { state: createState({ a: float32([1], [1]), b: float32([2], [1]), c: float32([0, 0], [2]), d: float32([0, 0], [2]) }) }));
    const results = await program.run({ x: float32([3, 4], [2]) });
    expect([...results['x']!.data]).toEqual([3, 4]);
    expect([...results['twice']!.data]).toEqual([3, 4]);
    expect(['a', 'b', 'c', 'd'].map((n) => [...program.state.get(n).data])).toEqual([[2], [1], [3, 4], [5, 6]]);
  });

  it('a tensor that was handed out keeps its values', async () => {
    const program = await kept(compile((_i, s) => { s['n']!.assign(tf.add(s['n']!, 1)); return {}; }, {}, { state: createState({ n: float32([0, 0], [2]) }) }));
    const seen: HostTensor[] = [];
    for (let k = 0; k < 5; k++) { seen.push(program.state.get('n')); await program.run({}); }
    expect(seen.map((t) => t.data[0])).toEqual([0, 1, 2, 3, 4]);
  });

  it('snapshots and restores; refuses other names, shapes and types', async () => {
    const state = createState({ w: float32([1, 2], [2]), i: int32([3], [1]) });
    const saved = state.snapshot();
    state.set('w', float32([5, 6], [2]));
    expect([...saved['w']!.data]).toEqual([1, 2]);
    state.restore(saved);
    expect([...state.get('w').data]).toEqual([1, 2]);
    expect(() => state.restore({ w: float32([1, 2], [2]) })).toThrow(/missing "i"/);
    expect(() => state.restore({ ...saved, z: scalar(1) })).toThrow(/unknown "z"/);
    expect(() => state.restore({ ...saved, w: float32([1], [1]) })).toThrow(/"w" is float32\[2\], the tensor to restore is float32\[1\]/);
    expect(() => state.set('i', float32([1], [1]))).toThrow(/"i" is int32\[1\]/);
    expect(() => state.get('nothing')).toThrow(/no tensor "nothing"/);
  });
});

describe('inference with fixed weights', () => {
  it('gives what the program with weights as state gives', async () => {
    const weights = parameters(), x = normal([2, 12, 12, 3]);
    const fixed = await kept(compileInference(({ x: image }, w) => ({ y: network(image!, w) }), { x: { shape: [2, 12, 12, 3] } }, weights));
    const variable = await kept(compile(({ x: image }, s) => ({ y: network(image!, s) }), { x: { shape: [2, 12, 12, 3] } }, { state: createState(weights) }));
    const eager = await kept(compileInference(({ x: image }, w) => ({ y: network(image!, w) }), { x: { shape: [2, 12, 12, 3] } }, weights, { executor: 'tensorflow' }));
    const y = (await variable.run({ x }))['y']!;
    expectClose((await fixed.run({ x }))['y']!, y, 1e-5, 'y');
    expectClose((await eager.run({ x }))['y']!, y, 1e-5, 'y');
    expect(decodeModel(fixed.toOnnx()).graph.initializer.map((i) => i.name)).toEqual(expect.arrayContaining(Object.keys(weights)));
  });

  it('batch normalization with constant statistics is one node', async () => {
    const channel = (): HostTensor => float32(new Random('bn').normals(4).map((v) => Math.abs(v) + 0.5), [4]);
    const weights = { w: normal([4, 3, 3, 3]), mean: channel(), variance: channel(), scale: channel(), shift: normal([4]) };
    const fn = (x: tf.Tensor, w: Record<string, tf.Tensor>): tf.Tensor =>
      tf.relu(tf.batchNorm(conv(x, w['w']!) as tf.Tensor4D, w['mean'] as tf.Tensor1D, w['variance'] as tf.Tensor1D, w['shift'] as tf.Tensor1D, w['scale'] as tf.Tensor1D, 1e-5));
    const program = await kept(compileInference(({ x }, w) => ({ y: fn(x!, w) }), { x: { shape: [1, 6, 6, 3] } }, weights));
    expect(countOperators(program.toOnnx())).toEqual({ Transpose: 2, Conv: 1, BatchNormalization: 1, Relu: 1 });
    const x = normal([1, 6, 6, 3]);
    const expected = reference((given) => ({ y: fn(given['x']!, given) }), { ...weights, x });
    expectClose((await program.run({ x }))['y']!, expected['y']!, 1e-5, 'y');
  });
});

describe('the graph', () => {
  it('is a self-contained .onnx file', async () => {
    const program = await kept(compile(({ x }, s) => ({ y: tf.add(tf.mul(x!, s['w']!), tf.tensor1d([1, 2])) }), { x: { shape: [2] } }, { state: createState({ w: float32([3, 4], [2]) }) }));
    const session = await ort.InferenceSession.create(program.toOnnx());
    const { y } = await session.run({ x: new ort.Tensor('float32', Float32Array.of(1, 1), [2]), 'state/w': new ort.Tensor('float32', Float32Array.of(5, 6), [2]) });
    expect([...(y!.data as Float32Array)]).toEqual([6, 8]);
    await session.release();
  });

  it('holds every computation once and nothing that is not used', async () => {
    const program = await kept(compile(({ x }) => {
      tf.exp(x!);
      const twice = tf.add(tf.sin(x!), tf.sin(x!));
      return { y: tf.mul(tf.add(tf.mul(twice, 1), 0), tf.ones([3])) };
    }, { x: { shape: [3] }, idle: { shape: [2] } }));
    expect(countOperators(program.toOnnx())).toEqual({ Sin: 1, Add: 1 });
    const { y } = await program.run({ x: float32([1, 2, 3], [3]), idle: float32([0, 0], [2]) });
    expect(y!.data[0]).toBeCloseTo(2 * Math.sin(1), 6);
  });

  it('keeps the layout of convolutions through normalization, activation, pooling and residual sums', async () => {
    const program = await kept(compile(({ x }, s) => {
      const y = conv(x!, s['w']!);
      const m = tf.moments(y, [0, 1, 2]);
      const z = tf.relu(tf.div(tf.sub(y, m.mean), tf.sqrt(m.variance)));
      const pooled = tf.avgPool(tf.add(z, y) as tf.Tensor4D, 2, 2, 'same');
      return { pooled: tf.mean(tf.concat([pooled, tf.image.resizeBilinear(pooled as tf.Tensor4D, [4, 4])], 3), [1, 2]) };
    }, { x: { shape: [2, 8, 8, 3] } }, { state: createState({ w: normal([4, 3, 3, 3]) }) }));
    expect(transposes(program.toOnnx())).toEqual([[0, 3, 1, 2]]);
  });

  it('accepts an output named like a weight', async () => {
    const program = await kept(compileInference(({ x }, { w }) => ({ w: tf.mul(x!, w!) }), { x: { shape: [2] } }, { w: float32([2, 3], [2]) }));
    expect([...(await program.run({ x: float32([1, 10], [2]) }))['w']!.data]).toEqual([2, 30]);
  });

  it('accepts an output named like an input', async () => {
    const program = await kept(compile(({ x }) => ({ x: tf.add(x!, 1) }), { x: { shape: [1] } }));
    expect([...(await program.run({ x: float32([1], [1]) }))['x']!.data]).toEqual([2]);
  });
});

describe('mistakes are named', () => {
  const compileOne = (fn: (x: tf.Tensor) => tf.Tensor) => compile(({ x }) => ({ y: fn(x!) }), { x: { shape: [2, 3] } }, { name: 'probe' });

  it('operations without a kernel', async () => {
    await expect(compileOne((x) => tf.multinomial(x as tf.Tensor2D, 4, 1, true))).rejects.toThrow('probe: the operation Multinomial(float32[2, 3]) cannot be compiled; use random numbers passed as an input');
    await expect(compileOne((x) => tf.avgPool3d(tf.reshape(x, [1, 1, 2, 3, 1]) as tf.Tensor5D, 1, 1, 'valid'))).rejects.toThrow('the operation AvgPool3D(float32[1, 1, 2, 3, 1]) cannot be compiled; use tf.avgPool over two axes');
    await expect(compileOne((x) => tf.unique(x).values)).rejects.toThrow(/the operation Unique\(float32\[2, 3\]\) cannot be compiled; use .* sizes of a program are fixed/);
    await expect(compileOne((x) => tf.gather(tf.reshape(x, [1, 2, 3]), tf.zeros([1, 2], 'int32'), 2, 1))).rejects.toThrow(/GatherV2\(x: float32\[1, 2, 3\], indices: int32\[1, 2\]\)/);
  });

  it('types that graphs do not have', async () => {
    await expect(compileOne((x) => tf.add(x, tf.cast(tf.tensor1d(['a']), 'float32')))).rejects.toThrow(/string\[1\].*use float32, int32 or bool/);
    await expect(compileOne((x) => tf.add(x, tf.tensor([['a', 'b', 'c']])))).rejects.toThrow('probe: a tensor string[1, 3] cannot be compiled; use float32, int32 or bool');
    await expect(compileOne((x) => tf.spectral.rfft(x))).rejects.toThrow(/probe: the operation (Complex|FFT)\(.*two real tensors/);
    await expect(compileOne((x) => tf.cast(x, 'complex64'))).rejects.toThrow('probe: Cast(x: float32[2, 3]): type complex64 is not supported; use float32, int32 or bool');
    await expect(compileOne((x) => tf.real(tf.complex(x, x)))).rejects.toThrow(/Complex\(.*two real tensors/);
  });

  it('data formats, windows and gradients that do not exist', async () => {
    const image = (x: tf.Tensor): tf.Tensor4D => tf.reshape(x, [1, 2, 3, 1]);
    await expect(compileOne((x) => tf.conv2d(image(x), tf.ones([1, 1, 2, 1]), 1, 'same', 'NCHW'))).rejects.toThrow('probe: Conv2D(x: float32[1, 2, 3, 1], filter: float32[1, 1, 2, 1]): data format NCHW is not supported; use NHWC');
    await expect(compileOne((x) => tf.depthToSpace(tf.reshape(tf.slice(x, [0, 0], [2, 2]), [1, 4, 1, 1]), 2, 'NCHW'))).rejects.toThrow('data format NCHW is not supported; use NHWC');
    await expect(compileOne((x) => tf.maxPool(image(x), 1, 1, 1, 'floor'))).rejects.toThrow('MaxPool(x: float32[1, 2, 3, 1]): padding must be smaller than the window [1, 1]; pad the image with tf.pad first');
    await expect(compileOne((x) => tf.conv2d(image(x), tf.ones([1, 3, 1, 1]), 1, 1))).rejects.toThrow('with padding 1 as one number tf.js measures the width with the height of the window [1, 3] and the stride [1, 1]; use [[0, 0], [1, 1], [1, 1], [0, 0]]');
    await expect(compileOne((x) => tf.grad((t: tf.Tensor) => tf.cumprod(t, 1))(x))).rejects.toThrow('the gradient of Cumprod, whose result is float32[2, 3], does not exist; use tf.exp(tf.cumsum(tf.log(x)))');
    const first = (t: tf.Tensor): tf.Tensor => tf.sum(tf.square(tf.maxPool(image(t), 2, 1, 'same')));
    await expect(compileOne((x) => tf.grad((t: tf.Tensor) => tf.sum(tf.grad(first)(t)))(x))).rejects.toThrow(/MaxPool|first derivatives/);
  });

  it('reading values while compiling', async () => {
    await expect(compileOne((x) => tf.scalar(tf.sum(x).dataSync()[0]!))).rejects.toThrow(/probe: the values of float32\[\] are read .* while the program is compiled/);
  });

  it('names that models have for themselves', async () => {
    const one = { x: { shape: [1] } };
    for (const output of ['#6', 'x:out', 'state/m']) await expect(compile(({ x }) => ({ [output]: tf.neg(x!) }), one)).rejects.toThrow(`the name "${output}" of an output is reserved`);
    for (const weight of ['x', '#constant 3']) await expect(compileInference(({ x }, w) => ({ y: tf.add(x!, w[weight]!) }), one, { [weight]: float32([1], [1]) })).rejects.toThrow(`the name "${weight}" of a weight is that of an input, or reserved`);
  });

  it('wrong inputs of a run', async () => {
    const program = await kept(compileOne((x) => tf.neg(x)));
    await expect(program.run({})).rejects.toThrow(/probe: input "x" is missing/);
    await expect(program.run({ x: float32([1, 2, 3], [3]) })).rejects.toThrow(/input "x" is float32\[3\], expected float32\[2, 3\]/);
    await expect(program.run({ x: int32([1, 2, 3, 4, 5, 6], [2, 3]) })).rejects.toThrow(/input "x" is int32\[2, 3\], expected float32\[2, 3\]/);
    await expect(program.run({ x: { dtype: 'float32', shape: [2, 3], data: new Int32Array(6) as unknown as Float32Array } })).rejects.toThrow(/input "x" is float32 by its name, and its data a Int32Array; give a Float32Array/);
    await expect(program.run({ x: normal([2, 3]), y: scalar(1) })).rejects.toThrow(/unknown input "y"; inputs are x/);
  });

  it('tensors of another program, outputs that are no tensors, nothing returned, reserved names, threads', async () => {
    let leaked: tf.Tensor | undefined;
    await kept(compileOne((x) => { leaked = tf.keep(tf.neg(x)); return leaked; }));
    await expect(compileOne((x) => tf.add(x, leaked!))).rejects.toThrow(/recorded by another program/);
    leaked!.dispose();
    await expect(compileOne(() => 3 as unknown as tf.Tensor)).rejects.toThrow(/output "y" is not a tensor/);
    await expect(compile(() => ({}), {}, { name: 'empty' })).rejects.toThrow(/empty: the function returns nothing/);
    await expect(compile(({ a }) => ({ y: a! }), { 'state/a': { shape: [] } })).rejects.toThrow(/"state\/a" is reserved/);
    await expect(compile(({ a }) => ({ y: a! }), { a: { shape: [] } }, { threads: 0 })).rejects.toThrow(/threads is "0"/);
    const eager = await kept(compile(({ a }) => ({ y: a! }), { a: { shape: [] } }, { executor: 'tensorflow', name: 'eager' }));
    expect(() => eager.toOnnx()).toThrow(/eager: .*no ONNX form/);
  });

  it('tensors captured from outside become constants, and stay usable', async () => {
    const outside = tf.tensor1d([1, 2, 3]);
    const program = await kept(compileOne((x) => tf.mul(x, outside)));
    expect([...(await program.run({ x: float32([1, 1, 1, 2, 2, 2], [2, 3]) }))['y']!.data]).toEqual([1, 2, 3, 2, 4, 6]);
    expect([...outside.dataSync()]).toEqual([1, 2, 3]);
    expect([...tf.add(outside, 1).dataSync()]).toEqual([2, 3, 4]);
    outside.dispose();
  });
});
