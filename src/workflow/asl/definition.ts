/** Amazon States Language as this project uses it: JSONata only, no JSONPath fields, no distributed Map. */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A value in which every string of the form `{% expression %}` is evaluated as JSONata. */
export type Template = Json;

export interface StateMachineDefinition extends StateGraph {
  readonly Comment?: string;
  readonly Version?: '1.0';
  readonly QueryLanguage: 'JSONata';
  /** The whole execution; it ends with `States.Timeout`. */
  readonly TimeoutSeconds?: number;
}

/** A state machine, a branch of a Parallel state, or the processor of a Map state. */
export interface StateGraph {
  readonly StartAt: string;
  readonly States: Readonly<Record<string, State>>;
}

export type State = TaskState | PassState | ChoiceState | WaitState | SucceedState | FailState | ParallelState | MapState;

interface Common {
  readonly Comment?: string;
  readonly QueryLanguage?: 'JSONata';
}
interface WithOutput {
  /** @default the state's result (Task, Parallel, Map), else its input */
  readonly Output?: Template;
  /** Variables; evaluated against the values before the assignment. */
  readonly Assign?: { readonly [name: string]: Template };
}
interface WithNext {
  readonly Next?: string;
  readonly End?: true;
}
interface WithErrors {
  readonly Retry?: readonly Retrier[];
  readonly Catch?: readonly Catcher[];
}

export interface Retrier {
  readonly Comment?: string;
  readonly ErrorEquals: readonly string[];
  /** @default 1 */
  readonly IntervalSeconds?: number;
  /** 0: never retried. @default 3 */
  readonly MaxAttempts?: number;
  /** @default 2 */
  readonly BackoffRate?: number;
  readonly MaxDelaySeconds?: number;
  /** FULL: uniform between 0 and the computed delay. @default 'NONE' */
  readonly JitterStrategy?: 'NONE' | 'FULL';
}

export interface Catcher extends WithOutput {
  readonly Comment?: string;
  readonly ErrorEquals: readonly string[];
  readonly Next: string;
}

export interface TaskState extends Common, WithOutput, WithNext, WithErrors {
  readonly Type: 'Task';
  readonly Resource: string;
  /** @default the state's input */
  readonly Arguments?: Template;
  /** Of an Activity: from when a worker takes the task. */
  readonly TimeoutSeconds?: number | string;
  /** Activities only: a worker that says nothing for so long has lost the task, which then fails with `States.HeartbeatTimeout`. */
  readonly HeartbeatSeconds?: number | string;
}
export interface PassState extends Common, WithOutput, WithNext {
  readonly Type: 'Pass';
}
export interface ChoiceState extends Common, WithOutput {
  readonly Type: 'Choice';
  readonly Choices: readonly ChoiceRule[];
  readonly Default?: string;
}
export interface ChoiceRule extends WithOutput {
  readonly Comment?: string;
  /** `{% boolean expression %}` */
  readonly Condition: string | boolean;
  readonly Next: string;
}
export interface WaitState extends Common, WithOutput, WithNext {
  readonly Type: 'Wait';
  readonly Seconds?: number | string;
  /** ISO 8601 */
  readonly Timestamp?: string;
}
export interface SucceedState extends Common {
  readonly Type: 'Succeed';
  readonly Output?: Template;
}
export interface FailState extends Common {
  readonly Type: 'Fail';
  readonly Error?: string;
  readonly Cause?: string;
}
export interface ParallelState extends Common, WithOutput, WithNext, WithErrors {
  readonly Type: 'Parallel';
  /** Input of every branch. @default the state's input */
  readonly Arguments?: Template;
  readonly Branches: readonly StateGraph[];
}
export interface MapState extends Common, WithOutput, WithNext, WithErrors {
  readonly Type: 'Map';
  /** An array, or an expression that gives one. @default the state's input */
  readonly Items?: Template;
  /** Input of an iteration; `$states.context.Map.Item` holds Index and Value. @default the item */
  readonly ItemSelector?: Template;
  /** 0: no limit. @default 0 */
  readonly MaxConcurrency?: number | string;
  readonly ItemProcessor: StateGraph & { readonly ProcessorConfig?: { readonly Mode: 'INLINE' } };
}
