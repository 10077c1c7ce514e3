import * as tf from '@tensorflow/tfjs';
import type { StepFunction } from '../../runtime/program.ts';
import { scalar, type NamedTensors } from '../../tensor.ts';

export interface LossScalingOptions {
  /** Steps without overflow after which the scale is doubled. @default 2000 */
  readonly growthInterval?: number;
}

/** Loss and its gradients by the names of the variables, as tf.variableGrads gives them. */
export type Gradients = (loss: () => tf.Scalar, variables: tf.Variable[]) => { value: tf.Scalar; grads: Record<string, tf.Tensor> };

/** A step that takes its gradients from what it is given instead of from tf.variableGrads. */
export type ScalableStep = (inputs: Record<string, tf.Tensor>, state: Record<string, tf.Variable>, gradients: Gradients) => Record<string, tf.Tensor>;

const scaleName = 'lossScale/scale', goodName = 'lossScale/goodSteps';

/** What a step with loss scaling keeps: the scale, and the steps since it last changed. @param initial default 2^16, as torch.amp.GradScaler */
export const lossScalingState = (initial = 65536): NamedTensors => ({ [scaleName]: scalar(initial), [goodName]: scalar(0) });

/**
 * Dynamic loss scaling (Micikevicius et al. 2018, section 3.2; the rule of torch.amp.GradScaler), for steps in float16, whose small gradients
 * would vanish. The loss is multiplied by the scale before it is differentiated and the gradients are divided by it. When one of them is
 * not finite, the step changes nothing of its state (parameters, momentum, averages, queues, statistics) and the scale is halved;
 * after `growthInterval` good steps in a row it is doubled. All of it happens in the compiled step, so that it works in a loop of
 * steps too.
 *
 * The state has {@link lossScalingState} beside the step's own. Outputs beside the step's own: scalars `lossScale` (of this step)
 * and `skipped` (1 or 0).
 */
export function withLossScaling(step: ScalableStep, { growthInterval = 2000 }: LossScalingOptions = {}): StepFunction {
  return (inputs, all) => {
    const { [scaleName]: scaleVariable, [goodName]: good, ...state } = all;
    if (!scaleVariable || !good) throw new Error(`the state has no ${scaleName} and ${goodName}; add lossScalingState() to it`);
    const scale = scaleVariable.clone(), unscale = tf.div(1, scale);
    const before = Object.entries(state).map(([, variable]) => ({ variable, dataId: variable.dataId, value: variable.clone() }));
    const checks: tf.Tensor[] = [];
    const outputs = step(inputs, state, (loss, variables) => {
      const { value, grads } = tf.variableGrads(() => tf.mul(loss(), scale), variables);
      const unscaled = Object.fromEntries(Object.entries(grads).map(([name, gradient]) => [name, tf.mul(gradient, unscale)]));
      // A sum is finite only when all its terms are.
      checks.push(...Object.values(unscaled).map((gradient) => tf.sum(tf.abs(gradient))));
      return { value: tf.mul(value, unscale), grads: unscaled };
    });
    const finite = tf.isFinite(checks.length === 1 ? checks[0]! : tf.sum(tf.stack(checks)));
    for (const { variable, dataId, value } of before) {
      if (variable.dataId !== dataId) variable.assign(tf.where(finite, variable, value));
    }
    const goodSteps = tf.where(finite, tf.add(good, 1), tf.zerosLike(good)), grown = tf.greaterEqual(goodSteps, growthInterval);
    scaleVariable.assign(tf.where(finite, tf.where(grown, tf.mul(scale, 2), scale), tf.mul(scale, 0.5)));
    good.assign(tf.where(grown, tf.zerosLike(goodSteps), goodSteps));
    return { ...outputs, lossScale: scale, skipped: tf.sub(1, tf.cast(finite, 'float32')) };
  };
}
