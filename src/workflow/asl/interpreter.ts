import { setMaxListeners } from 'node:events';
import { systemClock, type Clock } from './clock.ts';
import type { Catcher, ChoiceState, Json, MapState, ParallelState, State, StateGraph, StateMachineDefinition, TaskState, Template } from './definition.ts';
import { causeLimit, matchesError, runtimeError, StatesError } from './errors.ts';
import { History, type Cursor, type HistoryEvent } from './history.ts';
import { evaluateTemplate, toJson } from './jsonata.ts';
import { RetryPolicy } from './retry.ts';
import { isActivity, isResource, validateDefinition } from './validate.ts';

/** What a task handler is told beside its arguments. */
export interface TaskContext {
  /** Aborts when the task times out, a sibling branch failed, or the execution is stopped. The handler then ends everything it started, and only then settles. */
  readonly signal: AbortSignal;
  readonly state: string;
  /** Records `TaskSubmitted`: a `.sync` integration calls it once the job exists. */
  submitted(output: Json): void;
  /** Of an Activity: whoever works on the task is still there. Without this call for HeartbeatSeconds the task fails. */
  readonly heartbeat: () => void;
}

/** Does what a resource does in AWS. Fails with a StatesError; any other error keeps its name. The result must be JSON. */
export type TaskHandler = (argument: Json, context: TaskContext) => Promise<unknown>;

export interface ExecutionOptions {
  /** By resource without `arn:<partition>:`, for example `states:::lambda:invoke` or `states:<region>:<account>:activity:<name>`. */
  readonly handlers: Readonly<Record<string, TaskHandler>>;
  /** Name of the execution. @default 'local' */
  readonly name?: string;
  readonly signal?: AbortSignal;
  /** @default the system's clock */
  readonly clock?: Clock;
  /** Uniform in [0, 1), for retry jitter. @default Math.random */
  readonly random?: () => number;
  /** Called with every history event as it happens. */
  readonly onEvent?: (event: HistoryEvent) => void;
}

/** Step Functions' limit for inputs, outputs and arguments, in bytes of JSON. */
const payloadLimit = 256 * 1024;

/**
 * Runs a state machine as Step Functions would: the same data flow, retries, catches, scopes, limits and history.
 * What it does not implement it refuses at the start with `States.Runtime`. Resolves to the output; rejects with a
 * StatesError, or with the signal's reason once everything that was running has ended.
 */
export async function execute(definition: StateMachineDefinition, input: Json, options: ExecutionOptions): Promise<Json> {
  validateDefinition(definition, Object.keys(options.handlers));
  return new Execution(definition, input, options).run();
}

/** Variables of one graph; an inner graph reads the outer ones. */
class Scope {
  readonly #outer: Scope | undefined;
  readonly #own: Record<string, Json> = {};

  constructor(outer?: Scope) {
    this.#outer = outer;
  }

  assign(values: Readonly<Record<string, Json>>): void {
    Object.assign(this.#own, values);
  }

  all(): Record<string, Json> {
    return { ...this.#outer?.all(), ...this.#own };
  }
}

/** One line of control: the execution, a branch or an iteration. */
interface Line {
  readonly scope: Scope;
  readonly cursor: Cursor;
  readonly signal: AbortSignal;
  /** `$states.context.Map.Item` inside an iteration. */
  readonly item?: { readonly Index: number; readonly Value: Json };
}

interface Outcome {
  readonly output: Json;
  /** Absent: the line ends here. */
  readonly next?: string;
}

class Execution {
  readonly #definition: StateMachineDefinition;
  readonly #input: Json;
  readonly #options: ExecutionOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #history: History;
  readonly #name: string;
  /** Failed evaluations that the history already holds: an error passes through every enclosing state. */
  readonly #recorded = new WeakSet<StatesError>();
  #started = '';

  constructor(definition: StateMachineDefinition, input: Json, options: ExecutionOptions) {
    this.#definition = definition;
    this.#input = input;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#history = new History(this.#clock, options.onEvent ?? (() => {}));
    this.#name = options.name ?? 'local';
  }

  async run(): Promise<Json> {
    const cursor: Cursor = { previous: 0 };
    const outside = this.#options.signal ?? new AbortController().signal;
    const { TimeoutSeconds } = this.#definition;
    const limit = TimeoutSeconds === undefined ? undefined : { seconds: TimeoutSeconds, error: expired(TimeoutSeconds) };
    this.#started = this.#time();
    this.#history.add(cursor, 'ExecutionStarted', { executionStartedEventDetails: { input: JSON.stringify(this.#input), name: this.#name } });
    try {
      checkSize(this.#input, 'the input of the execution');
      const output = await this.#withTimeout(limit, outside, (signal) =>
        this.#graph(this.#definition, this.#input, { scope: new Scope(), cursor, signal }));
      this.#history.add(cursor, 'ExecutionSucceeded', { executionSucceededEventDetails: { output: JSON.stringify(output) } });
      return output;
    } catch (error) {
      if (outside.aborted) {
        this.#history.add(cursor, 'ExecutionAborted', { executionAbortedEventDetails: { cause: String((outside.reason as Error | undefined)?.message ?? outside.reason) } });
        throw outside.reason;
      }
      const failure = asStatesError(error);
      const details = { error: failure.error, cause: failure.cause.slice(0, causeLimit) };
      if (failure === limit?.error) this.#history.add(cursor, 'ExecutionTimedOut', { executionTimedOutEventDetails: details });
      else this.#history.add(cursor, 'ExecutionFailed', { executionFailedEventDetails: details });
      throw failure;
    }
  }

  async #graph(graph: StateGraph, input: Json, line: Line): Promise<Json> {
    for (let name = graph.StartAt, value = input; ;) {
      line.signal.throwIfAborted();
      const outcome = await this.#state(name, graph.States[name]!, value, line);
      if (outcome.next === undefined) return outcome.output;
      name = outcome.next;
      value = outcome.output;
    }
  }

  async #state(name: string, state: State, input: Json, line: Line): Promise<Outcome> {
    const enteredTime = this.#time();
    this.#history.add(line.cursor, `${state.Type}StateEntered`, { stateEnteredEventDetails: { name, input: JSON.stringify(input) } });
    const retry = new RetryPolicy('Retry' in state ? state.Retry : undefined, this.#random);
    for (let retryCount = 0; ; retryCount++) {
      const states = {
        input,
        context: {
          Execution: { Id: `local:${this.#name}`, Input: this.#input, Name: this.#name, StartTime: this.#started },
          State: { EnteredTime: enteredTime, Name: name, RetryCount: retryCount },
          StateMachine: { Id: 'local', Name: 'local' },
          ...(line.item && { Map: { Item: line.item } }),
        },
      };
      const evaluate = (template: Template, more: Readonly<Record<string, Json>> = {}): Promise<Json> =>
        evaluateTemplate(template, { ...line.scope.all(), states: { ...states, ...more } });
      const finish = async (from: { Output?: Template; Assign?: Readonly<Record<string, Template>> }, fallback: Json, more: Readonly<Record<string, Json>>, next: string | undefined): Promise<Outcome> => {
        // Both read the variables as they were before the assignment.
        const [output, assigned] = await Promise.all([
          from.Output === undefined ? fallback : evaluate(from.Output, more),
          evaluate((from.Assign ?? {}) as Template, more) as Promise<Record<string, Json>>,
        ]);
        checkSize(output, `the output of state ${JSON.stringify(name)}`);
        checkSize(assigned, `the variables that state ${JSON.stringify(name)} assigns`);
        line.scope.assign(assigned);
        const details = { name, output: JSON.stringify(output), ...(from.Assign && { assignedVariables: mapValues(assigned, (value) => JSON.stringify(value)) }) };
        this.#history.add(line.cursor, `${state.Type as Exclude<State['Type'], 'Fail'>}StateExited`, { stateExitedEventDetails: details });
        return next === undefined ? { output } : { output, next };
      };

      try {
        switch (state.Type) {
          case 'Task': {
            const result = await this.#task(name, state, input, line, evaluate);
            return await finish(state, result, { result }, state.Next);
          }
          case 'Pass':
            return await finish(state, input, {}, state.Next);
          case 'Succeed':
            return await finish(state, input, {}, undefined);
          case 'Fail': {
            const error = state.Error === undefined ? 'States.Failed' : text(await evaluate(state.Error), 'Error');
            throw new StatesError(error, state.Cause === undefined ? '' : text(await evaluate(state.Cause), 'Cause'));
          }
          case 'Wait': {
            const until = state.Timestamp === undefined
              ? this.#clock.now() + 1000 * wholeNumber(await evaluate(state.Seconds!), 'Seconds')
              : instant(await evaluate(state.Timestamp));
            await this.#clock.sleep(Math.max(0, until - this.#clock.now()), line.signal);
            return await finish(state, input, {}, state.Next);
          }
          case 'Choice': {
            const rule = await this.#choose(state, evaluate);
            if (rule) return await finish(rule, input, {}, rule.Next);
            if (state.Default === undefined) throw new StatesError('States.NoChoiceMatched', `no rule of state ${JSON.stringify(name)} matched and it has no Default`);
            return await finish(state, input, {}, state.Default);
          }
          case 'Parallel': {
            const result = await this.#parallel(name, state, input, line, evaluate);
            return await finish(state, result, { result }, state.Next);
          }
          case 'Map': {
            const result = await this.#map(name, state, input, line, evaluate);
            return await finish(state, result, { result }, state.Next);
          }
        }
      } catch (error) {
        if (line.signal.aborted) {
          if (state.Type === 'Task' || state.Type === 'Wait' || state.Type === 'Parallel' || state.Type === 'Map') this.#history.add(line.cursor, `${state.Type}StateAborted`);
          throw line.signal.reason;
        }
        const failure = asStatesError(error);
        if (failure.error === 'States.QueryEvaluationError' && !this.#recorded.has(failure)) {
          this.#recorded.add(failure);
          this.#history.add(line.cursor, 'EvaluationFailed', { evaluationFailedEventDetails: { state: name, error: failure.error, cause: failure.cause } });
        }
        const delay = retry.next(failure.error);
        if (delay !== undefined) {
          await this.#clock.sleep(delay * 1000, line.signal);
          continue;
        }
        const catcher = catcherOf(state, failure.error);
        if (catcher === undefined) throw failure;
        const errorOutput = { Error: failure.error, Cause: failure.cause.slice(0, causeLimit) };
        return await finish(catcher, errorOutput, { errorOutput }, catcher.Next);
      }
    }
  }

  async #task(name: string, state: TaskState, input: Json, line: Line, evaluate: (template: Template) => Promise<Json>): Promise<Json> {
    const argument = state.Arguments === undefined ? input : await evaluate(state.Arguments);
    checkSize(argument, `the arguments of state ${JSON.stringify(name)}`);
    const timeout = state.TimeoutSeconds === undefined ? undefined : wholeNumber(await evaluate(state.TimeoutSeconds), 'TimeoutSeconds');
    const heartbeat = state.HeartbeatSeconds === undefined ? undefined : wholeNumber(await evaluate(state.HeartbeatSeconds), 'HeartbeatSeconds');
    const [resource, handler] = Object.entries(this.#options.handlers).find(([key]) => isResource(state.Resource, key))!;
    if (isActivity(resource)) return this.#activity(name, state, argument, line, handler, { timeout, heartbeat });
    // 'states:::batch:submitJob.sync' -> 'batch', 'submitJob.sync'
    const [resourceType, operation] = resource.split(':').slice(-2) as [string, string];
    const kind = { resourceType, resource: operation };
    this.#history.add(line.cursor, 'TaskScheduled', { taskScheduledEventDetails: { ...kind, parameters: JSON.stringify(argument), ...(timeout !== undefined && { timeoutInSeconds: timeout }) } });
    this.#history.add(line.cursor, 'TaskStarted', { taskStartedEventDetails: kind });
    try {
      const limit = timeout === undefined ? undefined : { seconds: timeout, error: expired(timeout) };
      const answer = await this.#withTimeout(limit, line.signal, (signal) => handler(argument, {
        signal,
        state: name,
        heartbeat: () => undefined,
        submitted: (output) => this.#history.add(line.cursor, 'TaskSubmitted', { taskSubmittedEventDetails: { ...kind, output: JSON.stringify(output) } }),
      }));
      const result = toJson(answer, (reason) => { throw runtimeError(`the task of state ${JSON.stringify(name)} returned ${reason}`); });
      checkSize(result, `the result of state ${JSON.stringify(name)}`);
      this.#history.add(line.cursor, 'TaskSucceeded', { taskSucceededEventDetails: { ...kind, output: JSON.stringify(result) } });
      return result;
    } catch (error) {
      if (line.signal.aborted) throw error;
      const failure = asStatesError(error);
      const details = { ...kind, error: failure.error, cause: failure.cause.slice(0, causeLimit) };
      if (failure.error === 'States.Timeout') this.#history.add(line.cursor, 'TaskTimedOut', { taskTimedOutEventDetails: details });
      else this.#history.add(line.cursor, 'TaskFailed', { taskFailedEventDetails: details });
      throw failure;
    }
  }

  /** An Activity's task; here its worker takes it at once. */
  async #activity(name: string, state: TaskState, argument: Json, line: Line, handler: TaskHandler, { timeout, heartbeat }: { timeout: number | undefined; heartbeat: number | undefined }): Promise<Json> {
    const scheduled = { resource: state.Resource, input: JSON.stringify(argument), ...(timeout !== undefined && { timeoutInSeconds: timeout }), ...(heartbeat !== undefined && { heartbeatInSeconds: heartbeat }) };
    this.#history.add(line.cursor, 'ActivityScheduled', { activityScheduledEventDetails: scheduled });
    this.#history.add(line.cursor, 'ActivityStarted', { activityStartedEventDetails: { workerName: 'local' } });
    try {
      const limit = timeout === undefined ? undefined : { seconds: timeout, error: expired(timeout) };
      const answer = await this.#withTimeout(limit, line.signal, (signal) => this.#withHeartbeat(heartbeat, signal, (watched, beat) =>
        handler(argument, { signal: watched, state: name, submitted: () => undefined, heartbeat: beat })));
      const result = toJson(answer, (reason) => { throw runtimeError(`the task of state ${JSON.stringify(name)} returned ${reason}`); });
      checkSize(result, `the result of state ${JSON.stringify(name)}`);
      this.#history.add(line.cursor, 'ActivitySucceeded', { activitySucceededEventDetails: { output: JSON.stringify(result) } });
      return result;
    } catch (error) {
      if (line.signal.aborted) throw error;
      const failure = asStatesError(error);
      const details = { error: failure.error, cause: failure.cause.slice(0, causeLimit) };
      if (failure.error === 'States.Timeout' || failure.error === 'States.HeartbeatTimeout') this.#history.add(line.cursor, 'ActivityTimedOut', { activityTimedOutEventDetails: details });
      else this.#history.add(line.cursor, 'ActivityFailed', { activityFailedEventDetails: details });
      throw failure;
    }
  }

  async #choose(state: ChoiceState, evaluate: (template: Template) => Promise<Json>): Promise<ChoiceState['Choices'][number] | undefined> {
    for (const rule of state.Choices) {
      const condition = await evaluate(rule.Condition);
      if (typeof condition !== 'boolean') throw new StatesError('States.QueryEvaluationError', `The condition '${rule.Condition}' returned ${JSON.stringify(condition)}, not a boolean`);
      if (condition) return rule;
    }
    return undefined;
  }

  async #parallel(name: string, state: ParallelState, input: Json, line: Line, evaluate: (template: Template) => Promise<Json>): Promise<Json> {
    const argument = state.Arguments === undefined ? input : await evaluate(state.Arguments);
    checkSize(argument, `the arguments of state ${JSON.stringify(name)}`);
    this.#history.add(line.cursor, 'ParallelStateStarted');
    const from = line.cursor.previous;
    try {
      const results = await together(state.Branches, Infinity, line.signal, (branch, _index, signal) =>
        this.#graph(branch, argument, { ...line, scope: new Scope(line.scope), cursor: { previous: from }, signal }));
      this.#history.add(line.cursor, 'ParallelStateSucceeded');
      return results;
    } catch (error) {
      if (!line.signal.aborted) this.#history.add(line.cursor, 'ParallelStateFailed');
      throw error;
    }
  }

  async #map(name: string, state: MapState, input: Json, line: Line, evaluate: (template: Template, more?: Readonly<Record<string, Json>>) => Promise<Json>): Promise<Json> {
    const items = state.Items === undefined ? input : await evaluate(state.Items);
    if (!Array.isArray(items)) throw new StatesError('States.QueryEvaluationError', `Items of state ${JSON.stringify(name)} is not an array`);
    const limit = state.MaxConcurrency === undefined ? 0 : wholeNumber(await evaluate(state.MaxConcurrency), 'MaxConcurrency');
    this.#history.add(line.cursor, 'MapStateStarted', { mapStateStartedEventDetails: { length: items.length } });
    const from = line.cursor.previous;
    try {
      const results = await together(items as readonly Json[], limit === 0 ? Infinity : limit, line.signal, async (value, index, signal) => {
        const details = { name, index };
        const iteration: Line = { scope: new Scope(line.scope), cursor: { previous: from }, signal, item: { Index: index, Value: value } };
        this.#history.add(iteration.cursor, 'MapIterationStarted', { mapIterationStartedEventDetails: details });
        try {
          // Evaluated in the iteration, where `$states.context.Map.Item` exists.
          const selected = state.ItemSelector === undefined ? value : await this.#select(state.ItemSelector, name, input, iteration);
          const output = await this.#graph(state.ItemProcessor, selected, iteration);
          this.#history.add(iteration.cursor, 'MapIterationSucceeded', { mapIterationSucceededEventDetails: details });
          return output;
        } catch (error) {
          if (signal.aborted) this.#history.add(iteration.cursor, 'MapIterationAborted', { mapIterationAbortedEventDetails: details });
          else this.#history.add(iteration.cursor, 'MapIterationFailed', { mapIterationFailedEventDetails: details });
          throw error;
        }
      });
      this.#history.add(line.cursor, 'MapStateSucceeded');
      return results;
    } catch (error) {
      if (!line.signal.aborted) this.#history.add(line.cursor, 'MapStateFailed');
      throw error;
    }
  }

  async #select(template: Template, name: string, input: Json, iteration: Line): Promise<Json> {
    const states = { input, context: { Execution: { Id: `local:${this.#name}`, Input: this.#input, Name: this.#name, StartTime: this.#started }, State: { Name: name }, Map: { Item: iteration.item! } } };
    const selected = await evaluateTemplate(template, { ...iteration.scope.all(), states });
    checkSize(selected, `the input of an iteration of state ${JSON.stringify(name)}`);
    return selected;
  }

  /** Aborts the work after the limit, waits until it has ended, and fails with the limit's error. */
  async #withTimeout<T>(limit: { seconds: number; error: StatesError } | undefined, outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (limit === undefined) return work(outer);
    const inner = new AbortController(), finished = new AbortController();
    const stop = (): void => inner.abort(outer.reason);
    if (outer.aborted) stop(); else outer.addEventListener('abort', stop, { once: true });
    const timer = this.#clock.sleep(limit.seconds * 1000, finished.signal).then(() => inner.abort(limit.error), () => undefined);
    try {
      return await work(inner.signal);
    } catch (error) {
      if (inner.signal.aborted && !outer.aborted) throw limit.error;
      throw error;
    } finally {
      finished.abort();
      outer.removeEventListener('abort', stop);
      await timer;
    }
  }

  /** Aborts the work when it has not called `beat` for so many seconds, waits until it has ended, and fails with `States.HeartbeatTimeout`. */
  async #withHeartbeat<T>(seconds: number | undefined, outer: AbortSignal, work: (signal: AbortSignal, beat: () => void) => Promise<T>): Promise<T> {
    if (seconds === undefined) return work(outer, () => undefined);
    const lost = new StatesError('States.HeartbeatTimeout', `no heartbeat for ${seconds} s`);
    const silence = new AbortController(), finished = new AbortController();
    let last = this.#clock.now();
    const watch = (async (): Promise<void> => {
      for (let left = 1000 * seconds; left > 0; left = last + 1000 * seconds - this.#clock.now()) await this.#clock.sleep(left, finished.signal);
      silence.abort(lost);
    })().catch(() => undefined);
    try {
      return await work(AbortSignal.any([outer, silence.signal]), () => { last = this.#clock.now(); });
    } catch (error) {
      if (silence.signal.aborted && !outer.aborted) throw lost;
      throw error;
    } finally {
      finished.abort();
      await watch;
    }
  }

  #time(): string {
    return new Date(this.#clock.now()).toISOString();
  }
}

/**
 * Runs `work` over items, at most `limit` at a time. The first failure aborts the others, and is thrown once they have
 * all ended: nothing is left running behind a failed state.
 */
async function together<T, R>(items: readonly T[], limit: number, outer: AbortSignal, work: (item: T, index: number, signal: AbortSignal) => Promise<R>): Promise<R[]> {
  const inner = new AbortController();
  // Every item at work listens.
  setMaxListeners(0, inner.signal);
  const stop = (): void => inner.abort(outer.reason);
  if (outer.aborted) stop(); else outer.addEventListener('abort', stop, { once: true });
  const results: R[] = [];
  let next = 0;
  let failed: { error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length && !inner.signal.aborted; index = next++) {
      try {
        results[index] = await work(items[index]!, index, inner.signal);
      } catch (error) {
        failed ??= { error };
        inner.abort(new Error('a sibling failed'));
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  } finally {
    outer.removeEventListener('abort', stop);
  }
  outer.throwIfAborted();
  if (failed) throw failed.error;
  return results;
}

function expired(seconds: number): StatesError {
  return new StatesError('States.Timeout', `not finished after ${seconds} s`);
}

function catcherOf(state: State, error: string): Catcher | undefined {
  return 'Catch' in state ? state.Catch?.find((catcher) => matchesError(catcher.ErrorEquals, error)) : undefined;
}

function checkSize(value: Json, what: string): void {
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > payloadLimit) throw new StatesError('States.DataLimitExceeded', `${what} has ${bytes} bytes; the limit is ${payloadLimit}`);
}

function asStatesError(error: unknown): StatesError {
  if (error instanceof StatesError) return error;
  return error instanceof Error ? new StatesError(error.name, error.message) : new StatesError('Error', String(error));
}

function text(value: Json, field: string): string {
  if (typeof value !== 'string') throw new StatesError('States.QueryEvaluationError', `${field} is ${JSON.stringify(value)}, not a string`);
  return value;
}

function wholeNumber(value: Json, field: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) throw new StatesError('States.QueryEvaluationError', `${field} is ${JSON.stringify(value)}, not a whole number`);
  return value;
}

function instant(value: Json): number {
  const time = typeof value === 'string' ? Date.parse(value) : NaN;
  if (Number.isNaN(time)) throw new StatesError('States.QueryEvaluationError', `Timestamp is ${JSON.stringify(value)}, not an ISO 8601 time`);
  return time;
}

function mapValues<T, R>(object: Readonly<Record<string, T>>, change: (value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}
