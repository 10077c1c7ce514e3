import { Tags, type App } from 'aws-cdk-lib';
import { GenViewError } from '../src/errors.ts';
import { pascal } from './constructs/images.ts';
import { createLocalStack } from './localstack-stack.ts';
import { readOptions, type Options } from './options.ts';
import { StatefulStack } from './stateful-stack.ts';
import { StatelessStack } from './stateless-stack.ts';

/** What `-c target=…` can be. @default aws */
const targets: Readonly<Record<string, (app: App) => unknown>> = {
  aws: (app) => createStacks(app, readOptions((key) => app.node.tryGetContext(key) as unknown)),
  localstack: createLocalStack,
};

/** The stacks of the target that the context names. Throws `OptionsInvalid`. */
export function createTarget(app: App): void {
  const target: unknown = app.node.tryGetContext('target') ?? 'aws';
  const create = typeof target === 'string' && Object.hasOwn(targets, target) ? targets[target] : undefined;
  if (!create) throw new GenViewError('OptionsInvalid', `-c target=${String(target)}: there is no such target; known are ${Object.keys(targets).join(', ')}`);
  create(app);
}

/**
 * Both stacks of a deployment, for the account and region that the CDK command line is used with: without an explicit
 * environment, synthesis needs neither credentials nor a network.
 */
export function createStacks(app: App, options: Options): { stateful: StatefulStack; stateless: StatelessStack } {
  const prefix = options.name === 'genview' ? 'GenView' : pascal(options.name);
  const stateful = new StatefulStack(app, `${prefix}Data`, { options, description: 'GenView: what must outlive a deployment (bucket, logs).' });
  const stateless = new StatelessStack(app, `${prefix}Workflow`, { options, data: stateful, description: 'GenView: workflow, functions and compute; can be deleted and deployed again.' });
  Tags.of(app).add('application', options.name);
  return { stateful, stateless };
}
