import { GenViewError } from '../errors.ts';

/** `onnxruntime`: one compiled graph. `tensorflow`: tf.js eagerly, on libtensorflow where that is installed. */
export type Executor = 'onnxruntime' | 'tensorflow';

const executors: readonly Executor[] = ['onnxruntime', 'tensorflow'];

/**
 * What runs the programs of this process: the option, else GENVIEW_EXECUTOR, else onnxruntime.
 * @throws GenViewError `ExecutorInvalid` when GENVIEW_EXECUTOR names no executor.
 */
export function executorName(option?: Executor, env: NodeJS.ProcessEnv = process.env): Executor {
  const text = option ?? (env['GENVIEW_EXECUTOR'] || 'onnxruntime');
  const executor = executors.find((name) => name === text);
  if (!executor) throw new GenViewError('ExecutorInvalid', `${option === undefined ? 'GENVIEW_EXECUTOR' : 'executor'} is "${text}"; give ${executors.join(' or ')}`);
  return executor;
}
