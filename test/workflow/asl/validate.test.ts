import { describe, expect, it } from 'vitest';
import type { StateMachineDefinition } from '../../../src/workflow/asl/definition.ts';
import { validateDefinition } from '../../../src/workflow/asl/validate.ts';

const invoke = { Type: 'Task', Resource: 'arn:aws:states:::lambda:invoke' };
const end = { Type: 'Pass', End: true };
const check = (definition: unknown) => (): void => validateDefinition(definition as StateMachineDefinition, ['states:::lambda:invoke']);
const machine = (states: object, more: object = {}): object => ({ QueryLanguage: 'JSONata', StartAt: Object.keys(states)[0], States: states, ...more });
const branch = (states: object): object => ({ StartAt: Object.keys(states)[0], States: states });

describe('a definition is refused with States.Runtime when', () => {
  it.each<[string, object, string]>([
    ['it is JSONPath', { StartAt: 'A', States: { A: end } }, 'QueryLanguage is missing'],
    ['it says JSONPath', machine({ A: end }, { QueryLanguage: 'JSONPath' }), 'only "JSONata"'],
    ['a state says JSONPath', machine({ A: { ...end, QueryLanguage: 'JSONPath' } }), 'QueryLanguage "JSONPath"'],
    ['it has an unknown field', machine({ A: end }, { Timeout: 5 }), 'the field Timeout is not implemented'],
    ['the type is unknown', machine({ A: { Type: 'Loop' } }), 'Type "Loop" is not implemented'],
    ['a Pass has a JSONPath field', machine({ A: { ...end, Result: 1 } }), 'state "A": the field Result is not implemented'],
    ['a Task has InputPath', machine({ A: { ...invoke, InputPath: '$', End: true } }), 'InputPath'],
    ['a Task has a heartbeat', machine({ A: { ...invoke, HeartbeatSeconds: 5, End: true } }), 'HeartbeatSeconds'],
    ['nothing runs the resource', machine({ A: { Type: 'Task', Resource: 'arn:aws:states:::lambda:invoke.waitForTaskToken', End: true } }), 'nothing here runs the resource'],
    ['the start is missing', machine({ A: end }, { StartAt: 'B' }), 'StartAt names "B"'],
    ['a target is missing', machine({ A: { Type: 'Pass', Next: 'B' } }), 'goes to "B"'],
    ['a catch target is missing', machine({ A: { ...invoke, End: true, Catch: [{ ErrorEquals: ['X'], Next: 'B' }] } }), 'goes to "B"'],
    ['a branch leaves its Parallel', machine({ P: { Type: 'Parallel', Branches: [branch({ A: { Type: 'Pass', Next: 'Z' } })], Next: 'Z' }, Z: end }), 'goes to "Z"'],
    ['a state cannot be reached', machine({ A: end, B: end }), 'state "B" can never be reached'],
    ['a state has neither Next nor End', machine({ A: { Type: 'Pass' } }), 'either Next or End'],
    ['a state has both', machine({ A: { Type: 'Pass', Next: 'A', End: true } }), 'either Next or End'],
    ['two states share a name', machine({ A: { Type: 'Parallel', Branches: [branch({ A: end })], End: true } }), 'two states have the name "A"'],
    ['the map is distributed', machine({ M: { Type: 'Map', ItemProcessor: { ProcessorConfig: { Mode: 'DISTRIBUTED' }, ...branch({ A: end }) }, End: true } }), 'Mode "DISTRIBUTED"'],
    ['the map has an ItemReader', machine({ M: { Type: 'Map', ItemReader: {}, ItemProcessor: branch({ A: end }), End: true } }), 'ItemReader'],
    ['States.ALL is not alone', machine({ A: { ...invoke, End: true, Retry: [{ ErrorEquals: ['States.ALL', 'X'] }] } }), 'States.ALL must stand alone'],
    ['States.ALL is not last', machine({ A: { ...invoke, End: true, Retry: [{ ErrorEquals: ['States.ALL'] }, { ErrorEquals: ['X'] }] } }), 'States.ALL must stand alone'],
    ['a retrier has an unknown field', machine({ A: { ...invoke, End: true, Retry: [{ ErrorEquals: ['X'], Interval: 1 }] } }), 'Interval'],
    ['the backoff rate is below 1', machine({ A: { ...invoke, End: true, Retry: [{ ErrorEquals: ['X'], BackoffRate: 0.5 }] } }), 'BackoffRate'],
    ['an expression is only part of a string', machine({ A: { ...end, Output: 'a {% 1 %}' } }), 'must be the whole string'],
    ['an expression does not parse', machine({ A: { ...end, Output: '{% 1 + %}' } }), 'JSONata expression "1 +"'],
    ['it uses $eval', machine({ A: { ...end, Output: '{% $eval("1") %}' } }), '$eval is not available'],
    ['it calls an unknown function', machine({ A: { ...end, Output: '{% $frobnicate(1) %}' } }), 'reads $frobnicate'],
    ['it reads a variable that nobody assigns', machine({ A: { ...end, Output: '{% $nobody %}' } }), 'reads $nobody'],
    ['it reads a variable of a branch from outside', machine({ P: { Type: 'Parallel', Branches: [branch({ A: { ...end, Assign: { inner: 1 } } })], Output: '{% $inner %}', End: true } }), 'reads $inner'],
    ['a branch assigns an outer variable', machine({ P: { Type: 'Parallel', Assign: { x: 1 }, Branches: [branch({ A: { ...end, Assign: { x: 2 } } })], End: true } }), 'belongs to an enclosing state machine'],
    ['a variable is called states', machine({ A: { ...end, Assign: { states: 1 } } }), 'cannot be the name'],
    ['a Wait has two ends', machine({ A: { Type: 'Wait', Seconds: 1, Timestamp: '2026-01-01T00:00:00Z', End: true } }), 'either Seconds or Timestamp'],
    ['a Choice has no rules', machine({ A: { Type: 'Choice', Choices: [] } }), 'Choices is empty'],
  ])('%s', (_name, definition, message) => {
    expect(check(definition)).toThrow(message);
    expect(check(definition)).toThrow('States.Runtime');
  });

  it('and accepts local names inside expressions', () => {
    expect(check(machine({ A: { ...end, Output: '{% ($x := 1; $f := function($y) { $x + $y }; $map([1, 2], $f)) %}' } }))).not.toThrow();
  });
});
