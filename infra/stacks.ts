import type { App } from 'aws-cdk-lib';
import { GenViewError } from '../src/errors.ts';
import { createLocalStack } from './localstack-stack.ts';
import { StatefulStack } from './stateful-stack.ts';
import { StatelessStack } from './stateless-stack.ts';

/** What `-c target=…` can be. @default aws */
const targets: Readonly<Record<string, (app: App) => unknown>> = { aws: createStacks, localstack: createLocalStack };

/** The stacks of the target that the context names. Throws `OptionsInvalid`. */
export function createTarget(app: App): void {
  const target = String(app.node.tryGetContext('target') ?? 'aws');
  const create = Object.hasOwn(targets, target) ? targets[target] : undefined;
  if (!create) throw new GenViewError('OptionsInvalid', `-c target=${target}: there is no such target; known are ${Object.keys(targets).join(', ')}`);
  create(app);
}

/**
 * Both stacks of the application, for the account and region that the CDK command line is used with: without an
 * explicit environment, synthesis needs neither credentials nor a network.
 */
export function createStacks(app: App): { stateful: StatefulStack; stateless: StatelessStack } {
  const stateful = new StatefulStack(app, 'GenViewData', { description: 'GenView: what must outlive a deployment (bucket, logs).' });
  const stateless = new StatelessStack(app, 'GenViewWorkflow', { description: 'GenView: workflow, functions and compute; can be deleted and deployed again.', bucket: stateful.bucket, logGroup: stateful.logGroup });
  return { stateful, stateless };
}
