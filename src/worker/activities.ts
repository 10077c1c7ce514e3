import type { SFNClient } from '@aws-sdk/client-sfn';
import { GenViewError } from '../errors.ts';
import { jobDefinitionNames, lambdaNames, type JobDefinitionName, type LambdaName } from '../workflow/stages.ts';
import { explainCall, type Sdk } from './client.ts';

/** Kinds of work, named as the jobs and functions of the stage table. */
export type ActivityName = JobDefinitionName | LambdaName;

/** An Activity of a deployment: a queue of tasks. */
export interface Activity {
  readonly name: ActivityName;
  readonly arn: string;
}

export const activityNames: readonly ActivityName[] = [...jobDefinitionNames, ...lambdaNames];

/** Names that stand for several. */
const groups: Readonly<Record<string, readonly ActivityName[]>> = { jobs: jobDefinitionNames, functions: lambdaNames };

/** The kinds that a comma-separated list names. Throws `ArgumentsInvalid`. */
export function parseActivities(list: string): ActivityName[] {
  const names = list.split(',').map((name) => name.trim()).filter((name) => name !== '').flatMap((name) => {
    const found = groups[name] ?? activityNames.filter((known) => known === name);
    if (found.length === 0) throw new GenViewError('ArgumentsInvalid', `--activities: there is no activity ${name}; there are ${activityNames.join(', ')}, and the groups ${Object.keys(groups).join(' and ')}`);
    return found;
  });
  if (names.length === 0) throw new GenViewError('ArgumentsInvalid', '--activities: no activity is named');
  return [...new Set(names)];
}

/**
 * The Activities of a deployment that are wanted, found by their names, `<deployment>-<kind>`. Throws `ActivitiesNotFound`
 * when the deployment has none, or lacks one that is asked for by name.
 */
export async function findActivities({ sdk, client }: { readonly sdk: Sdk; readonly client: SFNClient }, deployment: string, wanted?: readonly ActivityName[]): Promise<Activity[]> {
  const arns = new Map<string, string>();
  try {
    for await (const { activities = [] } of sdk.paginateListActivities({ client }, { maxResults: 1000 })) {
      for (const { name, activityArn } of activities) if (name !== undefined && activityArn !== undefined) arns.set(name, activityArn);
    }
  } catch (error) { throw explainCall(error); }
  const found = activityNames.flatMap((name): Activity[] => {
    const arn = arns.get(`${deployment}-${name}`);
    return arn === undefined ? [] : [{ name, arn }];
  });
  const help = 'deploy it with `cdk deploy -c target=localstack` (docs/localstack.md), and mind AWS_REGION and AWS_ENDPOINT_URL';
  if (found.length === 0) throw new GenViewError('ActivitiesNotFound', `there are no activities ${deployment}-* here; ${help}`);
  if (wanted === undefined) return found;
  const chosen = found.filter(({ name }) => wanted.includes(name));
  if (chosen.length === 0) throw new GenViewError('ActivitiesNotFound', `the deployment ${deployment} has none of the activities ${wanted.join(', ')}; it has ${found.map(({ name }) => name).join(', ')}`);
  return chosen;
}
