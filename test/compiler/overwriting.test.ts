import { expect, it } from 'vitest';
import { Graph, type Value } from '../../src/compiler/graph.ts';
import { overwritable } from '../../src/compiler/overwriting.ts';

const g = (): { graph: Graph; input: (name: string, shape?: number[]) => Value; add: (a: Value, b: Value) => Value; mul: (a: Value, b: Value) => Value } => {
  const graph = new Graph();
  return { graph, input: (name, shape = [4]) => graph.input(name, shape, 'float32'), add: (a, b) => graph.elementwise('Add', [a, b]), mul: (a, b) => graph.elementwise('Mul', [a, b]) };
};

it('momentum and moving averages, read once on the way to their successor, are written over; parameters that others read are not', () => {
  const { input, add, mul } = g();
  const parameter = input('p'), momentum = input('m'), average = input('a'), rate = input('rate', []), x = input('x');
  const loss = mul(parameter, x), gradient = mul(loss, x);
  const nextMomentum = add(mul(momentum, rate), gradient), nextParameter = add(parameter, mul(nextMomentum, rate)), nextAverage = add(mul(average, rate), nextParameter);
  const pairs = { p: { input: parameter, next: nextParameter }, m: { input: momentum, next: nextMomentum }, a: { input: average, next: nextAverage } };
  expect(overwritable([loss, nextParameter, nextMomentum, nextAverage], pairs)).toEqual(new Set(['m', 'a']));
});

it('an element-wise operator may write over the operand that has its shape, and no other operator over anything', () => {
  const { graph, input, add } = g();
  const x = input('x'), row = input('row', [1]), y = input('y', [2, 2]), z = input('z');
  const sum = add(x, z), wide = add(row, z), product = graph.node('MatMul', [y, graph.input('w', [2, 2], 'float32')], {}, [2, 2]);
  expect(overwritable([sum, wide, product], { x: { input: x, next: sum }, row: { input: row, next: wide }, y: { input: y, next: product } })).toEqual(new Set(['x']));
});

it('what is read beside the way to its successor, read twice, returned, or returned twice stays', () => {
  const { input, add, mul } = g();
  const a = input('a'), b = input('b'), c = input('c'), d = input('d'), other = input('other');
  const beside = mul(a, other), nextA = other, nextB = mul(b, b), nextC = add(c, other), nextD = add(d, other);
  const pairs = { a: { input: a, next: nextA }, b: { input: b, next: nextB }, c: { input: c, next: nextC }, d: { input: d, next: nextD } };
  expect(overwritable([beside, nextA, nextB, c, nextC, nextD, nextD], pairs)).toEqual(new Set());
});

it('what is read otherwise than element by element stays: onnxruntime may compute the reader and the successor as one, or only give the input another shape', () => {
  const { graph, input, add, mul } = g();
  const m = input('m', [4, 4]), q = input('q', [4]), w = input('w', [4, 4]), x = input('x', [2, 2]);
  const product = graph.node('Relu', [graph.node('MatMul', [m, w], {}, [4, 4])], {}, [4, 4]), moved = graph.reshape(q, [2, 2]), sum = graph.reshape(add(moved, x), [4]), beside = mul(x, moved);
  const far = input('far'), step = mul(add(mul(far, input('r')), input('s')), input('t'));
  expect(overwritable([product, sum, beside, step], { m: { input: m, next: product }, q: { input: q, next: sum }, far: { input: far, next: step } })).toEqual(new Set());
});
