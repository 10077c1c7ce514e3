import { GenViewError } from '../errors.ts';
import { openStore } from '../storage/index.ts';
import { storeOfDefinition } from '../workflow/definition.ts';
import { type Clients, mapLimited } from './clients.ts';
import { readDefinition } from './definition.ts';

/** Tag of the state machine that says where its store is: what `cdk deploy` leaves for the commands to find. */
export const storeTag = 'genview:store';
/** CloudFormation puts it on everything it makes. */
const stackTag = 'aws:cloudformation:stack-name';

/** A deployed GenView. */
export interface Deployment {
  /** ARN of the state machine. */
  readonly stateMachine: string;
  /** Root URL of the store, ends with a slash. */
  readonly store: string;
  /** Name of the CloudFormation stack, where it is known. */
  readonly stack?: string;
}

export interface DeploymentOptions {
  /** ARN or name. @default $GENVIEW_STATE_MACHINE, else found by its tag */
  readonly stateMachine?: string | undefined;
  /** `s3://bucket/prefix` @default $GENVIEW_STORE, else what the state machine's tag says */
  readonly store?: string | undefined;
  /** Chooses among several deployments. */
  readonly stack?: string | undefined;
}

/**
 * The deployment that a command is about: what options or environment say, the rest from the tags of the account's state
 * machines in this region, or from their definitions where the server keeps no tags. Throws `DeploymentNotFound`, which says what to give.
 */
export async function findDeployment(clients: Clients, options: DeploymentOptions = {}): Promise<Deployment> {
  const given = options.stateMachine ?? (process.env['GENVIEW_STATE_MACHINE'] || undefined);
  const store = options.store === undefined ? undefined : openStore(options.store).root;
  if (given?.startsWith('arn:') && store !== undefined) return { stateMachine: given, store };

  const candidates = (await listDeployments(clients, given)).filter((candidate) =>
    (options.stack === undefined || candidate.stack === options.stack) && (given !== undefined || store === undefined || candidate.store === store));
  if (candidates.length === 1) {
    const [{ stateMachine, stack, store: tagged }] = candidates as [Candidate];
    const root = store ?? tagged;
    if (root === undefined) throw new GenViewError('DeploymentNotFound', `the state machine ${stateMachine} has no tag ${storeTag} and says nothing of its store; give it: --store s3://bucket/ or GENVIEW_STORE`);
    return { stateMachine, store: root, ...(stack !== undefined && { stack }) };
  }
  const wanted = [given && `state machine ${given}`, options.stack && `stack ${options.stack}`, given === undefined && store && `store ${store}`].filter(Boolean).join(' and ');
  if (candidates.length === 0) {
    throw new GenViewError('DeploymentNotFound', `no deployed GenView${wanted && ` with ${wanted}`} in this account and region (${process.env['AWS_REGION'] ?? process.env['AWS_DEFAULT_REGION'] ?? "the profile's"}); `
      + 'deploy it (docs/aws.md), or give the outputs of its stack: --state-machine <arn> --store s3://bucket/ (or GENVIEW_STATE_MACHINE and GENVIEW_STORE)');
  }
  throw new GenViewError('DeploymentNotFound', `GenView is deployed ${candidates.length} times here; choose one by --${candidates.every(({ stack }) => stack !== undefined) ? 'stack' : 'state-machine'}: ${candidates.map(({ stack, stateMachine }) => stack ?? stateMachine).toSorted().join(', ')}`);
}

type Candidate = Pick<Deployment, 'stateMachine' | 'stack'> & { readonly store: string | undefined };

/** Where there are more state machines than these, only the tags of those that have our name in theirs are asked for: AWS answers one such question a second. */
const mostTagsAsked = 50;

/** State machines with our tag, or with our definition where none has the tag; with `given`, the one of that name or ARN, whatever it is. */
async function listDeployments(clients: Clients, given: string | undefined): Promise<Candidate[]> {
  const machines = given?.startsWith('arn:') ? [given] : await clients.sfn(async (sdk, client) => {
    const arns: string[] = [];
    for await (const { stateMachines = [] } of sdk.paginateListStateMachines({ client }, { maxResults: 1000 })) {
      for (const { stateMachineArn, name } of stateMachines) if (stateMachineArn !== undefined && (given === undefined || name === given)) arns.push(stateMachineArn);
    }
    return arns;
  });
  const likely = machines.length > mostTagsAsked ? machines.filter((arn) => /genview/i.test(arn.split(':').at(-1)!)) : machines;
  const candidates = await mapLimited(likely, 8, async (stateMachine) => {
    const { tags = [] } = await clients.sfn((sdk, client) => client.send(new sdk.ListTagsForResourceCommand({ resourceArn: stateMachine })));
    const tag = (name: string): string | undefined => tags.find(({ key }) => key === name)?.value;
    const tagged = tag(storeTag), stack = tag(stackTag);
    return { stateMachine, store: tagged === undefined ? undefined : openStore(tagged).root, ...(stack !== undefined && { stack }) };
  });
  const told = candidates.some(({ store }) => store !== undefined) ? candidates
    : await mapLimited(candidates, 8, async (candidate) => ({ ...candidate, store: await storeInDefinition(clients, candidate.stateMachine) }));
  return given === undefined ? told.filter(({ store }) => store !== undefined) : told;
}

/** undefined also where the definition may not be read: it is another's. */
async function storeInDefinition(clients: Clients, stateMachine: string): Promise<string | undefined> {
  try {
    const store = storeOfDefinition(await readDefinition(clients, stateMachine));
    return store && openStore(store).root;
  } catch (error) {
    if (error instanceof GenViewError && error.code === 'AccessDenied') return undefined;
    throw error;
  }
}
