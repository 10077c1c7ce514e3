import type * as tf from '@tensorflow/tfjs';
import { uniform, type ElementType, type Graph, type Value } from '../graph.ts';
import { align, type Recorded } from '../layout.ts';
import type { Kernel } from './kernel.ts';

/** Applies `body` to the values of one tensor; expansions stay outside. */
function map(g: Graph, x: Recorded, body: (value: Value) => Value): Recorded {
  const { values: [value], finish } = align(g, [x]);
  return finish(body(value!));
}

const unary = (op: string): Kernel<'x'> => (g, { x }) => map(g, x, (v) => g.elementwise(op, [v]));

const unaryBy = (body: (g: Graph, x: Value) => Value): Kernel<'x'> => (g, { x }) => map(g, x, (v) => body(g, v));

type Simplify = (g: Graph, a: Value, b: Value) => Value | undefined;

/** A broadcasting operator; `simplify` may answer without a node. */
function binary(op: string | ((g: Graph, a: Value, b: Value) => Value), type?: ElementType, simplify?: Simplify): Kernel<'a' | 'b'> {
  return (g, { a, b }) => {
    const { values: [x, y], finish } = align(g, [a, b]);
    const simple = simplify?.(g, x!, y!);
    if (simple) return finish(simple);
    return finish(typeof op === 'string' ? g.elementwise(op, [x!, y!], type ?? x!.type) : op(g, x!, y!));
  };
}

/** `value` when it has at least the shape of both operands, so that leaving out the other changes nothing. */
const whole = (value: Value, other: Value): Value | undefined =>
  (other.shape.length <= value.shape.length && other.shape.every((n) => n === 1) ? value : undefined);

const add: Simplify = (_g, a, b) => (uniform(b) === 0 ? whole(a, b) : uniform(a) === 0 ? whole(b, a) : undefined);
const subtract: Simplify = (_g, a, b) => (uniform(b) === 0 ? whole(a, b) : undefined);
const multiply: Simplify = (_g, a, b) => (uniform(b) === 1 ? whole(a, b) : uniform(a) === 1 ? whole(b, a) : undefined);
const divide: Simplify = (_g, a, b) => (uniform(b) === 1 ? whole(a, b) : undefined);

/** Rounded down; int32 whatever the operands are, as in tf.js. */
const floorDivide = (g: Graph, a: Value, b: Value): Value => {
  if (a.type === 'float32') return g.cast(g.elementwise('Floor', [g.elementwise('Div', [a, b])]), 'int32');
  // Integer division truncates: one less where there is a remainder and the signs differ. Mod has the sign of b.
  const remainder = g.elementwise('Mod', [a, b]);
  return g.elementwise('Div', [g.elementwise('Sub', [a, remainder]), b]);
};

const floorModulo = (g: Graph, a: Value, b: Value): Value => {
  if (a.type === 'int32') return g.elementwise('Mod', [a, b]);
  // Exact remainder with the sign of a (fmod), then moved into the sign of b.
  const remainder = g.elementwise('Mod', [a, b], a.type, { fmod: 1 });
  const zero = g.scalar(0);
  const differs = g.elementwise('Less', [g.elementwise('Mul', [g.elementwise('Sign', [remainder]), g.elementwise('Sign', [b])]), zero], 'bool');
  return g.elementwise('Where', [differs, g.elementwise('Add', [remainder, b]), remainder], a.type);
};

/** log(1 + x), exact for small x: log(u) x / (u - 1) with u = 1 + x (Kahan). */
const log1p = (g: Graph, x: Value): Value => {
  const one = g.scalar(1);
  const u = g.elementwise('Add', [x, one]);
  const small = g.elementwise('Equal', [u, one], 'bool');
  const infinite = g.elementwise('Equal', [u, g.scalar(Infinity)], 'bool');
  const ratio = g.elementwise('Div', [x, g.elementwise('Sub', [u, one])]);
  const value = g.elementwise('Mul', [g.elementwise('Log', [u]), ratio]);
  return g.elementwise('Where', [g.elementwise('Or', [small, infinite], 'bool'), x, value], 'float32');
};

/** exp(x) - 1 = 2 sinh(x / 2) exp(x / 2), exact for small x; below -60 it is -1 in float32. */
const expm1 = (g: Graph, x: Value): Value => {
  const half = g.elementwise('Mul', [g.node('Clip', [x, g.scalar(-60)], {}, x.shape), g.scalar(0.5)]);
  return g.elementwise('Mul', [g.elementwise('Mul', [g.elementwise('Sinh', [half]), g.elementwise('Exp', [half])]), g.scalar(2)]);
};

/** The angle of the point (b, a), in (-pi, pi]. */
const atan2 = (g: Graph, a: Value, b: Value): Value => {
  const zero = g.scalar(0), where = (condition: Value, x: Value, y: Value): Value => g.elementwise('Where', [condition, x, y], 'float32');
  const below = g.elementwise('Less', [a, zero], 'bool');
  const angle = g.elementwise('Atan', [g.elementwise('Div', [a, b])]);
  const turn = where(g.elementwise('Less', [b, zero], 'bool'), where(below, g.scalar(-Math.PI), g.scalar(Math.PI)), zero);
  const origin = g.elementwise('And', [g.elementwise('Equal', [a, zero], 'bool'), g.elementwise('Equal', [b, zero], 'bool')], 'bool');
  return where(origin, zero, g.elementwise('Add', [angle, turn]));
};

/** 1 where x > 0, else alpha. */
const step: Kernel<'x', tf.StepAttrs> = (g, { x }, { alpha }) => map(g, x, (v) => {
  const positive = g.elementwise('Greater', [v, g.scalar(0, v.type)], 'bool');
  return alpha === 0 ? g.cast(positive, v.type) : g.elementwise('Where', [positive, g.scalar(1, v.type), g.scalar(alpha, v.type)], v.type);
});

const eluGrad: Kernel<'dy' | 'y'> = (g, { dy, y }) => {
  const { values: [d, v], finish } = align(g, [dy, y]);
  const slope = g.elementwise('Add', [g.elementwise('Min', [v!, g.scalar(0)]), g.scalar(1)]);
  return finish(g.elementwise('Mul', [d!, slope]));
};

const select: Kernel<'condition' | 't' | 'e'> = (g, { condition, t, e }) => {
  let mask = condition;
  const rank = t.perm.length;
  if (mask.perm.length === 1 && rank > 1) {
    // A vector condition chooses along the first axis.
    const value = g.reshape(mask.value, [mask.value.shape[0]!, ...Array<number>(rank - 1).fill(1)]);
    mask = { value, perm: Array.from({ length: rank }, (_, i) => i) };
  }
  const { values: [c, x, y], finish } = align(g, [mask, t, e]);
  if (x!.type !== 'bool') return finish(g.elementwise('Where', [c!, x!, y!], x!.type));
  const chosen = g.elementwise('Where', [c!, g.cast(x!, 'int32'), g.cast(y!, 'int32')], 'int32');
  return finish(g.cast(chosen, 'bool'));
};

const addN: Kernel<string> = (g, inputs) => {
  const { values, finish } = align(g, Object.values(inputs));
  return finish(values.reduce((sum, value) => g.elementwise('Add', [sum, value])));
};

const clip: Kernel<'x', tf.ClipByValueAttrs> = (g, { x }, { clipValueMin, clipValueMax }) =>
  map(g, x, (v) => g.node('Clip', [v, g.scalar(clipValueMin, v.type), g.scalar(clipValueMax, v.type)], {}, v.shape));

const fill = (g: Graph, like: Recorded, value: number): Recorded => {
  const one = g.reshape(g.scalar(value, like.value.type), like.value.shape.map(() => 1));
  return { value: g.expand(one, like.value.shape), perm: like.perm };
};

const comparison = (op: string): Kernel<'a' | 'b'> => binary((g, a, b) => {
  // ONNX orders numbers only.
  const [x, y] = a.type === 'bool' && op !== 'Equal' ? [g.cast(a, 'int32'), g.cast(b, 'int32')] : [a, b];
  return g.elementwise(op, [x, y], 'bool');
});

export const elementwise = {
  Abs: unary('Abs'), Acos: unary('Acos'), Acosh: unary('Acosh'), Asin: unary('Asin'), Asinh: unary('Asinh'), Atan: unary('Atan'), Atanh: unary('Atanh'),
  Ceil: unary('Ceil'), Cos: unary('Cos'), Cosh: unary('Cosh'), Erf: unary('Erf'), Exp: unary('Exp'), Floor: unary('Floor'), Log: unary('Log'),
  Neg: unary('Neg'), Reciprocal: unary('Reciprocal'), Round: unary('Round'), Sigmoid: unary('Sigmoid'), Sign: unary('Sign'),
  Sin: unary('Sin'), Sinh: unary('Sinh'), Softplus: unary('Softplus'), Sqrt: unary('Sqrt'), Tan: unary('Tan'), Tanh: unary('Tanh'),
  Relu: unary('Relu'),
  Elu: unary('Elu'),
  Selu: unary('Selu'),
  Square: unaryBy((g, x) => g.elementwise('Mul', [x, x])),
  Rsqrt: unaryBy((g, x) => g.elementwise('Reciprocal', [g.elementwise('Sqrt', [x])])),
  Relu6: unaryBy((g, x) => g.node('Clip', [x, g.scalar(0, x.type), g.scalar(6, x.type)], {}, x.shape)),
  Log1p: unaryBy(log1p),
  Expm1: unaryBy(expm1),
  IsNan: unaryBy((g, x) => g.elementwise('IsNaN', [x], 'bool')),
  IsInf: unaryBy((g, x) => g.elementwise('IsInf', [x], 'bool')),
  IsFinite: unaryBy((g, x) => g.elementwise('Less', [g.elementwise('Abs', [x]), g.scalar(Infinity)], 'bool')),
  LogicalNot: unaryBy((g, x) => g.elementwise('Not', [x], 'bool')),
  LeakyRelu: ((g, { x }, { alpha }) => map(g, x, (v) => g.elementwise('LeakyRelu', [v], v.type, { alpha: { float: alpha } }))) satisfies Kernel<'x', tf.LeakyReluAttrs>,
  Prelu: ((g, { x, alpha }) => {
    const { values: [v, a], finish } = align(g, [x, alpha]);
    const negative = g.elementwise('Mul', [v!, a!]);
    return finish(g.elementwise('Where', [g.elementwise('Greater', [v!, g.scalar(0)], 'bool'), v!, negative], v!.type));
  }) satisfies Kernel<'x' | 'alpha'>,
  ClipByValue: clip, Step: step, EluGrad: eluGrad, Select: select, AddN: addN,

  Add: binary('Add', undefined, add), Sub: binary('Sub', undefined, subtract), Multiply: binary('Mul', undefined, multiply), RealDiv: binary('Div', undefined, divide),
  FloorDiv: binary(floorDivide), Mod: binary(floorModulo), Pow: binary('Pow'), Maximum: binary('Max'), Minimum: binary('Min'),
  Atan2: binary(atan2), BitwiseAnd: binary('BitwiseAnd'),
  SquaredDifference: binary((g, a, b) => {
    const difference = g.elementwise('Sub', [a, b]);
    return g.elementwise('Mul', [difference, difference]);
  }),
  Equal: comparison('Equal'), Greater: comparison('Greater'), GreaterEqual: comparison('GreaterOrEqual'), Less: comparison('Less'), LessEqual: comparison('LessOrEqual'),
  NotEqual: binary((g, a, b) => g.elementwise('Not', [g.elementwise('Equal', [a, b], 'bool')], 'bool')),
  LogicalAnd: binary('And', 'bool'), LogicalOr: binary('Or', 'bool'),

  Cast: ((g, { x }, { dtype }) => {
    if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') throw new RangeError(`type ${dtype} is not supported; use float32, int32 or bool`);
    return map(g, x, (v) => g.cast(v, dtype));
  }) satisfies Kernel<'x', tf.CastAttrs>,
  ZerosLike: ((g, { x }) => fill(g, x, 0)) satisfies Kernel<'x'>,
  OnesLike: ((g, { x }) => fill(g, x, 1)) satisfies Kernel<'x'>,
};

