import type { Json, State, StateGraph, StateMachineDefinition, TaskState, Template } from './definition.ts';
import { runtimeError } from './errors.ts';
import { expressionsIn } from './jsonata.ts';

/** The fields of each state type that the interpreter implements. Anything else is refused, never ignored. */
const common = ['Type', 'Comment', 'QueryLanguage'];
const fields: Readonly<Record<State['Type'], { readonly required: readonly string[]; readonly optional: readonly string[]; readonly templates: readonly string[] }>> = {
  Task: { required: ['Resource'], optional: ['Arguments', 'TimeoutSeconds', 'HeartbeatSeconds', 'Output', 'Assign', 'Next', 'End', 'Retry', 'Catch'], templates: ['Arguments', 'TimeoutSeconds', 'HeartbeatSeconds', 'Output', 'Assign'] },
  Pass: { required: [], optional: ['Output', 'Assign', 'Next', 'End'], templates: ['Output', 'Assign'] },
  Choice: { required: ['Choices'], optional: ['Default', 'Output', 'Assign'], templates: ['Output', 'Assign'] },
  Wait: { required: [], optional: ['Seconds', 'Timestamp', 'Output', 'Assign', 'Next', 'End'], templates: ['Seconds', 'Timestamp', 'Output', 'Assign'] },
  Succeed: { required: [], optional: ['Output'], templates: ['Output'] },
  Fail: { required: [], optional: ['Error', 'Cause'], templates: ['Error', 'Cause'] },
  Parallel: { required: ['Branches'], optional: ['Arguments', 'Output', 'Assign', 'Next', 'End', 'Retry', 'Catch'], templates: ['Arguments', 'Output', 'Assign'] },
  Map: { required: ['ItemProcessor'], optional: ['Items', 'ItemSelector', 'MaxConcurrency', 'Output', 'Assign', 'Next', 'End', 'Retry', 'Catch'], templates: ['Items', 'ItemSelector', 'MaxConcurrency', 'Output', 'Assign'] },
};

/**
 * Refuses, with `States.Runtime`, every definition that the interpreter would not run exactly as Step Functions does:
 * unknown types and fields, JSONPath, missing targets, unreachable states, expressions that do not parse or read
 * variables nobody assigns, resources without a handler.
 */
export function validateDefinition(definition: StateMachineDefinition, resources: readonly string[]): void {
  checkFields(definition, 'the state machine', ['StartAt', 'States', 'QueryLanguage'], ['Comment', 'Version', 'TimeoutSeconds']);
  if ((definition.QueryLanguage as string) !== 'JSONata') throw runtimeError(`the state machine: QueryLanguage is ${JSON.stringify(definition.QueryLanguage)}; only "JSONata" is implemented`);
  if (definition.Version !== undefined && (definition.Version as string) !== '1.0') throw runtimeError(`the state machine: Version ${JSON.stringify(definition.Version)} does not exist`);
  if (definition.TimeoutSeconds !== undefined) positiveInteger(definition.TimeoutSeconds, 'the state machine: TimeoutSeconds');
  validateGraph(definition, 'the state machine', { names: new Set(), outer: new Set(), resources });
}

interface Scope {
  /** State names so far; they are unique in the whole machine. */
  readonly names: Set<string>;
  /** Variables of the enclosing graphs. */
  readonly outer: ReadonlySet<string>;
  readonly resources: readonly string[];
}

function validateGraph(graph: StateGraph, where: string, scope: Scope): void {
  const names = Object.keys(graph.States ?? {});
  if (names.length === 0) throw runtimeError(`${where}: States is empty`);
  if (!(graph.StartAt in graph.States)) throw runtimeError(`${where}: StartAt names ${JSON.stringify(graph.StartAt)}, which is not one of its states`);

  const assigned = new Set<string>();
  for (const state of Object.values(graph.States)) for (const name of assignedBy(state)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,79}$/.test(name) || name === 'states') throw runtimeError(`${where}: ${JSON.stringify(name)} cannot be the name of a variable`);
    if (scope.outer.has(name)) throw runtimeError(`${where}: assigns $${name}, which belongs to an enclosing state machine; inner states may only read it`);
    assigned.add(name);
  }
  const visible = new Set([...scope.outer, ...assigned]);
  for (const name of names) {
    if (scope.names.has(name)) throw runtimeError(`${where}: two states have the name ${JSON.stringify(name)}`);
    scope.names.add(name);
    validateState(graph.States[name]!, `state ${JSON.stringify(name)}`, { ...scope, outer: visible }, graph);
  }

  const reached = new Set<string>();
  const pending = [graph.StartAt];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (reached.has(name)) continue;
    reached.add(name);
    pending.push(...targetsOf(graph.States[name]!));
  }
  const lost = names.find((name) => !reached.has(name));
  if (lost !== undefined) throw runtimeError(`${where}: state ${JSON.stringify(lost)} can never be reached`);
}

function validateState(state: State, where: string, scope: Scope, graph: StateGraph): void {
  const type = fields[state.Type];
  if (type === undefined) throw runtimeError(`${where}: Type ${JSON.stringify(state.Type)} is not implemented`);
  checkFields(state, where, ['Type', ...type.required], [...common, ...type.optional]);
  if (state.QueryLanguage !== undefined && (state.QueryLanguage as string) !== 'JSONata') throw runtimeError(`${where}: QueryLanguage ${JSON.stringify(state.QueryLanguage)} is not implemented`);
  for (const field of type.templates) checkTemplate((state as unknown as Record<string, Template>)[field], `${where}: ${field}`, scope);
  for (const target of targetsOf(state)) if (!(target in graph.States)) throw runtimeError(`${where}: goes to ${JSON.stringify(target)}, which is not a state beside it`);

  if ('Next' in state || 'End' in state || type.optional.includes('Next')) {
    const { Next, End } = state as { Next?: string; End?: unknown };
    if ((Next === undefined) === (End === undefined) || (End !== undefined && End !== true)) throw runtimeError(`${where}: needs either Next or End: true`);
  }
  switch (state.Type) {
    case 'Task':
      if (!scope.resources.some((resource) => isResource(state.Resource, resource))) throw runtimeError(`${where}: nothing here runs the resource ${state.Resource}`);
      checkHeartbeat(state, where);
      break;
    case 'Choice':
      if (state.Choices.length === 0) throw runtimeError(`${where}: Choices is empty`);
      for (const [index, rule] of state.Choices.entries()) {
        checkFields(rule, `${where}: Choices[${index}]`, ['Condition', 'Next'], ['Comment', 'Output', 'Assign']);
        for (const field of ['Condition', 'Output', 'Assign'] as const) checkTemplate(rule[field], `${where}: Choices[${index}].${field}`, scope);
      }
      break;
    case 'Wait':
      if ((state.Seconds === undefined) === (state.Timestamp === undefined)) throw runtimeError(`${where}: needs either Seconds or Timestamp`);
      break;
    case 'Parallel':
      if (state.Branches.length === 0) throw runtimeError(`${where}: Branches is empty`);
      for (const [index, branch] of state.Branches.entries()) {
        checkFields(branch, `${where}: Branches[${index}]`, ['StartAt', 'States'], []);
        validateGraph(branch, `${where}: Branches[${index}]`, scope);
      }
      break;
    case 'Map': {
      checkFields(state.ItemProcessor, `${where}: ItemProcessor`, ['StartAt', 'States'], ['ProcessorConfig']);
      const config = state.ItemProcessor.ProcessorConfig;
      if (config !== undefined) {
        checkFields(config, `${where}: ProcessorConfig`, ['Mode'], []);
        if ((config.Mode as string) !== 'INLINE') throw runtimeError(`${where}: Mode ${JSON.stringify(config.Mode)} is not implemented; only "INLINE"`);
      }
      validateGraph(state.ItemProcessor, `${where}: ItemProcessor`, scope);
      break;
    }
    default:
  }
  if (state.Type === 'Task' || state.Type === 'Parallel' || state.Type === 'Map') {
    for (const [index, retrier] of (state.Retry ?? []).entries()) {
      const place = `${where}: Retry[${index}]`;
      checkFields(retrier, place, ['ErrorEquals'], ['Comment', 'IntervalSeconds', 'MaxAttempts', 'BackoffRate', 'MaxDelaySeconds', 'JitterStrategy']);
      checkErrorEquals(retrier.ErrorEquals, place, index === state.Retry!.length - 1);
      if (retrier.IntervalSeconds !== undefined) positiveInteger(retrier.IntervalSeconds, `${place}.IntervalSeconds`);
      if (retrier.MaxDelaySeconds !== undefined) positiveInteger(retrier.MaxDelaySeconds, `${place}.MaxDelaySeconds`);
      if (retrier.MaxAttempts !== undefined && !(Number.isInteger(retrier.MaxAttempts) && retrier.MaxAttempts >= 0)) throw runtimeError(`${place}.MaxAttempts is not a whole number`);
      if (retrier.BackoffRate !== undefined && !(retrier.BackoffRate >= 1)) throw runtimeError(`${place}.BackoffRate is below 1`);
      if (retrier.JitterStrategy !== undefined && !['NONE', 'FULL'].includes(retrier.JitterStrategy)) throw runtimeError(`${place}.JitterStrategy is neither NONE nor FULL`);
    }
    for (const [index, catcher] of (state.Catch ?? []).entries()) {
      const place = `${where}: Catch[${index}]`;
      checkFields(catcher, place, ['ErrorEquals', 'Next'], ['Comment', 'Output', 'Assign']);
      checkErrorEquals(catcher.ErrorEquals, place, index === state.Catch!.length - 1);
      for (const field of ['Output', 'Assign'] as const) checkTemplate(catcher[field], `${place}.${field}`, scope);
    }
  }
}

/** `arn:aws:states:::lambda:invoke` (any partition) is the resource `states:::lambda:invoke`. */
export function isResource(arn: string, resource: string): boolean {
  return arn.replace(/^arn:[^:]*:/, '') === resource;
}

/** Whether a resource (with or without `arn:<partition>:`) is an Activity: a queue of tasks that workers take. */
export function isActivity(resource: string): boolean {
  return /^(arn:[^:]*:)?states:[^:]*:[^:]*:activity:[^:]+$/.test(resource);
}

function checkHeartbeat({ Resource, TimeoutSeconds, HeartbeatSeconds }: TaskState, where: string): void {
  if (HeartbeatSeconds === undefined) return;
  if (!isActivity(Resource)) throw runtimeError(`${where}: HeartbeatSeconds is implemented for Activities only`);
  if (typeof HeartbeatSeconds !== 'number') return;
  positiveInteger(HeartbeatSeconds, `${where}: HeartbeatSeconds`);
  if (typeof TimeoutSeconds === 'number' && HeartbeatSeconds >= TimeoutSeconds) throw runtimeError(`${where}: HeartbeatSeconds must be less than TimeoutSeconds`);
}

function targetsOf(state: State): string[] {
  const targets: (string | undefined)[] = [(state as { Next?: string }).Next];
  if (state.Type === 'Choice') targets.push(...state.Choices.map((rule) => rule.Next), state.Default);
  if ('Catch' in state) targets.push(...(state.Catch ?? []).map((catcher) => catcher.Next));
  return targets.filter((target) => target !== undefined);
}

function assignedBy(state: State): string[] {
  const owners: { Assign?: Record<string, Json> }[] = [state as { Assign?: Record<string, Json> }];
  if (state.Type === 'Choice') owners.push(...state.Choices);
  if ('Catch' in state) owners.push(...(state.Catch ?? []));
  return owners.flatMap((owner) => Object.keys(owner.Assign ?? {}));
}

function checkTemplate(template: Template | undefined, where: string, scope: Scope): void {
  if (template === undefined) return;
  for (const { references } of expressionsIn(template)) {
    const unknown = references.find((name) => name !== 'states' && !scope.outer.has(name));
    if (unknown !== undefined) throw runtimeError(`${where}: reads $${unknown}, which is neither a function nor a variable that a state assigns`);
  }
}

function checkFields(value: object, where: string, required: readonly string[], optional: readonly string[]): void {
  const missing = required.find((field) => !(field in value));
  if (missing !== undefined) throw runtimeError(`${where}: ${missing} is missing`);
  const unknown = Object.keys(value).find((field) => !required.includes(field) && !optional.includes(field));
  if (unknown !== undefined) throw runtimeError(`${where}: the field ${unknown} is not implemented`);
}

function checkErrorEquals(names: readonly string[], where: string, last: boolean): void {
  if (names.length === 0) throw runtimeError(`${where}: ErrorEquals is empty`);
  if (names.includes('States.ALL') && (names.length > 1 || !last)) throw runtimeError(`${where}: States.ALL must stand alone, in the last entry`);
}

function positiveInteger(value: number, where: string): void {
  if (!Number.isInteger(value) || value < 1) throw runtimeError(`${where} is not a positive whole number`);
}
