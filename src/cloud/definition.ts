import { heartbeatsInTime } from '../workflow/activities.ts';
import type { Clients } from './clients.ts';

/** A state machine's definition. */
export async function readDefinition(clients: Clients, stateMachine: string): Promise<{ readonly Comment?: unknown; readonly [field: string]: unknown }> {
  const { definition } = await clients.sfn((sdk, client) => client.send(new sdk.DescribeStateMachineCommand({ stateMachineArn: stateMachine })));
  return JSON.parse(definition ?? '{}') as Record<string, unknown>;
}

/** Queues of the tasks that submit jobs in a definition, in the order of the first state of each. */
export function queuesIn(definition: unknown): string[] {
  const queues = new Set<string>();
  for (const { Resource, JobQueue } of tasksIn(definition)) if (Resource.includes(':batch:submitJob') && typeof JobQueue === 'string') queues.add(JobQueue);
  return [...queues];
}

/** Functions that workers call in place of Lambda. */
export function functionsOfWorkers(definition: unknown): Set<string> {
  return new Set([...tasksIn(definition)].flatMap(({ Invoke }) => (Invoke as { FunctionName?: string } | undefined)?.FunctionName ?? []));
}

/** Seconds between two heartbeats of workers that do the tasks of a definition; undefined where there are none. */
export function heartbeatOfWorkers(definition: unknown): number | undefined {
  const seconds = tasksIn(definition).flatMap(({ HeartbeatSeconds }) => typeof HeartbeatSeconds === 'number' ? [HeartbeatSeconds] : []);
  return seconds.length === 0 ? undefined : Math.ceil(Math.max(...seconds) / heartbeatsInTime);
}

/** Arguments of every task, with its resource. */
function tasksIn(definition: unknown): { readonly Resource: string; readonly [argument: string]: unknown }[] {
  const tasks: { Resource: string }[] = [];
  JSON.stringify(definition, (_key, value: unknown) => {
    const { Resource, Arguments, Parameters } = (value ?? {}) as { Resource?: unknown; Arguments?: object; Parameters?: object };
    if (typeof Resource === 'string') tasks.push({ ...(Arguments ?? Parameters), Resource });
    return value;
  });
  return tasks;
}
