import type { Clock } from './clock.ts';
import type { Json } from './definition.ts';

/** Step Functions' own event names (GetExecutionHistory). */
export type HistoryEventType =
  | 'ExecutionStarted' | 'ExecutionSucceeded' | 'ExecutionFailed' | 'ExecutionAborted' | 'ExecutionTimedOut'
  | `${'Task' | 'Pass' | 'Choice' | 'Wait' | 'Succeed' | 'Parallel' | 'Map'}State${'Entered' | 'Exited'}` | 'FailStateEntered'
  | `${'Task' | 'Wait' | 'Parallel' | 'Map'}StateAborted`
  | 'TaskScheduled' | 'TaskStarted' | 'TaskSubmitted' | 'TaskSucceeded' | 'TaskFailed' | 'TaskTimedOut'
  | 'ActivityScheduled' | 'ActivityStarted' | 'ActivitySucceeded' | 'ActivityFailed' | 'ActivityTimedOut'
  | `${'Parallel' | 'Map'}State${'Started' | 'Succeeded' | 'Failed'}`
  | `MapIteration${'Started' | 'Succeeded' | 'Failed' | 'Aborted'}`
  | 'EvaluationFailed';

/** One line of `history.jsonl`: the shape of GetExecutionHistory's events. */
export interface HistoryEvent {
  readonly id: number;
  /** 0 for the first event. Events of different branches interleave; this tells them apart. */
  readonly previousEventId: number;
  /** ISO 8601, UTC. */
  readonly timestamp: string;
  readonly type: HistoryEventType;
  /** `stateEnteredEventDetails`, `taskFailedEventDetails`, … */
  readonly [details: `${string}EventDetails`]: Json;
}

/** The place in the history that a line of control (the execution, a branch, an iteration) has reached. */
export interface Cursor {
  previous: number;
}

/** Numbers the events of one execution and hands each to `onEvent` as it happens. */
export class History {
  readonly #clock: Clock;
  readonly #onEvent: (event: HistoryEvent) => void;
  #count = 0;

  constructor(clock: Clock, onEvent: (event: HistoryEvent) => void) {
    this.#clock = clock;
    this.#onEvent = onEvent;
  }

  add(cursor: Cursor, type: HistoryEventType, details: Readonly<Record<`${string}EventDetails`, Json>> = {}): void {
    const id = ++this.#count;
    this.#onEvent({ timestamp: new Date(this.#clock.now()).toISOString(), type, id, previousEventId: cursor.previous, ...details });
    cursor.previous = id;
  }
}
