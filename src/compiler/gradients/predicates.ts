import * as tf from '@tensorflow/tfjs';

/** Truth values do not change with small changes of numbers: `tf.where(tf.less(x, 0), ...)` has a gradient although tf.js knows none of Less. */
export const predicates: readonly tf.GradConfig[] = Object.entries({
  Equal: ['a', 'b'], NotEqual: ['a', 'b'], Less: ['a', 'b'], LessEqual: ['a', 'b'], Greater: ['a', 'b'], GreaterEqual: ['a', 'b'], LogicalAnd: ['a', 'b'], LogicalOr: ['a', 'b'], LogicalNot: ['x'], All: ['x'], Any: ['x'],
}).map(([kernelName, names]) => ({
  kernelName,
  inputsToSave: names,
  gradFunc: (_dy, saved) => Object.fromEntries(names.map((name, i) => [name, () => tf.zeros(saved[i]!.shape)])),
}));
