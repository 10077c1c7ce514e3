import { Option, type Command } from 'commander';
import type { Clients } from '../cloud/clients.ts';
import type { Deployment } from '../cloud/deployment.ts';
import { storeOption } from './options.ts';

/** Where a command looks: a store, and the deployed workflow that writes to it. */
export interface CloudOptions {
  readonly store: string;
  readonly cloud?: boolean;
  readonly stack?: string;
  readonly stateMachine?: string;
}

/** `--store` and what names a deployed GenView instead. */
export function withTargetOptions(command: Command): Command {
  return command
    .addOption(storeOption())
    .option('--cloud', 'the store of the GenView that is deployed in this AWS account and region')
    .addOption(stackOption())
    .addOption(stateMachineOption());
}

export const stackOption = (): Option => new Option('--stack <name>', 'as --cloud, where GenView is deployed more than once: name of the CloudFormation stack');
export const stateMachineOption = (): Option => new Option('--state-machine <ARN or name>', 'as --cloud, for a state machine that cannot be found by its tag').env('GENVIEW_STATE_MACHINE');

/** A store, with the deployment that works on it where there is one. */
export interface Target {
  readonly store: string;
  readonly clients: Clients;
  readonly deployment?: Deployment;
}

/**
 * What `--store`, `--cloud` and their kin name. A bucket of which no deployment is known is looked at as it is: the commands
 * then see what lies in it and nothing of executions and jobs.
 * @param command whose options tell a default from a given value
 * @param run the command's argument: a path or URL `<store>/runs/<run>` names its own store
 */
export async function openTarget(options: CloudOptions, command: Command, run?: string): Promise<Target> {
  const [{ toUrl }, { openStore }, { openClients }, { findDeployment }, { GenViewError }, { splitRunUrl }] = await Promise.all([
    import('../recipe/location.ts'), import('../storage/index.ts'), import('../cloud/clients.ts'), import('../cloud/deployment.ts'), import('../errors.ts'), import('../stages/artefacts.ts'),
  ]);
  const clients = openClients();
  const given = command.getOptionValueSource('store') !== 'default';
  const cloud = options.cloud === true || options.stack !== undefined || command.getOptionValueSource('stateMachine') === 'cli';
  const ofRun = run !== undefined && /(^|\/)runs\/[^/]+\/?$/.test(run) ? splitRunUrl(toUrl(run)).store : undefined;
  const store = ofRun !== undefined ? openStore(ofRun).root : given ? openStore(toUrl(options.store)).root : undefined;
  if (cloud || (store?.startsWith('s3://') && options.stateMachine !== undefined)) {
    const deployment = await findDeployment(clients, { store: store?.startsWith('s3://') ? store : undefined, stack: options.stack, stateMachine: options.stateMachine });
    return { store: deployment.store, clients, deployment };
  }
  if (store?.startsWith('s3://')) {
    try {
      return { store, clients, deployment: await findDeployment(clients, { store }) };
    } catch (error) {
      // Not everyone who may read a bucket may look at Step Functions, and a bucket may have no deployment.
      if (!(error instanceof GenViewError)) throw error;
    }
  }
  return { store: store ?? openStore(toUrl(options.store)).root, clients };
}
